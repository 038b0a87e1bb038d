"""Whether the driver limits jobs for the memory watcher: only where all that this needs is there."""

import fcntl
import os

import pytest

from slurm_gpushare import paths
from slurm_gpushare.backends import shard, watched
from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.grant import Grant
from slurm_gpushare.launch import LaunchRecord
from slurm_gpushare.node import gpus
from slurm_gpushare.node_policy import BackendPolicy

KILL = BackendPolicy(over_memory="kill")


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A node where all of it is there."""
    monkeypatch.setattr(paths, "node_dir", lambda node: str(tmp_path))
    monkeypatch.setattr(watched, "CGROUPS", str(tmp_path / "cgroup.controllers"))
    monkeypatch.setattr(gpus, "read_gpus", lambda: gpus.Gpus(driver=615, by_number={}))
    (tmp_path / "cgroup.controllers").touch()
    (tmp_path / "watch.lock").touch()
    lock = os.open(tmp_path / "watch.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield tmp_path
    os.close(lock)


def enforces(settings: BackendPolicy) -> dict | None:
    grant = Grant("shard", 1, 0.25, 25, None, 1, "partition", "gpu:0.25", "")
    record = LaunchRecord(1, 1001, 1001, "alice", "n1", "lab", 0.0, grant, gpus=(0,))
    return shard.begin(record, settings, {}).get("enforces")


def test_the_driver_limits_where_all_is_there(node):
    assert watched.limits("n1", KILL)
    assert enforces(KILL) == {"memory": "enforced", "compute": "none", "faults": "none"}


def test_and_nowhere_else(node, monkeypatch):
    assert not watched.limits("n1", BackendPolicy(over_memory="warn"))
    assert enforces(BackendPolicy(over_memory="warn")) is None
    assert not watched.limits("n1", KILL, driver=610)
    (node / "cgroup.controllers").rename(node / "away")
    assert not watched.limits("n1", KILL)
    (node / "away").rename(node / "cgroup.controllers")

    def no_driver():
        raise BrokenInstallation("no NVML")

    monkeypatch.setattr(gpus, "read_gpus", no_driver)
    assert not watched.limits("n1", KILL)
    assert enforces(KILL)["memory"] == "advisory"


def test_a_watcher_that_is_down_limits_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "node_dir", lambda node: str(tmp_path))
    assert not watched.runs("n1")
    (tmp_path / "watch.lock").touch()
    assert not watched.runs("n1")
    with open(tmp_path / "watch.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert watched.runs("n1")
