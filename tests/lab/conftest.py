"""The labs that this tier runs in: one whose pool frees the allocation of a lost client, one whose pool holds it."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.lab import local_jobs
from tests.lab.cluster import GPUSHARE, Cluster

# Of several processes that test side by side each has labs of its own.
PROCESS = os.environ.get("PYTEST_XDIST_WORKER", "")
LOCAL = ("--mps", "--mig", "--vgpu", "--hami")
AUTO_RELEASE = 5  # seconds
THREE_SERVERS = ("--pool-servers", "3", "--pool-gpus", "2", "--clients", "3")


def _up(name: str, *options: str) -> Iterator[Cluster]:
    name += PROCESS
    if os.environ.get("GPUSHARE_KEEP_LABS"):
        # A developer's labs stay up between runs; `gpushare lab down --name …` makes way for changed code.
        if subprocess.run([GPUSHARE, "lab", "up", "--name", name, "--samples", *options], check=False).returncode:
            pytest.fail(f"lab up --name {name}", pytrace=False)
        yield Cluster(name)
        return
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("the lab needs root, and CI must not skip it")
        pytest.skip("the lab needs root")
    subprocess.run([GPUSHARE, "lab", "down", "--name", name], capture_output=True, check=False)
    done = subprocess.run(
        [GPUSHARE, "lab", "up", "--name", name, "--samples", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        if done.returncode:
            pytest.fail(f"lab up --name {name}: status {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False)
        yield Cluster(name)
    finally:
        subprocess.run([GPUSHARE, "lab", "down", "--name", name], capture_output=True, check=False)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A lab with the project in it, its image and its data set."""
    yield from _up("test")


@pytest.fixture(scope="session")
def new_cluster() -> Iterator[Cluster]:
    """The same as ``cluster``, with Slurm 26.05."""
    yield from _up("test2605", "--slurm", "26.05")


@pytest.fixture(scope="session")
def holding_cluster() -> Iterator[Cluster]:
    """The same, with a pool that holds the allocation of a client that vanished."""
    yield from _up("testhold", "--pool-on-disconnect", "hold")


@pytest.fixture(scope="session")
def releasing_cluster() -> Iterator[Cluster]:
    """The same as ``cluster``, with a pool that soon takes back what nobody uses."""
    yield from _up("testalloc", "--pool-auto-release", str(AUTO_RELEASE))


@pytest.fixture(scope="session")
def lupine_cluster() -> Iterator[Cluster]:
    """The same as ``cluster``, with a LUPINE server, and a node and a partition that use it."""
    yield from _up("testlupine", "--lupine")


@pytest.fixture(scope="session")
def local_cluster() -> Iterator[Cluster]:
    """The same as ``cluster``, with a node and a partition of each local backend."""
    yield from _up("testlocal", *LOCAL)


@pytest.fixture(scope="session")
def new_local_cluster() -> Iterator[Cluster]:
    """The same as ``local_cluster``, with Slurm 26.05."""
    yield from _up("testlocal26", "--slurm", "26.05", *LOCAL)


@pytest.fixture(scope="session")
def first_fit_cluster() -> Iterator[Cluster]:
    """A pool of three servers with two GPUs each, on which Slurm 26.05 places by first fit."""
    yield from _up("testfirst", "--slurm", "26.05", "--pool-placement", "first_fit", *THREE_SERVERS)


@pytest.fixture(scope="session")
def pinned_cluster() -> Iterator[Cluster]:
    """The same pool with Slurm 24.11, where job_submit chooses the GPU."""
    yield from _up("testpinned", "--pool-placement", "pinned", *THREE_SERVERS)


@pytest.fixture(scope="module", params=["local_cluster", "new_local_cluster"], ids=["24.11", "26.05"])
def local_lab(request: pytest.FixtureRequest) -> Cluster:
    """The lab with a node for each local backend, on each version of Slurm."""
    cluster = request.getfixturevalue(request.param)
    cluster.run("sh", "-c", f"cat >{local_jobs.HOME}/look.py", user="alice", stdin=local_jobs.LOOK)
    return cluster
