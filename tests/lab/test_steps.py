"""Batch scripts, steps and signals: where each runs, and that a job's allocation is made once."""

import pytest

from tests.lab.cluster import Cluster, until

POOL = ["-pbitfusion", "--gres=gpu:0.25"]
IMAGE = "--container-image=/data/images/digits.sif"
WHERE = "test -d /opt/digits && echo container || echo host"


def _batch(cluster: Cluster, *options: str, lines: list[str], state: str = "COMPLETED") -> str:
    job = cluster.sbatch("alice", *options, "-o/home/alice/step-%j.out", script=cluster.script("", *lines))
    ended = cluster.wait(job)
    text = cluster.read(f"/home/alice/step-{job}.out")
    assert ended == state, text
    return text


def test_the_batch_script_runs_in_the_container(cluster: Cluster) -> None:
    assert "container" in _batch(cluster, *POOL, IMAGE, lines=[WHERE]).splitlines()


def test_scope_tasks_leaves_the_script_outside_and_its_steps_use_its_allocation(cluster: Cluster) -> None:
    granted = cluster.granted()
    text = _batch(cluster, *POOL, IMAGE, "--container-scope=tasks", lines=[WHERE, f"srun -n1 sh -c '{WHERE}'"])
    assert [line for line in text.splitlines() if line in ("container", "host")] == ["host", "container"]
    assert cluster.granted() == granted + 1


def test_without_a_container_the_same_on_the_host(cluster: Cluster) -> None:
    granted = cluster.granted()
    text = _batch(cluster, *POOL, lines=[WHERE, f"srun -n1 sh -c '{WHERE}'", "bitfusion smi >/dev/null && echo sees"])
    assert [line for line in text.splitlines() if line in ("container", "host")] == ["host", "host"]
    assert cluster.granted() == granted + 1


def test_tasks_of_one_srun_share_one_allocation(cluster: Cluster) -> None:
    granted = cluster.granted()
    done = cluster.run("srun", "-n3", *POOL, "sh", "-c", WHERE, user="alice")
    assert done.stdout.split() == ["host"] * 3
    assert cluster.granted() == granted + 1
    until("its release", lambda: not cluster.allocations(), 10)


def test_two_nodes_have_an_allocation_each(cluster: Cluster) -> None:
    granted = cluster.granted()
    done = cluster.run("srun", "-N2", *POOL, "sh", "-c", "echo on $SLURMD_NODENAME", user="alice")
    assert sorted(done.stdout.splitlines()) == ["on c1", "on c2"]
    assert cluster.granted() == granted + 2
    until("their release", lambda: not cluster.allocations(), 10)


@pytest.mark.parametrize("options", [[], [IMAGE]], ids=["host", "container"])
def test_the_programs_exit_status_arrives(cluster: Cluster, options: list[str]) -> None:
    assert cluster.run("srun", *POOL, *options, "sh", "-c", "exit 7", user="alice", check=False).returncode == 7
    assert (
        cluster.run("srun", *options, "--gres=gpu:0.25", "sh", "-c", "exit 3", user="alice", check=False).returncode
        == 3
    )


def test_arguments_and_standard_input_arrive(cluster: Cluster) -> None:
    words = ["a b", "", "'", '"', "$HOME", "`id`", "x,y:z", "--", "ü"]
    done = cluster.run(
        "srun",
        *POOL,
        IMAGE,
        "python3",
        "-c",
        "import sys; print(sys.argv[1:], sys.stdin.read())",
        *words,
        user="alice",
        stdin="in",
    )
    assert done.stdout.strip().splitlines()[-1] == f"{words} in"


@pytest.mark.parametrize("options", [["--gres=gpu:0.25"], POOL], ids=["shard", "bitfusion"])
def test_a_trap_runs_at_scancel_in_a_sif(cluster: Cluster, options: list[str]) -> None:
    lines = ["trap 'date >/dev/null && echo trapped; exit 9' TERM", "echo ready", "while :; do sleep 0.2; done"]
    job = cluster.sbatch("alice", *options, IMAGE, "-o/home/alice/trap-%j.out", script=cluster.script("", *lines))
    until("the script", lambda: "ready" in cluster.read(f"/home/alice/trap-{job}.out"))
    cluster.run("scancel", str(job), user="alice")
    cluster.wait(job)
    text = cluster.read(f"/home/alice/trap-{job}.out")
    assert "trapped" in text and "Bus error" not in text


def test_no_orphan_outlives_the_container(cluster: Cluster) -> None:
    job = cluster.sbatch(
        "alice", *POOL, IMAGE, "-o/dev/null", script=cluster.script("", "setsid sleep 300 &", "sleep 300 &", "exit 0")
    )
    cluster.wait(job)
    until("the end of its processes", lambda: not cluster.processes(job), 10)


def test_a_step_does_not_inherit_the_outer_containers_binds(cluster: Cluster) -> None:
    done = cluster.run(
        "env",
        "APPTAINER_BIND=/nonexistent/x",
        "SINGULARITY_BINDPATH=/nonexistent/y",
        "APPTAINER_CONTAINER=/x",
        "srun",
        *POOL,
        IMAGE,
        "sh",
        "-c",
        WHERE,
        user="alice",
    )
    assert done.stdout.split()[-1] == "container"


def test_export_none_does_not_lose_the_container(cluster: Cluster) -> None:
    assert "container" in _batch(cluster, "--export=NONE", *POOL, IMAGE, lines=[WHERE]).splitlines()


def test_arrays_have_a_grant_each(cluster: Cluster) -> None:
    job = cluster.sbatch(
        "alice",
        "--array=0-2",
        *POOL,
        "-o/home/alice/array-%a.out",
        script=cluster.script("", "echo $SLURM_ARRAY_TASK_ID"),
    )
    until("the array's end", lambda: not cluster.out("squeue", "-hj", str(job), check=False), 60)
    rows = [row for row in cluster.report() if row["array_job_id"] == job]
    assert sorted(row["array_task_id"] for row in rows) == [0, 1, 2]
    assert all(row["fraction"] == 0.25 and row["quality"] for row in rows)


def test_a_requeued_job_is_two_runs(cluster: Cluster) -> None:
    job = cluster.sbatch(
        "alice",
        *POOL,
        "--requeue",
        "-o/dev/null",
        script=cluster.script("", "test ${SLURM_RESTART_COUNT:-0} = 1 || sleep 300"),
    )
    cluster.wait_running(job)
    cluster.run("scontrol", "requeue", str(job))
    until("the second run's end", lambda: cluster.state(job) == "COMPLETED", 180)
    rows = [row for row in cluster.report() if row["job_id"] == job]
    assert len(rows) == 2 and {row["restart"] for row in rows} == {0, 1}
    until("release", lambda: not cluster.allocations(), 10)
