"""The job path's own door to NVML (slurm_gpushare/node/gpus.py), over the stand-in."""

import os

import pytest

from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.lab.standins.gpu.control import request
from slurm_gpushare.node import gpus
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


def test_a_driver_that_hangs_is_not_waited_for(make_machine) -> None:
    machine = make_machine({"minor": 0})
    request(machine.socket, *["fail", "all", "nvmlDeviceGetUUID", "slow", "60000"])
    script = (
        "from slurm_gpushare.errors import BrokenInstallation\n"
        "from slurm_gpushare.node.gpus import read_gpus\n"
        "try: read_gpus(patience=0.3)\n"
        "except BrokenInstallation as error: say(str(error))\n"
    )
    assert machine.nvml(script).startswith("libnvidia-ml.so.1: no answer in 0.3 s: look at the GPUs")


def test_a_library_that_ends_its_caller_is_one_line(monkeypatch) -> None:
    monkeypatch.setattr(gpus, "_answer", lambda library: os._exit(1))
    with pytest.raises(BrokenInstallation, match="it ended the process that asked it"):
        read_gpus("libnosuch.so.9")
