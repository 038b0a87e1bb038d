"""The state machine: what is conserved whatever happens, what a view sees, what a scripted failure covers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.gpu.engine import (
    HISTORY_US,
    MAX_SAMPLES,
    MIB,
    PERIOD_US,
    Gpus,
    GpuSpec,
    NoSuchGpu,
    NoSuchLoad,
    OutOfMemory,
)
from slurm_gpushare.lab.standins.gpu.view import View

SPECS = [
    GpuSpec("GPU-aa-1", "one", 100, 30, 250, "6.0", 0),
    GpuSpec("GPU-ab-2", "two", 50, 0, 400, "8.0", 1),
]
TOTAL = [spec.memory_mib * MIB for spec in SPECS]


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 12345

    def __call__(self) -> int:
        return self.now


def machine() -> tuple[Gpus, Clock]:
    clock = Clock()
    return Gpus(SPECS, clock), clock


sm_percent = st.integers(0, 100)
megabytes = st.integers(0, 110)
pids = st.integers(1, 4)
gpu_index = st.integers(0, 1)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("attach"), pids, gpu_index, sm_percent, megabytes),
        st.tuples(st.just("change"), st.integers(0, 20), sm_percent, megabytes),
        st.tuples(st.just("detach"), st.integers(0, 20)),
        st.tuples(st.just("pass"), st.integers(0, 5 * PERIOD_US)),
        st.tuples(st.just("pass"), st.integers(0, 1000 * PERIOD_US)),
    ),
    max_size=30,
)


def perform(gpus: Gpus, clock: Clock, handles: list[int], operation: tuple, step: int = 0) -> None:
    """Do one operation; ``step``: look at the state every so many µs while time passes."""
    name, *words = operation
    try:
        if name == "attach":
            pid, gpu, sm, memory = words
            handles.append(gpus.attach(pid, gpu, sm, memory * MIB))
        elif name == "change" and handles:
            gpus.change(handles[words[0] % len(handles)], words[1], words[2] * MIB)
        elif name == "detach" and handles:
            gpus.detach(handles.pop(words[0] % len(handles)))
        elif name == "pass":
            end = clock.now + words[0]
            while step and clock.now + step < end:
                clock.now += step
                gpus.snapshot()
            clock.now = end
    except OutOfMemory as refusal:
        assert refusal.asked > refusal.free


@given(operations)
def test_sums_are_conserved_whatever_happens(history: list[tuple]) -> None:
    gpus, clock = machine()
    handles: list[int] = []
    start = clock.now
    energy = [0, 0]
    for operation in history:
        perform(gpus, clock, handles, operation)
        for gpu in range(2):
            total, used, free = gpus.memory(gpu)
            assert (total, used + free) == (TOTAL[gpu], TOTAL[gpu])
            assert used == sum(memory for _, memory in gpus.processes(gpu)) <= total
            assert len({pid for pid, _ in gpus.processes(gpu)}) == len(gpus.processes(gpu))

            sm, memory_utilisation = gpus.utilisation(gpu)
            samples = gpus.samples(gpu)
            newest = (clock.now // PERIOD_US) * PERIOD_US
            last = [sample for sample in samples if sample.timestamp_us == newest]
            assert sum(sample.sm for sample in last) == sm <= 100
            assert sum(sample.memory for sample in last) == memory_utilisation <= 50
            assert all(
                sample.sm > 0 and 0 < newest - HISTORY_US < sample.timestamp_us <= newest for sample in samples
            ) or (newest < HISTORY_US)

            idle, most = SPECS[gpu].idle_watts, SPECS[gpu].max_watts
            assert idle * 1000 <= gpus.power_mw(gpu) <= most * 1000
            now = gpus.energy_mj(gpu)
            assert max(energy[gpu], idle * (clock.now - start) // 1000) <= now <= most * (clock.now - start) / 1000
            energy[gpu] = now


@given(operations, st.integers(PERIOD_US // 7, 9 * PERIOD_US))
def test_the_result_does_not_depend_on_how_often_one_looks(history: list[tuple], step: int) -> None:
    seldom, often = machine(), machine()
    for (gpus, clock), every in ((seldom, 0), (often, step)):
        handles: list[int] = []
        for operation in history[:12]:
            # Time jumps of at most 40 periods: the one that looks often has to walk through them.
            shortened = operation if operation[0] != "pass" else ("pass", operation[1] % (40 * PERIOD_US))
            perform(gpus, clock, handles, shortened, every)
    for gpu in range(2):
        assert seldom[0].samples(gpu) == often[0].samples(gpu)
        assert seldom[0].utilisation(gpu) == often[0].utilisation(gpu)
        assert seldom[0].energy_mj(gpu) == pytest.approx(often[0].energy_mj(gpu), abs=1)


def test_a_steady_load_is_seen_as_declared() -> None:
    gpus, clock = machine()
    gpus.attach(7, 0, 20, 3 * MIB)
    clock.now += 3 * PERIOD_US
    assert gpus.utilisation(0) == (20, 10)
    assert [(sample.pid, sample.sm, sample.memory) for sample in gpus.samples(0)] == [(7, 20, 10)]
    assert gpus.processes(0) == [(7, 3 * MIB)]
    assert gpus.power_mw(0) == 74_000
    assert (gpus.utilisation(1), gpus.samples(1), gpus.processes(1)) == ((0, 0), [], [])


def test_energy_is_power_over_time() -> None:
    gpus, clock = machine()
    clock.now += 10_000_000
    handle = gpus.attach(7, 0, 50, 0)
    clock.now += 20_000_000
    gpus.detach(handle)
    clock.now += 5_000_000
    assert gpus.energy_mj(0) == (10 * 30 + 20 * 140 + 5 * 30) * 1000
    assert gpus.snapshot()[0]["sm_us"] == 20_000_000 / 2


def test_more_than_the_card_has_is_shared_in_proportion() -> None:
    gpus, clock = machine()
    for pid, sm in ((1, 100), (2, 50), (3, 50)):
        gpus.attach(pid, 0, sm, 0)
    clock.now += 2 * PERIOD_US
    assert gpus.utilisation(0)[0] == 100
    assert {sample.pid: sample.sm for sample in gpus.samples(0)} == {1: 50, 2: 25, 3: 25}


def test_a_sample_is_the_mean_of_its_period() -> None:
    gpus, clock = machine()
    clock.now = 10 * PERIOD_US
    handle = gpus.attach(1, 0, 80, 0)
    clock.now += PERIOD_US // 4
    gpus.detach(handle)
    clock.now = 11 * PERIOD_US
    assert [sample.sm for sample in gpus.samples(0)] == [20]
    assert gpus.utilisation(0)[0] == 20


def test_time_stamps_are_cursors() -> None:
    gpus, clock = machine()
    handle = gpus.attach(1, 0, 80, 0)
    clock.now += PERIOD_US
    (first,) = gpus.samples(0, 0)
    assert gpus.samples(0, first.timestamp_us) == []
    assert gpus.samples(0, first.timestamp_us - 1) == [first]
    clock.now += 5 * PERIOD_US
    gpus.attach(2, 0, 10, 0)
    gpus.detach(handle)
    clock.now += 5 * PERIOD_US
    seen = {sample.pid: sample.timestamp_us for sample in gpus.samples(0, first.timestamp_us)}
    # A process that stopped is still there with its last, older time stamp: the trap of asking with 0.
    assert seen[1] < seen[2] == (clock.now // PERIOD_US) * PERIOD_US
    assert {sample.pid for sample in gpus.samples(0, seen[1])} == {2}
    clock.now += HISTORY_US
    assert {sample.pid for sample in gpus.samples(0, 0)} == {2}


def test_at_most_a_hundred_samples_are_kept() -> None:
    gpus, clock = machine()
    for pid in range(1, 151):
        gpus.attach(pid, 0, 100, 0)
    clock.now += 400 * PERIOD_US
    assert len(gpus.samples(0)) <= MAX_SAMPLES


def test_memory_is_strict_and_says_what_is_free() -> None:
    gpus, _ = machine()
    handle = gpus.attach(1, 1, 0, 30 * MIB)
    with pytest.raises(OutOfMemory) as refusal:
        gpus.attach(2, 1, 0, 20 * MIB + 1)
    assert (refusal.value.asked, refusal.value.free) == (20 * MIB + 1, 20 * MIB)
    with pytest.raises(OutOfMemory):
        gpus.change(handle, 0, 50 * MIB + 1)
    assert gpus.processes(1) == [(1, 30 * MIB)]
    gpus.change(handle, 0, 50 * MIB)
    assert gpus.memory(1) == (50 * MIB, 50 * MIB, 0)
    gpus.detach(handle)
    assert gpus.memory(1) == (50 * MIB, 0, 50 * MIB)


def test_loads_that_cannot_be_are_refused() -> None:
    gpus, _ = machine()
    for sm, memory in ((101, 0), (-1, 0), (0, -1)):
        with pytest.raises(LabError):
            gpus.attach(1, 0, sm, memory)
    with pytest.raises(NoSuchLoad):
        gpus.detach(1)
    with pytest.raises(NoSuchLoad):
        gpus.change(1, 0, 0)


def test_gpus_are_found_by_index_uuid_its_beginning_and_bus() -> None:
    gpus, _ = machine()
    for word, index in (
        ("0", 0),
        ("1", 1),
        ("GPU-ab-2", 1),
        ("GPU-aa", 0),
        ("00000000:02:00.0", 1),
        ("0000:01:00.0", 0),
        ("01:00.0", 0),
    ):
        assert gpus.find(word) == index
    for word in ("2", "-1", "GPU-", "GPU-a", "GPU-zz", "", "aa", "0.0", "1:00.0", "MIG-aa"):
        with pytest.raises(NoSuchGpu):
            gpus.find(word)


def test_a_view_sees_and_counts_its_own_processes_alone() -> None:
    gpus, clock = machine()
    first = View(gpus, [(1, 20 * MIB)])
    second = View(gpus, [(1, 20 * MIB), (0, 50 * MIB)])
    whole = View(gpus, [(1, 10 * MIB)], whole_card_utilisation=True)
    assert (len(first), len(second)) == (1, 2)
    assert [second.spec(gpu).uuid for gpu in range(2)] == ["GPU-ab-2", "GPU-aa-1"]
    first.attach(9, 0, 60, 5 * MIB)
    second.attach(9, 0, 60, 6 * MIB)
    clock.now += 2 * PERIOD_US
    assert first.memory(0) == (20 * MIB, 5 * MIB, 15 * MIB)
    assert second.memory(0) == (20 * MIB, 6 * MIB, 14 * MIB)
    assert (first.processes(0), second.processes(0)) == ([(9, 5 * MIB)], [(9, 6 * MIB)])
    assert (first.utilisation(0)[0], second.utilisation(0)[0]) == (50, 50)
    assert (gpus.utilisation(1)[0], whole.utilisation(0)[0], second.utilisation(1)[0]) == (100, 100, 0)
    assert [sample.sm for sample in first.samples(0)] == [50]
    assert whole.processes(0) == []


def test_partitions_are_reserved_on_the_card_and_strict() -> None:
    gpus, _ = machine()
    view = View(gpus, [(0, 60 * MIB)])
    assert gpus.memory(0) == (100 * MIB, 60 * MIB, 40 * MIB)
    with pytest.raises(OutOfMemory):
        View(gpus, [(0, 41 * MIB)])
    with pytest.raises(OutOfMemory):
        gpus.attach(1, 0, 0, 41 * MIB)
    with pytest.raises(OutOfMemory) as refusal:
        view.attach(1, 0, 0, 61 * MIB)
    assert refusal.value.free == 60 * MIB
    # Nothing stays behind of a request that fitted on one GPU and not on the other.
    with pytest.raises(OutOfMemory):
        View(gpus, [(1, 1 * MIB), (0, 41 * MIB)])
    assert gpus.memory(1)[1] == 0
    for partitions in ([(0, 1), (0, 1)], [(0, 0)]):
        with pytest.raises(LabError):
            View(gpus, partitions)
    with pytest.raises(LabError):
        View(view, [(0, 1)])


def test_handles_are_of_the_view_that_gave_them() -> None:
    gpus, _ = machine()
    view = View(gpus, [(0, MIB)])
    own, other = view.attach(1, 0, 1, 0), gpus.attach(2, 0, 1, 0)
    with pytest.raises(NoSuchLoad):
        view.detach(other)
    with pytest.raises(NoSuchLoad):
        gpus.detach(own)


def test_a_closed_view_leaves_nothing() -> None:
    gpus, clock = machine()
    view = View(gpus, [(0, 60 * MIB), (1, 50 * MIB)])
    view.attach(1, 0, 50, 60 * MIB)
    view.attach(1, 1, 50, 50 * MIB)
    clock.now += 2 * PERIOD_US
    closed = []
    view.on_close.append(lambda: closed.append(1))
    view.close()
    view.close()
    assert closed == [1]
    assert [gpus.memory(gpu)[1] for gpu in range(2)] == [0, 0]
    assert [gpus.processes(gpu) for gpu in range(2)] == [[], []]
    assert len(view) == 0
    clock.now += 2 * PERIOD_US
    assert gpus.utilisation(0)[0] == 0
    View(gpus, [(0, 100 * MIB)])


@given(st.lists(st.tuples(gpu_index, sm_percent), min_size=1, max_size=12), st.integers(1, 5))
def test_the_views_of_a_card_add_up_to_the_card(loads: list[tuple[int, int]], views: int) -> None:
    gpus, clock = machine()
    parts = [View(gpus, [(0, MIB), (1, MIB)]) for _ in range(views)]
    for number, (gpu, sm) in enumerate(loads):
        parts[number % views].attach(number + 1, gpu, sm, 0)
    clock.now += 3 * PERIOD_US
    for gpu in range(2):
        declared = sum(sm for index, sm in loads if index == gpu)
        assert sum(part.utilisation(gpu)[0] for part in parts) == gpus.utilisation(gpu)[0] == min(100, declared)
        assert sum(part.utilisation(gpu)[1] for part in parts) == gpus.utilisation(gpu)[1]


def test_the_nearest_rule_decides_what_fails() -> None:
    gpus, _ = machine()
    gpus.fail(None, "all", "driver_mismatch")
    gpus.fail(0, "all", "gpu_is_lost")
    gpus.fail(0, "nvmlDeviceGetName", "slow", 30)
    assert gpus.failure(0, "nvmlDeviceGetName") == ("slow", 30)
    assert gpus.failure(0, "nvmlDeviceGetUUID") == ("gpu_is_lost", 0)
    assert gpus.failure(1, "nvmlDeviceGetName") == ("driver_mismatch", 0)
    assert gpus.failure(None, "nvmlInit") == ("driver_mismatch", 0)
    gpus.heal(0, "all")
    assert gpus.failure(0, "nvmlDeviceGetName") == ("driver_mismatch", 0)
    with pytest.raises(LabError):
        gpus.heal(0, "all")
    gpus.heal(None, "all")
    assert gpus.failures() == []


def test_a_failure_of_a_card_is_seen_in_its_views() -> None:
    gpus, _ = machine()
    view = View(gpus, [(1, MIB)])
    gpus.fail(1, "nvmlDeviceGetName", "gpu_is_lost")
    assert view.failure(0, "nvmlDeviceGetName") == ("gpu_is_lost", 0)
    assert gpus.failure(0, "nvmlDeviceGetName") is None


@pytest.mark.parametrize(("failure", "milliseconds"), [("on_fire", 0), ("slow", 0), ("not_found", 5)])
def test_failures_that_cannot_be_are_refused(failure: str, milliseconds: int) -> None:
    gpus, _ = machine()
    with pytest.raises(LabError):
        gpus.fail(0, "all", failure, milliseconds)
    assert gpus.failures() == []
