"""Which folders are those of jobs that are over, and what is given back of them."""

import json
import os
from pathlib import Path

import pytest

from slurm_gpushare import paths
from slurm_gpushare.backends import shard
from slurm_gpushare.pool.leftovers import find_leftovers, give_back


def test_folders_of_jobs_that_slurm_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "NODE_STATE_DIR", str(tmp_path))
    for name in ("c1/jobs/7", "c1/jobs/8", "c1/jobs/8.left.1700000000", "c2/jobs/9", "c2/jobs/x", "c2/other", "c3"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "c2/jobs/10").write_text("")
    (tmp_path / "c2/jobs/11").symlink_to(tmp_path)
    found = find_leftovers(lambda: {8, 10, 11})
    assert [(left.node, left.job_id, left.aside) for left in found] == [
        ("c1", 7, False),
        ("c1", 8, True),
        ("c2", 9, False),
    ]
    assert found[1].path == f"{tmp_path}/c1/jobs/8.left.1700000000"


def test_slurm_is_asked_after_the_folders_and_only_where_there_are_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "NODE_STATE_DIR", str(tmp_path / "none"))
    assert find_leftovers(lambda: pytest.fail("asked")) == []
    (tmp_path / "none/c1/jobs/7").mkdir(parents=True)

    def active() -> set[int]:
        (tmp_path / "none/c1/jobs/8").mkdir()  # a job that starts now
        return {7}

    assert find_leftovers(active) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="such folders are root's")
@pytest.mark.parametrize("runs", [False, True])
def test_what_a_backend_did_on_the_node_is_finished_unless_a_later_run_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: bool
) -> None:
    finished = []
    monkeypatch.setattr(shard, "finish", lambda job_id, node, settings: finished.append((job_id, node)))
    monkeypatch.setattr(paths, "NODE_STATE_DIR", str(tmp_path / "state"))
    policy = {
        "v": 1,
        "slices_per_gpu": 100,
        "container": {"runtime": "auto", "images": [], "mounts": [], "pid_namespace": True},
        "datasets": {},
        "backends": {"shard": {}},
        "agent": {"interval": 1.0, "service": None},
    }
    (tmp_path / "node.json").write_text(json.dumps(policy))
    (tmp_path / "state/c1/jobs/7.left.1700000000/work").mkdir(parents=True)
    if runs:
        (tmp_path / "run/c1/jobs/7").mkdir(parents=True)
    (left,) = find_leftovers(lambda: {7})
    assert give_back(left, str(tmp_path / "run"), str(tmp_path / "node.json")) is None
    assert finished == ([] if runs else [(7, "c1")])
    assert os.listdir(tmp_path / "state/c1/jobs") == []
