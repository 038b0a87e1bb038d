"""The labs that this tier runs in: one whose pool frees the allocation of a lost client, one whose pool holds it."""

from collections.abc import Iterator

import pytest

from tests.lab import local_jobs
from tests.lab.cluster import Cluster
from tests.lab.up import lab_up

LOCAL = ("--mps", "--mig", "--vgpu", "--hami")
AUTO_RELEASE = 5  # seconds
THREE_SERVERS = ("--pool-servers", "3", "--pool-gpus", "2", "--clients", "3")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A lab with the project in it, its image and its data set."""
    yield from lab_up("test")


@pytest.fixture(scope="session")
def new_cluster() -> Iterator[Cluster]:
    """The same as ``cluster``, with Slurm 26.05."""
    yield from lab_up("test2605", "--slurm", "26.05")


@pytest.fixture(scope="session")
def holding_cluster() -> Iterator[Cluster]:
    """The same, with a pool that holds the allocation of a client that vanished."""
    yield from lab_up("testhold", "--pool-on-disconnect", "hold")


@pytest.fixture(scope="session")
def releasing_cluster() -> Iterator[Cluster]:
    """The same as ``cluster``, with a pool that soon takes back what nobody uses."""
    yield from lab_up("testalloc", "--pool-auto-release", str(AUTO_RELEASE))


@pytest.fixture(scope="session")
def lupine_cluster() -> Iterator[Cluster]:
    """The same as ``cluster``, with a LUPINE server, and a node and a partition that use it."""
    yield from lab_up("testlupine", "--lupine")


@pytest.fixture(scope="session")
def local_cluster() -> Iterator[Cluster]:
    """The same as ``cluster``, with a node and a partition of each local backend."""
    yield from lab_up("testlocal", *LOCAL)


@pytest.fixture(scope="session")
def new_local_cluster() -> Iterator[Cluster]:
    """The same as ``local_cluster``, with Slurm 26.05."""
    yield from lab_up("testlocal26", "--slurm", "26.05", *LOCAL)


@pytest.fixture(scope="session")
def first_fit_cluster() -> Iterator[Cluster]:
    """A pool of three servers with two GPUs each, on which Slurm 26.05 places by first fit."""
    yield from lab_up("testfirst", "--slurm", "26.05", "--pool-placement", "first_fit", *THREE_SERVERS)


@pytest.fixture(scope="session")
def pinned_cluster() -> Iterator[Cluster]:
    """The same pool with Slurm 24.11, where job_submit chooses the GPU."""
    yield from lab_up("testpinned", "--pool-placement", "pinned", *THREE_SERVERS)


@pytest.fixture(scope="module", params=["local_cluster", "new_local_cluster"], ids=["24.11", "26.05"])
def local_lab(request: pytest.FixtureRequest) -> Cluster:
    """The lab with a node for each local backend, on each version of Slurm."""
    cluster = request.getfixturevalue(request.param)
    cluster.run("sh", "-c", f"cat >{local_jobs.HOME}/look.py", user="alice", stdin=local_jobs.LOOK)
    return cluster
