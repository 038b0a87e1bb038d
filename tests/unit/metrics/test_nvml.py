import threading
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.metrics.nvml import Nvml
from slurm_gpushare.metrics.readings import ProcessReading, merge_processes, shares_by_pid, slurm_number, with_ended

UNINITIALIZED, NOT_SUPPORTED, NOT_FOUND, LIBRARY, GPU_IS_LOST, MISMATCH = 1, 3, 6, 12, 15, 18


class NVMLError(Exception):
    def __init__(self, value):
        super().__init__(f"code {value}")
        self.value = value


class NVMLLibraryMismatchError(Exception):
    pass


class FakeNvml:
    """A binding with a state to be set; a function that it was not given does not exist."""

    def __init__(self, gpus=1):
        self.calls = []
        self.now = 0.0
        self.gpus = range(gpus)
        self.answers = {
            "nvmlInit": None,
            "nvmlShutdown": None,
            "nvmlDeviceGetCount": lambda: len(self.gpus),
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetMinorNumber": lambda gpu: gpu,
            "nvmlDeviceGetUUID": lambda gpu: f"GPU-{gpu}",
            "nvmlDeviceGetName": b"Tesla P100",
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=16 << 30),
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=70, memory=0),
            "nvmlDeviceGetTotalEnergyConsumption": 5000,
            "nvmlDeviceGetPowerUsage": 60000,
            "nvmlDeviceGetComputeRunningProcesses": [running(10, 100)],
            "nvmlDeviceGetMPSComputeRunningProcesses": [],
            "nvmlDeviceGetGraphicsRunningProcesses": [],
            "nvmlDeviceGetProcessesUtilizationInfo": [busy(10, 1000, 40)],
            "nvmlDeviceGetProcessUtilization": [busy(10, 1000, 41)],
        }

    def __getattr__(self, name):
        if name not in self.answers:
            raise AttributeError(name)

        def call(*arguments):
            self.calls.append((name, *arguments))
            answer = self.answers[name]
            if callable(answer):
                answer = answer(*arguments)
            if isinstance(answer, int) and answer < 0:
                raise NVMLError(-answer)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    def called(self, name):
        return [call for call in self.calls if call[0] == name]

    def door(self, **options):
        return Nvml(self, clock=lambda: self.now, **options)


def running(pid, memory):
    return SimpleNamespace(pid=pid, usedGpuMemory=memory)


def busy(pid, stamp, sm):
    return SimpleNamespace(pid=pid, timeStamp=stamp, smUtil=sm)


def good(readings):
    return [reading.index for reading in readings if reading.fault is None]


def faults(readings):
    return {reading.uuid: reading.fault for reading in readings if reading.fault is not None}


def on_gpu_1(code, otherwise):
    return lambda gpu, *rest: -code if gpu == 1 else otherwise


@pytest.fixture
def nvml():
    return FakeNvml()


def test_reads_a_gpu_in_the_units_of_the_reading(nvml):
    (reading,) = nvml.door().read()
    assert (reading.index, reading.minor, reading.uuid, reading.name) == (0, 0, "GPU-0", "Tesla P100")
    assert (reading.memory_total, reading.sm, reading.power, reading.energy) == (16 << 30, 0.7, 60.0, 5.0)
    assert [(each.pid, each.memory) for each in reading.processes] == [(10, 100)]


def test_first_process_readings_are_the_drivers_history_and_not_taken(nvml):
    door = nvml.door()
    assert door.read()[0].processes[0].sm is None
    nvml.answers["nvmlDeviceGetProcessesUtilizationInfo"] = [busy(10, 2000, 30)]
    assert door.read()[0].processes[0].sm == 0.3


def test_cursor_is_the_newest_time_stamp_and_older_entries_are_dropped(nvml):
    door = nvml.door()
    door.read()
    nvml.answers["nvmlDeviceGetProcessesUtilizationInfo"] = [busy(10, 2000, 30), busy(11, 900, 99)]
    assert {each.pid: each.sm for each in door.read()[0].processes} == {10: 0.3}
    door.read()
    assert [call[2] for call in nvml.called("nvmlDeviceGetProcessesUtilizationInfo")] == [0, 1000, 2000]


