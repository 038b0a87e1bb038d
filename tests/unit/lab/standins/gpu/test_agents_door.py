"""The agent's door to NVML (slurm_gpushare/metrics/nvml.py) with NVIDIA's own binding over the stand-in."""

import json
import time

import pytest

from slurm_gpushare.lab.standins.gpu.control import request

READ = """
import time
from slurm_gpushare.metrics.nvml import Nvml
door = Nvml(say=lambda line: print(line, file=sys.stderr), patience=0.5, accounting=True)
def process(p): return [p.pid, p.sm, p.memory, p.ran is not None]
for line in sys.stdin:
    say([{"gpu": r.index, "sm": r.sm, "energy": r.energy, "fault": r.fault,
          "processes": None if r.processes is None else list(map(process, r.processes))} for r in door.read()])
"""


class Door:
    def __init__(self, machine):
        self.machine = machine
        self.process = machine.python(READ)

    def read(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def until(self, wanted, what):
        """Read until ``wanted`` holds of the readings; return them."""
        deadline = time.monotonic() + 30
        while not wanted(readings := self.read()):
            assert time.monotonic() < deadline, f"not in 30 s: {what}: {readings}"
            time.sleep(0.1)
        return readings

    def fail(self, *words):
        request(self.machine.socket, "fail", *words)

    def heal(self, *words):
        request(self.machine.socket, "heal", *words)


@pytest.fixture
def door(machine):
    return Door(machine)


def shares(reading):
    return {pid: sm for pid, sm, _, _ in reading["processes"]}


def healthy(readings):
    return [each["gpu"] for each in readings if each["fault"] is None]


def test_processes_and_their_shares(door, machine) -> None:
    first, second = machine.attached(1, 30, "3G"), machine.attached(1, 20, "1G")
    expected = {first.pid: 0.3, second.pid: 0.2}
    readings = door.until(lambda found: shares(found[1]) == expected, "both are sampled")
    assert readings[1]["sm"] == 0.5 and readings[1]["energy"] > 0
    assert readings[0]["energy"] is None  # a card before Volta has no counter
    assert sorted(each[2] for each in readings[1]["processes"]) == [1 << 30, 3 << 30]


@pytest.mark.parametrize("failure", ["not_supported", "not_found"])
def test_the_old_call_for_shares_where_the_new_one_is_not_there(door, machine, failure) -> None:
    process = machine.attached(1, 30, "1G")
    door.fail("1", "nvmlDeviceGetProcessesUtilizationInfo", failure)
    wanted = {process.pid: 0.3 if failure == "not_supported" else 0.0}
    door.until(lambda found: shares(found[1]) == wanted, failure)


def test_without_either_the_share_is_not_known_and_memory_is(door, machine) -> None:
    process = machine.attached(1, 30, "1G")
    for name in ("nvmlDeviceGetProcessesUtilizationInfo", "nvmlDeviceGetProcessUtilization"):
        door.fail("1", name, "not_supported")
    for _ in range(2):
        assert door.read()[1]["processes"] == [[process.pid, None, 1 << 30, False]]


def test_no_permission_is_not_known(door) -> None:
    door.fail("1", "nvmlDeviceGetComputeRunningProcesses", "no_permission")
    assert door.read()[1]["processes"] is None
    door.heal("1", "nvmlDeviceGetComputeRunningProcesses")
    assert door.read()[1]["processes"] == []


def test_a_card_that_is_lost_and_back(door) -> None:
    assert healthy(door.read()) == [0, 1]
    door.fail("0", "all", "gpu_is_lost")
    for _ in range(2):
        readings = door.read()
        assert healthy(readings) == [1] and readings[0]["fault"] == "GPU is lost"
    door.heal("0", "all")
    door.until(lambda found: healthy(found) == [0, 1], "the card is back")


def test_a_card_that_hangs_holds_up_no_other(door) -> None:
    assert healthy(door.read()) == [0, 1]
    door.fail("0", "nvmlDeviceGetPowerUsage", "slow", "4000")
    begun = time.monotonic()
    for _ in range(3):
        readings = door.read()
        assert healthy(readings) == [1] and readings[0]["fault"] == "GPU does not answer"
    assert time.monotonic() - begun < 4
    door.heal("0", "nvmlDeviceGetPowerUsage")
    door.until(lambda found: healthy(found) == [0, 1], "it answers again")


def test_a_driver_that_is_upgraded_under_the_agent(door) -> None:
    assert healthy(door.read()) == [0, 1]
    door.fail("all", "all", "driver_mismatch")
    readings = door.read()
    assert len(readings) == 2 and all("to be opened again" in each["fault"] for each in readings)
    door.heal("all", "all")
    door.until(lambda found: healthy(found) == [0, 1], "it is opened again")


def test_a_driver_that_is_unloaded_and_loaded(door, machine) -> None:
    assert healthy(door.read()) == [0, 1]
    machine.daemon.kill()
    machine.daemon.wait()
    assert healthy(door.read()) == []
    machine.start()
    door.until(lambda found: healthy(found) == [0, 1], "the driver is back")


def test_a_process_between_two_samples(door, machine) -> None:
    door.read()
    short = machine.workload("--gpu", "1", "--sm", "50", "--memory", "3G", "--seconds", "1")
    assert short.wait(timeout=20) == 0
    found = door.until(lambda found: any(each[3] for each in found[1]["processes"]), "its account is read")[1]
    [(pid, sm, memory, _)] = found["processes"]
    assert (pid, memory) == (short.pid, 3 << 30) and 0 < sm <= 0.5
    assert found["sm"] >= sm
    assert all(not each[3] for each in door.read()[1]["processes"])
