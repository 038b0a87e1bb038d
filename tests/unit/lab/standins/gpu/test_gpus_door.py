"""The job path's own door to NVML (slurm_gpushare/node/gpus.py), over the stand-in."""

import pytest

from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.node.gpus import EXCLUSIVE_PROCESS, read_gpus

LOOK = (
    "from slurm_gpushare.node.gpus import read_gpus\n"
    "found = read_gpus()\n"
    "say([found.driver, {minor: [gpu.uuid, gpu.compute_mode] for minor, gpu in found.by_number.items()}])\n"
)


def test_gpus_are_found_by_slurms_numbers(make_machine) -> None:
    machine = make_machine({"minor": 3}, {"minor": 1, "compute_mode": "EXCLUSIVE_PROCESS"}, driver_version="590.44.01")
    branch, found = machine.nvml(LOOK)
    assert branch == 590
    assert found == {
        "3": ["GPU-00000001-0000-0000-0000-000000000000", 0],
        "1": ["GPU-00000002-0000-0000-0000-000000000000", EXCLUSIVE_PROCESS],
    }


def test_no_library_is_one_line() -> None:
    with pytest.raises(BrokenInstallation, match="install the NVIDIA driver"):
        read_gpus("libnosuch.so.9")