@pytest.mark.parametrize("refusal", [-NOT_SUPPORTED, -13, -25, NVMLLibraryMismatchError("old")])
def test_old_process_call_is_used_where_the_new_one_is_not_known_and_it_is_asked_once(nvml, refusal):
    nvml.answers["nvmlDeviceGetProcessesUtilizationInfo"] = refusal
    door = nvml.door()
    door.read()
    nvml.answers["nvmlDeviceGetProcessUtilization"] = [busy(10, 2000, 25)]
    assert door.read()[0].processes[0].sm == 0.25
    assert len(nvml.called("nvmlDeviceGetProcessesUtilizationInfo")) == 1


def test_binding_without_the_new_call(nvml):
    del nvml.answers["nvmlDeviceGetProcessesUtilizationInfo"]
    door = nvml.door()
    door.read()
    nvml.answers["nvmlDeviceGetProcessUtilization"] = [busy(10, 2000, 25)]
    assert door.read()[0].processes[0].sm == 0.25


@pytest.mark.parametrize("code", [NOT_FOUND, 0])
def test_no_entry_means_nothing_used(nvml, code):
    nvml.answers["nvmlDeviceGetProcessesUtilizationInfo"] = NVMLError(code)
    nvml.answers["nvmlDeviceGetUtilizationRates"] = SimpleNamespace(gpu=0)
    door = nvml.door()
    door.read()
    assert door.read()[0].processes[0].sm == 0.0


def test_asked_within_one_sample_period_the_last_readings_of_living_processes_hold(nvml):
    door = nvml.door()
    door.read()
    nvml.answers["nvmlDeviceGetProcessesUtilizationInfo"] = [busy(10, 2000, 30), busy(11, 2000, 40)]
    door.read()
    nvml.answers["nvmlDeviceGetProcessesUtilizationInfo"] = -NOT_FOUND
    nvml.now = 0.1
    assert {each.pid: each.sm for each in door.read()[0].processes} == {10: 0.3}
    nvml.now = 1.5
    assert {each.pid: each.sm for each in door.read()[0].processes} == {10: 0.0}


def test_no_process_utilisation_at_all_is_none_and_not_asked_again(nvml):
    for name in ("nvmlDeviceGetProcessesUtilizationInfo", "nvmlDeviceGetProcessUtilization"):
        nvml.answers[name] = -NOT_SUPPORTED
    door = nvml.door()
    for _ in range(3):
        assert door.read()[0].processes[0].sm is None
    assert len(nvml.called("nvmlDeviceGetProcessUtilization")) == 1


def test_an_unknown_error_is_none_this_time_and_asked_again(nvml):
    door = nvml.door()
    nvml.answers["nvmlDeviceGetUtilizationRates"] = -999
    assert door.read()[0].sm is None
    nvml.answers["nvmlDeviceGetUtilizationRates"] = SimpleNamespace(gpu=20)
    assert door.read()[0].sm == 0.2


@pytest.mark.parametrize(("code", "what"), [(GPU_IS_LOST, "is lost"), (16, "needs a reset")])
def test_a_lost_gpu_does_not_stop_the_others_and_comes_back(code, what):
    nvml, lines = FakeNvml(gpus=3), []
    door = nvml.door(say=lines.append)
    assert good(door.read()) == [0, 1, 2]
    healthy = nvml.answers["nvmlDeviceGetUtilizationRates"]
    nvml.answers["nvmlDeviceGetUtilizationRates"] = on_gpu_1(code, healthy)
    for _ in range(3):
        readings = door.read()
        assert good(readings) == [0, 2] and faults(readings) == {"GPU-1": f"GPU {what}"}
        assert [reading.index for reading in door.read({0})] == [0]
    assert faults(door.read({1})) == {"GPU-1": f"GPU {what}"}
    asked = len([call for call in nvml.called("nvmlDeviceGetUtilizationRates") if call[1] == 1])
    assert asked == 2  # the good one, and the one that lost it
    nvml.answers["nvmlDeviceGetUtilizationRates"] = healthy
    nvml.now = 400.0
    assert good(door.read()) == [0, 1, 2]
    assert [line for line in lines if "GPU 1" in line] == [f"GPU 1 {what}; the others go on", "GPU 1 answers again"]


def test_what_a_lost_gpu_said_before_is_not_said_again(nvml):
    door = nvml.door()
    door.read()
    nvml.answers["nvmlDeviceGetUtilizationRates"] = -GPU_IS_LOST
    (reading,) = door.read()
    assert (reading.uuid, reading.memory_total) == ("GPU-0", 16 << 30)
    assert (reading.sm, reading.power, reading.energy, reading.processes) == (None,) * 4


