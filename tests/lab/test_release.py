"""However a pool job ends, nothing of it is left: no process, no allocation, in both ways the pool may treat a lost client."""

import re

import pytest

from tests.lab.cluster import Cluster, until

POOL = ["-pbitfusion", "--gres=gpu:0.25", "-o/home/alice/release-%j.out"]
IMAGE = "--container-image=/data/images/digits.sif"
HOLD = "exec gpu-workload --gpu 0 --sm 10 --memory 1G"


def _running(cluster: Cluster, *options: str) -> int:
    """Start a job that holds a quarter of the pool's GPU until it is ended, and wait until it does."""
    before = len(cluster.allocations())
    job = cluster.sbatch("alice", *POOL, *options, script=cluster.script("", HOLD))
    cluster.wait_running(job)
    until("the allocation", lambda: len(cluster.allocations()) == before + 1)
    until("the workload", lambda: any("gpu-workload" in word for word in _programs(cluster, job)))
    return job


def _programs(cluster: Cluster, job: int) -> list[str]:
    pids = cluster.processes(job)
    return [cluster.out("ps", "-o", "args=", "-p", str(pid), check=False) for pid in pids]


def _kill(cluster: Cluster, job: int, program: str) -> None:
    """Kill with SIGKILL the processes of the job whose argv begins with ``program``."""
    listed = cluster.out("ps", "-eo", "pid=,args=").splitlines()
    own = set(cluster.processes(job))
    found = [
        int(pid)
        for pid, args in (line.split(maxsplit=1) for line in listed)
        if int(pid) in own and re.match(program, args)
    ]
    assert found, (program, listed)
    cluster.run("kill", "-KILL", *map(str, found))


def _nothing_left(cluster: Cluster, job: int) -> None:
    cluster.wait(job, 40)
    until("free within 5 s of the end", lambda: not cluster.allocations(), 5)
    assert cluster.processes(job) == []
    for node in ("c1", "c2"):
        assert cluster.run("ls", f"/run/gpushare/{node}/jobs/{job}", node=node, check=False).returncode != 0
    assert "Used=0" in cluster.out("scontrol", "-o", "show", "lic")


@pytest.fixture(params=["free", "hold"])
def pool(request: pytest.FixtureRequest) -> Cluster:
    """A lab whose pool frees, or holds, the allocation of a client that vanished."""
    return request.getfixturevalue("cluster" if request.param == "free" else "holding_cluster")


@pytest.mark.parametrize("options", [[], [IMAGE]], ids=["host", "container"])
def test_after_scancel(pool: Cluster, options: list[str]) -> None:
    job = _running(pool, *options)
    pool.run("scancel", str(job), user="alice")
    _nothing_left(pool, job)
    assert pool.state(job) == "CANCELLED"


@pytest.mark.parametrize(
    ("options", "program"),
    [
        ([], r"(\S*/)?bitfusion run"),
        ([IMAGE], r"(\S*/)?bitfusion run"),
        ([IMAGE], r"(Apptainer|\S*apptainer|\S*starter)"),
    ],
    ids=["client on the host", "client in the container", "apptainer"],
)
def test_after_kill_9(pool: Cluster, options: list[str], program: str) -> None:
    job = _running(pool, *options)
    _kill(pool, job, program)
    # A client that dies leaves its program running where nothing binds them; the user ends the job then.
    pool.run("scancel", str(job), user="alice", check=False)
    _nothing_left(pool, job)


def test_after_a_direct_srun(pool: Cluster) -> None:
    done = pool.run("srun", *POOL[:2], IMAGE, "gpu-workload", "--gpu", "0", "--sm", "5", "--memory", "1G", "--seconds", "1", user="alice")
    assert done.returncode == 0
    until("free within 5 s of the end", lambda: not pool.allocations(), 5)


def test_licences_are_held_until_the_epilog_has_ended(cluster: Cluster) -> None:
    job = _running(cluster)
    cluster.run("scancel", str(job), user="alice")

    def free() -> bool:
        return "Used=0" in cluster.out("scontrol", "-o", "show", "lic")

    until("the licences' return", free, 20)
    assert cluster.allocations() == []
