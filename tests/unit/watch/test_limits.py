"""The driver's own limit, over a folder that looks as Slurm's cgroups do."""

import shutil
from pathlib import Path

import pytest

from slurm_gpushare.grant import Grant
from slurm_gpushare.launch import LaunchRecord
from slurm_gpushare.metrics.nvml import NOT_FOUND, NOT_SUPPORTED, SUCCESS
from slurm_gpushare.watch.judge import run_of
from slurm_gpushare.watch.limits import Limits, find_cgroup


def record(job_id: int = 12, gpus: tuple[int, ...] = (0,), sluid: str = "") -> LaunchRecord:
    grant = Grant("shard", len(gpus), 0.25, 25, 100, 1, "test", "gpu:0.25", "")
    return LaunchRecord(job_id, 1001, 1001, "alice", "n1", "lab", 5.0, grant, gpus, sluid=sluid)


class Tree:
    """Cgroups of version 2, and a driver that limits them."""

    def __init__(self, root: Path, controllers: str):
        self.root, self.calls, self.lines, self.code = root, [], [], SUCCESS
        self.controllers = controllers
        self._make(root)
        self.limits = Limits(self.limit, self.lines.append, str(root))

    def _make(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.controllers").write_text(self.controllers)
        (folder / "cgroup.subtree_control").write_text("cpu")

    def job(self, name: str, scope: str = "slurmstepd.scope") -> str:
        for folder in (self.root / "system.slice", self.root / "system.slice" / scope):
            if not folder.exists():
                self._make(folder)
        (self.root / "system.slice" / scope / name).mkdir()
        return str(self.root / "system.slice" / scope / name)

    def limit(self, number: int, cgroup: str, size: int) -> int:
        self.calls.append((number, cgroup, size))
        enabled = "dmem" in Path(cgroup).parent.joinpath("cgroup.subtree_control").read_text()
        return NOT_FOUND if "dmem" in self.controllers and not enabled else self.code

    def hold(self, *records: LaunchRecord) -> list:
        self.calls.clear()
        self.limits.hold(records, {(run_of(each), number): 100 for each in records for number in each.gpus})
        return list(self.calls)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "cgroup", "cpu memory")


@pytest.mark.parametrize(
    ("name", "scope", "sluid"),
    [
        ("job_12", "slurmstepd.scope", ""),
        ("job_12", "n1_slurmstepd.scope", ""),
        ("sEKNKTV3WPV500", "slurmstepd.scope", "sEKNKTV3WPV500"),
        ("job_12", "slurmstepd.scope", "sEKNKTV3WPV500"),  # CgroupJobIdPaths
    ],
)
def test_the_jobs_cgroup_is_found(tree, name, scope, sluid):
    path = tree.job(name, scope)
    tree.job("job_13", scope)
    assert find_cgroup(record(sluid=sluid), str(tree.root)) == path


def test_there_is_none_before_slurm_made_it_nor_in_version_1(tree):
    assert find_cgroup(record(), str(tree.root)) is None
    tree.job("job_12")
    (tree.root / "cgroup.controllers").unlink()
    assert find_cgroup(record(), str(tree.root)) is None


def test_each_gpu_is_limited_once_and_again_in_a_new_cgroup(tree):
    assert tree.hold(record(gpus=(0, 1))) == []
    path = tree.job("job_12")
    assert tree.hold(record(gpus=(0, 1))) == [(0, path, 100), (1, path, 100)]
    assert tree.hold(record(gpus=(0, 1))) == []
    shutil.rmtree(path)
    keep = tree.root / "keep"
    keep.mkdir()  # so that the new folder has another inode
    assert tree.job("job_12") == path
    assert tree.hold(record()) == [(0, path, 100)]


def test_a_job_without_a_size_is_left_alone(tree):
    tree.job("job_12")
    tree.limits.hold([record()], {})
    assert tree.calls == []


def test_what_the_driver_cannot_is_asked_once(tree):
    tree.job("job_12")
    tree.code = NOT_SUPPORTED
    assert len(tree.hold(record())) == 1
    assert tree.hold(record()) == [] and tree.lines == []


def test_the_kernels_controller_is_enabled_above_the_job(tmp_path):
    tree = Tree(tmp_path / "cgroup", "cpu dmem")
    path = tree.job("job_12")
    assert tree.hold(record()) == [(0, path, 100)] * 2
    for folder in (tree.root, tree.root / "system.slice", Path(path).parent):
        assert "+dmem" in (folder / "cgroup.subtree_control").read_text()
    assert tree.lines == ["job 12 is limited to 100 bytes of GPU 0 by the driver"]


def test_a_controller_that_cannot_be_enabled_is_told(tmp_path):
    tree = Tree(tmp_path / "cgroup", "cpu dmem")
    tree.job("job_12")
    (tree.root / "system.slice" / "cgroup.subtree_control").unlink()
    assert len(tree.hold(record())) == 1
    assert "dmem cannot be enabled" in tree.lines[0]