def test_a_gpu_that_hangs_holds_up_no_other_and_is_left_alone_until_it_returns():
    nvml, lines, returns = FakeNvml(gpus=3), [], threading.Event()
    door = nvml.door(say=lines.append, patience=0.05)
    assert good(door.read()) == [0, 1, 2]
    healthy = nvml.answers["nvmlDeviceGetPowerUsage"]
    nvml.answers["nvmlDeviceGetPowerUsage"] = lambda gpu: returns.wait(20) and healthy if gpu == 1 else healthy
    for _ in range(3):
        readings = door.read()
        assert good(readings) == [0, 2] and faults(readings) == {"GPU-1": "GPU does not answer"}
    assert len([call for call in nvml.called("nvmlDeviceGetPowerUsage") if call[1] == 1]) == 2
    returns.set()
    deadline = time.monotonic() + 20
    while good(door.read()) != [0, 1, 2]:
        assert time.monotonic() < deadline
    assert lines[1:] == ["GPU 1 does not answer; the others go on", "GPU 1 answers again"]


def test_a_driver_that_hangs_is_not_closed_nor_unloaded_under_its_call():
    nvml, returns = FakeNvml(gpus=2), threading.Event()
    door = nvml.door(patience=0.05)
    door.read()
    nvml.answers["nvmlDeviceGetPowerUsage"] = lambda gpu: returns.wait(20) and 1 if gpu == 1 else 1
    door.read()
    nvml.answers["nvmlDeviceGetUtilizationRates"] = -MISMATCH
    assert set(faults(door.read())) == {"GPU-0", "GPU-1"}
    assert nvml.called("nvmlShutdown") == []
    returns.set()


def test_an_opening_that_hangs_is_waited_for_once():
    nvml, returns = FakeNvml(), threading.Event()
    nvml.answers["nvmlInit"] = lambda: returns.wait(20) and None
    door = nvml.door(patience=0.05)
    assert door.read() == [] and door.read() == []
    assert len(nvml.called("nvmlInit")) == 1
    returns.set()
    deadline = time.monotonic() + 20
    while not door.read():
        assert time.monotonic() < deadline


@pytest.mark.parametrize("code", [UNINITIALIZED, 9, MISMATCH])
def test_a_driver_that_went_away_is_opened_again_with_a_back_off(nvml, code):
    door = nvml.door()
    door.read()
    nvml.answers["nvmlDeviceGetComputeRunningProcesses"] = -code
    for _ in range(2):
        assert faults(door.read())["GPU-0"].startswith("NVML is closed, to be opened again: nvmlDeviceGetCompute")
    assert len(nvml.called("nvmlInit")) == 1
    nvml.now = 1.5
    door.read()
    nvml.answers["nvmlDeviceGetComputeRunningProcesses"] = []
    nvml.now = 2.0
    assert good(door.read()) == []  # it waits longer the second time
    nvml.now = 4.0
    assert good(door.read()) == [0]
    assert len(nvml.called("nvmlInit")) == 3 and len(nvml.called("nvmlShutdown")) == 2


def test_cursors_begin_anew_after_opening_again(nvml):
    door = nvml.door()
    door.read()
    nvml.answers["nvmlDeviceGetPowerUsage"] = -9
    door.read()
    nvml.answers["nvmlDeviceGetPowerUsage"] = 1
    nvml.now = 10.0
    assert door.read()[0].processes[0].sm is None
    assert nvml.called("nvmlDeviceGetProcessesUtilizationInfo")[-1][2] == 0


def test_no_library_is_no_gpus_told_once_and_looked_for_again(nvml):
    lines = []
    nvml.answers["nvmlInit"] = -LIBRARY
    door = nvml.door(say=lines.append)
    for now in (0, 5, 10, 20):
        nvml.now = now
        assert door.read() == []
    assert len(lines) == 1 and lines[0].startswith("no GPUs here")
    nvml.answers["nvmlInit"] = None
    nvml.now = 1000.0
    assert len(door.read()) == 1


def test_only_the_gpus_that_are_asked_for_are_read():
    nvml = FakeNvml(gpus=3)
    nvml.answers["nvmlDeviceGetMinorNumber"] = lambda gpu: 2 - gpu
    door = nvml.door()
    assert [(reading.index, slurm_number(reading)) for reading in door.read({2})] == [(0, 2)]


