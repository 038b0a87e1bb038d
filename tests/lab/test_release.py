"""However a pool job ends, nothing of it is left, in both ways the pool may treat a lost client."""

import pytest

from tests.lab.cluster import Cluster, until

POOL = ["-pbitfusion", "--gres=gpu:0.25", "-o/home/alice/release-%j.out"]
IMAGE = "--container-image=/data/images/digits.sif"
HOLD = "exec gpu-workload --gpu 0 --sm 10 --memory 1G"


Left = dict[int, tuple[str, str]]


def _running(cluster: Cluster, *options: str) -> tuple[int, Left]:
    """Start a job that holds a quarter of the pool's GPU until it is ended; return it with its processes."""
    before = len(cluster.allocations())
    job = cluster.sbatch("alice", *POOL, *options, script=cluster.script("", HOLD))
    until("the allocation", lambda: len(cluster.allocations()) == before + 1)
    until("the workload", lambda: any(argv.startswith("gpu-workload") for _, argv in cluster.processes(job).values()))
    return job, cluster.processes(job)


def _nothing_left(cluster: Cluster, job: int, had: Left) -> None:
    cluster.wait(job, 40)
    until("free within 5 s of the end", lambda: not cluster.allocations(), 5)
    assert cluster.processes(job) == {}
    alive = set(cluster.out("ps", "-eo", "pid=,lstart=,args=").splitlines())
    assert not [pid for pid, (start, argv) in had.items() if any(_same(line, pid, start, argv) for line in alive)]
    for node in ("c1", "c2"):
        for base in ("/run/gpushare", "/var/lib/gpushare-node"):
            assert cluster.run("ls", f"{base}/{node}/jobs/{job}", node=node, check=False).returncode != 0
    assert "Used=0" in cluster.out("scontrol", "-o", "show", "lic", "bitfusion")


def _same(line: str, pid: int, start: str, argv: str) -> bool:
    words = line.split(maxsplit=6)
    return words[0] == str(pid) and " ".join(words[1:6]) == start and words[6:] == [argv]


@pytest.fixture(params=["cluster", "holding_cluster"], ids=["free", "hold"])
def pool(request: pytest.FixtureRequest) -> Cluster:
    """A lab whose pool frees, or holds, the allocation of a client that vanished."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("options", [[], [IMAGE]], ids=["host", "container"])
def test_after_scancel(pool: Cluster, options: list[str]) -> None:
    job, had = _running(pool, *options)
    pool.run("scancel", str(job), user="alice")
    _nothing_left(pool, job, had)
    assert pool.state(job) == "CANCELLED"


@pytest.mark.parametrize(
    ("options", "program"),
    [
        ([], "/usr/bin/bitfusion client"),
        ([IMAGE], "/usr/bin/bitfusion client"),
        ([IMAGE], "Apptainer runtime parent"),
        ([IMAGE], "appinit"),
    ],
    ids=["client on the host", "client in the container", "apptainer", "init of the container"],
)
def test_after_kill_9(pool: Cluster, options: list[str], program: str) -> None:
    job, had = _running(pool, *options)
    doomed = [pid for pid, (_, argv) in had.items() if argv.startswith(program)]
    assert len(doomed) == 1, had
    pool.run("kill", "-KILL", str(doomed[0]))
    # The job ends by itself: what slurmstepd started is gone.
    _nothing_left(pool, job, had)


def test_after_a_direct_srun(pool: Cluster) -> None:
    done = pool.run(
        "srun",
        *POOL[:2],
        IMAGE,
        "gpu-workload",
        "--gpu",
        "0",
        "--sm",
        "5",
        "--memory",
        "1G",
        "--seconds",
        "1",
        user="alice",
    )
    assert done.returncode == 0
    until("free within 5 s of the end", lambda: not pool.allocations(), 5)


def test_licences_are_held_until_the_epilog_has_ended(cluster: Cluster) -> None:
    job, _ = _running(cluster)
    cluster.run("scancel", str(job), user="alice")

    def free() -> bool:
        return "Used=0" in cluster.out("scontrol", "-o", "show", "lic", "bitfusion")

    until("the licences' return", free, 20)
    assert cluster.allocations() == []
