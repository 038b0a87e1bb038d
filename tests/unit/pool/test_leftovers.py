"""Which folders are those of jobs that are over."""

from pathlib import Path

import pytest

from slurm_gpushare import paths
from slurm_gpushare.pool.leftovers import find_leftovers


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