def test_slurms_number_is_the_minor_number_or_else_nvmls_index():
    assert slurm_number(SimpleNamespace(index=0, minor=3, part=False)) == 3
    assert slurm_number(SimpleNamespace(index=0, minor=None, part=False)) == 0


def test_lists_are_merged_by_pid():
    compute = [running(1, 100), running(2, None), running(5, 30), running(5, 40)]
    mps = [running(1, 100), running(3, 50)]
    merged = merge_processes([compute, mps, None], {1: 0.5, 9: 0.1})
    assert {each.pid: (each.sm, each.memory) for each in merged} == {
        1: (0.5, 100), 2: (0.0, None), 3: (0.0, 50), 5: (0.0, 70), 9: (0.1, 0),
    }  # fmt: skip
    assert merge_processes([None, mps, []], {}) is None


def test_absurd_values_of_dead_processes_are_dropped():
    entries = [busy(1, 5, 4294967295), busy(2, 5, 100), busy(3, 5, 20), busy(3, 6, 40)]
    assert shares_by_pid(entries, 4) == {2: 1.0, 3: 0.3}


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 20), st.integers(0, 2**32 - 1))), st.integers(0, 20))
def test_shares_are_always_shares_of_new_entries(entries, cursor):
    shares = shares_by_pid([busy(*entry) for entry in entries], cursor)
    assert all(0 <= share <= 1 for share in shares.values())
    assert set(shares) <= {pid for pid, stamp, _ in entries if stamp > cursor}


def test_close_survives_a_library_that_fails(nvml):
    door = nvml.door()
    door.read()
    nvml.answers["nvmlShutdown"] = -999
    door.close()
    door.close()
    assert len(nvml.called("nvmlShutdown")) == 1


def test_a_gpu_in_mig_mode_is_read_as_its_parts(nvml):
    parts = {0: "MIG-a", 1: "MIG-c"}
    nvml.answers |= {
        "nvmlDeviceGetMigMode": lambda gpu: [1, 1],
        "nvmlDeviceGetMaxMigDeviceCount": 7,
        "nvmlDeviceGetMigDeviceHandleByIndex": lambda gpu, number: parts.get(number, -6),
        "nvmlDeviceGetUUID": lambda gpu: gpu if isinstance(gpu, str) else f"GPU-{gpu}",
        "nvmlDeviceGetUtilizationRates": -3,
        "nvmlDeviceGetProcessesUtilizationInfo": -3,
        "nvmlDeviceGetProcessUtilization": -3,
        "nvmlDeviceGetTotalEnergyConsumption": -3,
    }
    for only in (None, {5}):  # Slurm's numbers of parts are no numbers of cards
        first, second = nvml.door().read(only)
        assert (first.uuid, second.uuid, first.part) == ("MIG-a", "MIG-c", True)
        assert slurm_number(first) == slurm_number(second) == -1
        assert (first.sm, first.energy) == (None, None)
        assert [(each.pid, each.sm, each.memory) for each in first.processes] == [(10, None, 100)]


class Metrics(SimpleNamespace):
    def __init__(self):
        super().__init__(metrics=[SimpleNamespace(metricId=0, nvmlReturn=0, value=0.0)])


@pytest.fixture
def hopper(nvml):
    """A card of two parts whose GPM samples are the number of milliseconds so far, and of those with work on it."""
    nvml.busy = {1: 0.0, 2: 0.0}

    def metrics(wanted):
        (first, busy), (second, later) = wanted.sample1.read, wanted.sample2.read
        wanted.metrics[0].value = 100 * (later - busy) / (second - first)
        return wanted

    def sample(handle, instance, sample):
        assert handle == 0
        sample.read = (nvml.now, nvml.busy[instance])
        return sample

    nvml.answers |= {
        "nvmlDeviceGetMigMode": lambda gpu: [1, 1],
        "nvmlDeviceGetMaxMigDeviceCount": 2,
        "nvmlDeviceGetMigDeviceHandleByIndex": lambda gpu, number: "ab"[number],
        "nvmlDeviceGetUUID": lambda gpu: f"MIG-{gpu}",
        "nvmlDeviceGetGpuInstanceId": lambda gpu: {"a": 1, "b": 2}[gpu],
        "nvmlDeviceGetUtilizationRates": -3,
        "nvmlDeviceGetProcessesUtilizationInfo": -3,
        "nvmlDeviceGetProcessUtilization": -3,
        "nvmlGpmQueryDeviceSupport": SimpleNamespace(isSupportedDevice=1),
        "nvmlGpmSampleAlloc": lambda: SimpleNamespace(),
        "nvmlGpmSampleFree": lambda sample: None,
        "nvmlGpmMigSampleGet": sample,
        "nvmlGpmMetricsGet": metrics,
        "c_nvmlGpmMetricsGet_t": Metrics,
    }
    return nvml


