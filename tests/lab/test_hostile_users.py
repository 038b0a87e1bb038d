"""What a user may do to the job's own folder and environment: it reaches nobody else, and the pool gets all back."""

import pytest

from tests.lab.cluster import Cluster, until

POOL = ["-pbitfusion", "--gres=gpu:0.25"]
IMAGE = "--container-image=/data/images/digits.sif"

# Each is done in the work folder, in a job that holds an allocation.
DEEDS = {
    "links": "ln -s /etc/passwd bitfusion1; ln -s /home/alice/.bitfusion bitfusion2; ln -s / root; ln -s /etc d",
    "pipes": "mkfifo bitfusion000 bitfusion9 pipe",
    "a name more": "ln bitfusion* bitfusionzz",
    "a huge file": "truncate -s 100G bitfusion000",
    "folders locked": "mkdir -p bitfusion00 a/b/c; chmod 0 a .",
    "many files": 'python3 -c \'for i in range(2000): open(f"bitfusion0{i}", "w").close()\'',
    "all gone": "cp bitfusion* ~/kept; rm -rf * .[!.]*",
    "moved": "mkdir x; mv bitfusion* x/",
}


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)
def test_the_work_folder_is_cleared_whatever_its_owner_did_there(cluster: Cluster, deed: str) -> None:
    lines = ["cd /var/lib/gpushare-node/$SLURMD_NODENAME/jobs/$SLURM_JOB_ID/work || exit 1", deed]
    job = cluster.sbatch("alice", *POOL, "-wc1", "-o/dev/null", script=cluster.script("", *lines))
    assert cluster.wait(job) in ("COMPLETED", "FAILED")
    assert cluster.out("sh", "-c", "ls -A /run/gpushare/c1/jobs", node="c1") == ""
    if deed == DEEDS["all gone"]:
        # Nobody can name it but its user; else the pool takes it back after its auto_release_timeout.
        cluster.run("bitfusion", "release_gpus", "-f", "/home/alice/kept", user="alice")
    until("its release", lambda: not cluster.allocations(), 5)
    # A file that only looks like an allocation is tried again for 15 minutes.
    cluster.run("sh", "-c", "rm -rf /var/lib/gpushare-node/c1/jobs/*.left.*")
    assert cluster.out("sinfo", "-hR") == ""
    assert (
        "root:" in cluster.read("/etc/passwd") and cluster.run("test", "-d", "/home/alice/.bitfusion").returncode == 0
    )


PRELOAD = r"""
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
__attribute__((constructor)) static void tell(void)
{
	char line[64];
	int log = open("/tmp/hostile.log", O_WRONLY | O_APPEND);
	if (log >= 0 && write(log, line, (size_t)snprintf(line, sizeof line, "%d %d\n", getuid(), geteuid())) < 0)
		_exit(1);
}
"""


@pytest.mark.parametrize("options", [POOL, [*POOL, IMAGE], ["--gres=gpu:0.25", IMAGE]], ids=["pool", "sif", "shard"])
def test_a_users_environment_reaches_no_code_of_roots(cluster: Cluster, options: list[str]) -> None:
    cluster.run("sh", "-c", "rm -rf /tmp/hostile*; mkdir /tmp/hostile; : >/tmp/hostile.log; chmod 666 /tmp/hostile.log")
    cluster.run("gcc", "-shared", "-fPIC", "-xc", "-", "-o/tmp/hostile/tell.so", stdin=PRELOAD)
    cluster.run("sh", "-c", "echo 'echo $(id -u) $(id -u) >>/tmp/hostile.log' >/tmp/hostile/rc")
    for name in ("sitecustomize", "json", "slurm_gpushare"):
        text = 'import os; open("/tmp/hostile.log", "a").write("python\\n")'
        cluster.run("sh", "-c", f"cat >/tmp/hostile/{name}.py", stdin=text)
    hostile = ["LD_PRELOAD=/tmp/hostile/tell.so", "BASH_ENV=/tmp/hostile/rc", "ENV=/tmp/hostile/rc"]
    hostile += ["PYTHONPATH=/tmp/hostile", "PYTHONHOME=/tmp/hostile", "PYTHONINSPECT=1", "TMPDIR=/tmp/two\nlines"]
    done = cluster.run("env", *hostile, "srun", *options, "sh", "-c", "echo through", user="alice")
    assert done.stdout == "through\n"
    until("its end", lambda: not cluster.out("squeue", "-h"))
    seen = set(cluster.read("/tmp/hostile.log").splitlines())
    assert seen == {"1001 1001"}  # the task itself, and nothing of root's


def test_options_forged_in_the_environment_are_checked_like_any_other(cluster: Cluster) -> None:
    name = "SPANK_OPTION_gpushare_container_"
    for forged, said in (
        (f"_SLURM_{name}image=/etc/passwd", "/etc/passwd"),
        (f"SLURM_SPANK__SLURM_{name}image=/etc/passwd", "/etc/passwd"),
        (f"_SLURM_{name}image=/data/images/digits.sif\nX=1", "control character"),
        (f"_SLURM_{name}scope=evil", "neither job nor tasks"),
    ):
        done = cluster.run("env", forged, "srun", "sh", "-c", "echo ran", user="alice", check=False)
        assert done.returncode != 0 and "ran" not in done.stdout and said in done.stderr, forged
    assert "drain" not in cluster.out("sinfo", "-h")
