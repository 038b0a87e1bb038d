"""Backends whose GPUs are the node's: what prolog makes of a grant of theirs."""

import os
import stat

import pytest

from slurm_gpushare.backends import gpu, hami, mig, shard, vgpu
from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.grant import Grant
from slurm_gpushare.launch import LaunchRecord
from slurm_gpushare.node_policy import BackendPolicy

GIB = 1 << 30
TYPES = {
    "a100_1g.5gb": {"fraction": 1 / 7, "memory": 5 * GIB},
    "a100_2g.10gb": {"fraction": 2 / 7, "memory": 10 * GIB},
}


def record_of(backend, fraction=0.25, memory=4 * GIB, gpus=1):
    grant = Grant(backend, gpus, fraction, 100, memory, 1, "", "", "")
    return LaunchRecord(7, 1001, 1001, "alice", "n1", "lab", 1.0, grant, (0,))


@pytest.mark.parametrize("module", [gpu, mig, vgpu])
def test_hardware_needs_nothing_of_prolog(module):
    assert module.begin(record_of("x"), BackendPolicy(), {}) == {}


@pytest.mark.parametrize("over_memory, memory", [("off", "none"), ("warn", "none"), ("kill", "advisory")])
def test_only_a_watcher_that_ends_jobs_holds_the_memory_of_shards(over_memory, memory):
    found = shard.begin(record_of("shard"), BackendPolicy(over_memory=over_memory), {})
    assert found.get("enforces", shard.ENFORCES) == {"memory": memory, "compute": "none", "faults": "none"}


@pytest.mark.parametrize("module", [mig, vgpu])
@pytest.mark.parametrize(
    "fraction, memory, given, reason",
    [
        (0.285714285714, 10 * GIB, "1", None),
        (0.142857142857, 5 * GIB, "0", None),
        (0.285714285714, 5 * GIB, "1", "a100_2g.10gb"),
        (0.25, 10 * GIB, "1", "0.25 of a GPU"),
        (0.285714285714, 10 * GIB, "0,1", "Slurm gave this job 2 here"),
        (0.285714285714, 10 * GIB, "", "Slurm gave this job 0 here"),
    ],
)
def test_a_grant_is_of_a_part_that_there_is(module, fraction, memory, given, reason):
    grant = record_of("mig", fraction, memory).grant
    found = module.agrees(grant, {"SLURM_JOB_GPUS": given}, BackendPolicy(types=TYPES))
    assert (found is None) if reason is None else (reason in found)


def test_without_types_no_part_is_believed():
    assert "only none" in mig.agrees(record_of("mig").grant, {"SLURM_JOB_GPUS": "0"}, BackendPolicy())


@pytest.fixture
def library(tmp_path, monkeypatch):
    path = tmp_path / "libvgpu.so"
    path.write_bytes(b"")
    monkeypatch.setattr(hami, "LOCKS", str(tmp_path / "locks"))
    monkeypatch.setattr(hami.make_locks, "__defaults__", (str(tmp_path / "locks"),))
    return str(path)


root = pytest.mark.skipif(os.geteuid() != 0, reason="prolog is root's")


@root
def test_hamis_limits_are_those_of_the_grant(library, tmp_path):
    for _ in range(2):  # prolog may run again
        found = hami.begin(record_of("hami"), BackendPolicy(library=library), {})
    cache = found["environment"].pop("CUDA_DEVICE_MEMORY_SHARED_CACHE")
    assert found["environment"] == {
        "LD_PRELOAD": library,
        "CUDA_DEVICE_SM_LIMIT": "25",
        "CUDA_DEVICE_MEMORY_LIMIT": "4096m",
    }
    # The job's own folder: its processes share one account, and nobody else does.
    assert found["binds"] == [library, str(tmp_path / "locks"), os.path.dirname(cache)]
    assert os.path.dirname(cache).endswith("/n1/jobs/7/work")
    assert found["enforces"] == hami.ENFORCES
    assert stat.S_IMODE(os.stat(tmp_path / "locks").st_mode) == 0o777


@root
def test_hami_cannot_limit_a_memory_of_unknown_size(library):
    found = hami.begin(record_of("hami", memory=None), BackendPolicy(library=library), {})
    assert "CUDA_DEVICE_MEMORY_LIMIT" not in found["environment"]
    assert found["enforces"] == {**hami.ENFORCES, "memory": "none"}


@root
def test_the_smallest_share_is_no_unlimited_one(library):
    found = hami.begin(record_of("hami", fraction=0.001), BackendPolicy(library=library), {})
    assert found["environment"]["CUDA_DEVICE_SM_LIMIT"] == "1"  # 0 is no limit


def test_a_node_without_the_library_refuses_the_job(tmp_path):
    with pytest.raises(BrokenInstallation, match="install HAMi-core"):
        hami.begin(record_of("hami"), BackendPolicy(library=str(tmp_path / "no.so")), {})


@root
def test_a_users_link_in_place_of_the_locks_is_not_followed(library, tmp_path):
    (tmp_path / "precious").mkdir(mode=0o700)
    (tmp_path / "locks").symlink_to(tmp_path / "precious")
    with pytest.raises(BrokenInstallation, match="locks"):
        hami.begin(record_of("hami"), BackendPolicy(library=library), {})
    assert stat.S_IMODE(os.stat(tmp_path / "precious").st_mode) == 0o700


@pytest.mark.parametrize(
    "given, found",
    [
        ("MIG-1", {"devices": ["MIG-1"]}),
        ("2", {}),  # gres.conf names device files
        ("", {}),
        ("MIG-1,MIG-2", {}),
    ],
)
def test_the_parts_that_slurm_names_are_passed_on(given, found):
    assert mig.begin(record_of("mig"), BackendPolicy(), {"CUDA_VISIBLE_DEVICES": given}) == found