def test_gpm_tells_the_utilisation_of_each_part(hopper):
    door = hopper.door()
    assert [each.sm for each in door.read()] == [None, None]  # one sample says nothing
    hopper.now, hopper.busy = 10.0, {1: 2.5, 2: 0.0}
    assert [each.sm for each in door.read()] == [0.25, 0.0]
    hopper.now = 10.05  # two samples of GPM are at least 0.1 s apart
    assert [each.sm for each in door.read()] == [0.25, 0.0]
    hopper.now, hopper.busy = 20.0, {1: 12.5, 2: 0.0}
    assert [each.sm for each in door.read()] == [1.0, 0.0]
    assert len(hopper.called("nvmlGpmSampleAlloc")) == len(hopper.called("nvmlGpmSampleFree")) + 2


@pytest.mark.parametrize(
    "broken",
    [
        {"nvmlGpmQueryDeviceSupport": SimpleNamespace(isSupportedDevice=0)},
        {"nvmlGpmQueryDeviceSupport": -NOT_SUPPORTED},
        {"nvmlGpmMigSampleGet": -4},
        {"nvmlGpmMetricsGet": -13},
        {"nvmlGpmMetricsGet": lambda wanted: setattr(wanted.metrics[0], "value", float("nan")) or wanted},
        {"nvmlGpmMetricsGet": lambda wanted: setattr(wanted.metrics[0], "nvmlReturn", 3) or wanted},
    ],
)
def test_without_gpm_the_utilisation_of_a_part_is_not_known(hopper, broken):
    hopper.answers |= broken
    door = hopper.door()
    for now in (0.0, 10.0, 20.0):
        hopper.now = now
        assert [each.sm for each in door.read()] == [None, None]


def test_with_mig_off_the_gpu_itself_is_read(nvml):
    nvml.answers["nvmlDeviceGetMigMode"] = [0, 1]
    (reading,) = nvml.door().read()
    assert (reading.uuid, reading.part) == ("GPU-0", False)


def test_the_memory_of_a_cgroup_is_limited_where_the_driver_can(nvml):
    door = nvml.door()
    door.read()
    assert door.limit_memory(0, "/sys/fs/cgroup/job_1", 100) == 13  # no such function in the binding
    assert door.limit_memory(7, "/sys/fs/cgroup/job_1", 100) == GPU_IS_LOST
    door = nvml.door()
    door.read()
    nvml.answers["c_nvmlSetMemoryLimits_v1_t"] = SimpleNamespace
    nvml.answers["nvmlDeviceSetMemoryLimits_v1"] = None
    assert door.limit_memory(0, "/sys/fs/cgroup/job_1", 100) == 0
    [(_, handle, limits)] = nvml.called("nvmlDeviceSetMemoryLimits_v1")
    assert (handle, limits.nameSpace, limits.softLimit, limits.hardLimit) == (0, b"/sys/fs/cgroup/job_1", 0, 100)
    nvml.answers["nvmlDeviceSetMemoryLimits_v1"] = -NOT_FOUND
    assert door.limit_memory(0, "/sys/fs/cgroup/job_1", 100) == NOT_FOUND
    nvml.answers["nvmlDeviceSetMemoryLimits_v1"] = -NOT_SUPPORTED
    assert [door.limit_memory(0, "/sys/fs/cgroup/job_1", 100) for _ in range(2)] == [NOT_SUPPORTED] * 2
    assert len(nvml.called("nvmlDeviceSetMemoryLimits_v1")) == 3


def account(sm, memory, milliseconds, started=50.0, running=0):
    return SimpleNamespace(
        gpuUtilization=sm, maxMemoryUsage=memory, time=milliseconds, startTime=started * 1e6, isRunning=running
    )


