"""What cannot be met, or must not be believed, is refused at submission and leaves no job."""

import pytest

from tests.lab.cluster import Cluster

POOL = ["-pbitfusion"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--gres=gpu:0"], "gpu:0"),
        (["--gres=gpu:0.0"], "gpu:0.0"),
        (["--gres=gpu:-0.25"], "gpu:-0.25"),
        (["--gres=gpu:1.5"], "gpu:1.5"),
        (["--gres=gpu:nan"], "gpu:nan"),
        (["--gres=gpu:half"], "gpu:half"),
        (["--gres=gpu:0x10"], "gpu:0x10"),
        (["--gres=gpu:0.0001"], "gpu:0.0001"),
        ([*POOL, "--gres=gpu:2"], "gpu:2"),
        ([*POOL, "--gres=gpu:0.75", "-N2"], "gpu:0.75"),
        ([*POOL, "--gres=gpu:0.25", "-N1-2"], "-N"),
        (["--gpus=0.25", "-N2"], "--gpus=0.25 on 2 nodes"),
        (["--gpus-per-task=0.75", "-n2"], "-N 2"),
        (["--gres=gpu:0.25:2"], "--gres=gpu:0.5"),
        (["--gres=gpu:0.25", "--cpus-per-gpu=2"], "--cpus-per-task=2"),
        (["--gres=gpu:8G"], "memory of these GPUs is not known"),
        ([*POOL, "--licenses=bitfusion:25"], "bitfusion"),
        ([*POOL, "--gres=bitfusion:25"], "bitfusion"),
        (["--gres=shard:25"], "shard"),
        (["--gres=gpu:0.25", "--container-image=/etc/passwd"], "/etc/passwd"),
        (["--gres=gpu:0.25", "--container-image=/data/images/../../etc/passwd"], ".."),
        (["--gres=gpu:0.25", "--container-image=digits.sif"], "digits.sif"),
        (["--gres=gpu:0.25", "--dataset=nothing"], "nothing"),
        (["--gres=gpu:0.25", "--container-image=/data/images/digits.sif", "--container-mounts=/etc:/mnt"], "/etc"),
        (['--extra={"v":1,"backend":"shard"}'], "extra"),
    ],
)
def test_refused_in_one_line_and_no_job(cluster: Cluster, options: list[str], said: str) -> None:
    before = cluster.out("squeue", "-ho%A", "-tall")
    done = cluster.run("sbatch", *options, "--wrap=true", user="alice", check=False)
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if "gpushare:" in line]
    assert len(told) == 1 and said in told[0], done.stderr
    assert "Traceback" not in done.stderr and ".lua" not in done.stderr
    assert cluster.out("squeue", "-ho%A", "-tall") == before


def test_a_grant_cannot_be_written_afterwards(cluster: Cluster) -> None:
    job = cluster.sbatch("alice", "--hold", "--gres=gpu:0.25", script=cluster.script("", "true"))
    extra = cluster.job(job)["Extra"]
    for change in ('extra={"v":1,"backend":"shard","gpus":1,"fraction":1}', "extra=mine", "gres=shard:100"):
        done = cluster.run("scontrol", "update", f"jobid={job}", change, user="alice", check=False)
        assert done.returncode != 0 and "gpushare:" in done.stderr, change
    assert cluster.job(job)["Extra"] == extra
    plain = cluster.sbatch("alice", "--hold", script=cluster.script("", "true"))
    done = cluster.run("scontrol", "update", f"jobid={plain}", 'extra={"v":1}', user="alice", check=False)
    assert done.returncode != 0 and "gpushare:" in done.stderr
    cluster.run("scontrol", "update", f"jobid={plain}", "extra=my own words", user="alice")
    cluster.run("scancel", str(job), str(plain))


def test_the_users_own_extra_is_kept_in_the_grant(cluster: Cluster) -> None:
    job = cluster.sbatch("alice", "--hold", "--extra=color=blue", "--gres=gpu:0.25", script=cluster.script("", "true"))
    assert '"extra":"color=blue"' in cluster.out("scontrol", "-o", "show", "job", str(job))
    cluster.run("scancel", str(job))


def test_a_broken_policy_refuses_instead_of_letting_pass(cluster: Cluster) -> None:
    table = "/etc/slurm/gpushare_policy.lua"
    cluster.run("cp", "-a", table, table + ".kept")
    try:
        cluster.run("sh", "-c", f"echo 'this is not lua' > {table}; touch -d '+5 seconds' /etc/slurm/job_submit.lua")
        done = cluster.run("sbatch", "--gres=gpu:0.25", "--wrap=true", user="alice", check=False)
        assert done.returncode != 0 and "gpushare:" in done.stderr, done
        cpu = cluster.run("sbatch", "--parsable", "-o/dev/null", "--wrap=true", user="alice")
        assert cluster.wait(int(cpu.stdout)) == "COMPLETED"
    finally:
        cluster.run("sh", "-c", f"mv {table}.kept {table}; touch -d '+10 seconds' /etc/slurm/job_submit.lua")
    job = cluster.sbatch("alice", "--hold", "--gres=gpu:0.25", script=cluster.script("", "true"))
    cluster.run("scancel", str(job))