@pytest.fixture
def accounts(nvml):
    """Accounting mode, as it is to be switched on; the fixture is what there is of processes."""
    mode, found = [0], {10: account(99, 5, 0, running=1), 4: account(99, 5, 9000)}

    def stats(gpu, pid):
        return found[pid]

    nvml.answers |= {
        "nvmlDeviceGetAccountingMode": lambda gpu: mode[0],
        "nvmlDeviceSetAccountingMode": lambda gpu, value: mode.__setitem__(0, value),
        "nvmlDeviceGetAccountingPids": lambda gpu: list(found),
        "nvmlDeviceGetAccountingStats": stats,
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=10),
    }
    return found


def ended(reading):
    return [each for each in reading.processes if each.ran is not None]


def test_what_came_and_went_between_two_readings_is_known_by_its_account(nvml, accounts):
    lines = []
    door = nvml.door(accounting=True, say=lines.append)
    assert ended(door.read()[0]) == []  # of the time before the first reading nothing is told
    assert "GPU 0: accounting mode is switched on" in lines
    nvml.answers["nvmlDeviceGetProcessesUtilizationInfo"] = [busy(10, 2000, 10)]
    accounts[20] = account(50, 3 << 30, 2000, started=52.0)
    nvml.now = 5.0
    (reading,) = door.read()
    (gone,) = ended(reading)
    assert (gone.pid, gone.sm, gone.memory, gone.ran) == (20, pytest.approx(0.2), 3 << 30, (52.0, 54.0))
    assert reading.sm == pytest.approx(0.3)  # what all of them are known to have used
    nvml.now = 10.0
    assert ended(door.read()[0]) == []  # told once
    assert len(nvml.called("nvmlDeviceGetAccountingStats")) == 1


def test_one_that_was_seen_running_is_not_told_again_by_its_account(nvml, accounts):
    door = nvml.door(accounting=True)
    door.read()
    nvml.answers["nvmlDeviceGetComputeRunningProcesses"] = []
    accounts[10] = account(99, 5, 9000)
    nvml.now = 5.0
    assert ended(door.read()[0]) == []


def test_one_that_begins_while_it_is_asked_is_told_when_it_has_ended(nvml, accounts):
    door = nvml.door(accounting=True)
    door.read()
    accounts[20] = account(50, 7, 0, running=1)
    nvml.now = 5.0
    assert ended(door.read()[0]) == []
    accounts[20] = account(50, 7, 1000)
    nvml.now = 10.0
    assert [each.sm for each in ended(door.read()[0])] == [pytest.approx(0.1)]


@pytest.mark.parametrize("absurd", [account(101, 5, 9000), account(4294967295, 5, 9000)])
def test_an_absurd_account_is_dropped(nvml, accounts, absurd):
    door = nvml.door(accounting=True)
    door.read()
    accounts[20] = absurd
    nvml.now = 5.0
    assert ended(door.read()[0]) == []


@pytest.mark.parametrize("code", [3, 4])
def test_where_accounting_mode_cannot_be_switched_on_the_rest_is_read(nvml, accounts, code):
    nvml.answers["nvmlDeviceSetAccountingMode"] = -code
    door = nvml.door(accounting=True)
    door.read()
    accounts[20] = account(50, 7, 1000)
    nvml.now = 5.0
    assert [each.pid for each in door.read()[0].processes] == [10]
    assert nvml.called("nvmlDeviceGetAccountingPids") == []


def test_who_does_not_ask_for_accounting_mode_leaves_it_as_it_is(nvml, accounts):
    door = nvml.door()
    door.read()
    nvml.answers["nvmlDeviceGetAccountingMode"] = 1
    door.read()
    assert not [call for call in nvml.calls if "Accounting" in call[0]]


def test_no_more_than_the_whole_gpu_is_known_to_be_used():
    gone = [ProcessReading(1, 0.8, 1, (0.0, 1.0)), ProcessReading(2, 0.9, 1, (0.0, 1.0))]
    processes, sm = with_ended((ProcessReading(1, 0.1, 0), ProcessReading(3, 0.1, 0)), gone, 0.3)
    assert sm == 1.0 and [(each.pid, each.sm) for each in processes] == [(3, 0.1), (1, 0.8), (2, 0.9)]
    assert with_ended((), gone, None)[1] is None
    assert with_ended((ProcessReading(3, None, 0),), gone, 0.3)[1] == 0.3
