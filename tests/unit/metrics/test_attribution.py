import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.metrics.attribution import Holder, Process, attribute, energy_between
from slurm_gpushare.usage import ESTIMATED, MEASURED, UNKNOWN

GIB = 1 << 30


def test_four_jobs_on_one_gpu_get_what_their_processes_used():
    holders = [Holder(job, 0.25, 2.0) for job in "abcd"]
    processes = [
        Process(1, "a", 0.40, 4 * GIB),
        Process(2, "b", 0.15, 2 * GIB),
        Process(3, "b", 0.05, GIB),
        Process(4, "c", 0.10, GIB),
        Process(5, "d", 0.0, GIB),
    ]
    interval = attribute(2.0, 0.70, holders, processes, energy=200.0, idle_power=30.0)
    shares = interval.shares
    assert {job: round(share.used, 9) for job, share in shares.items()} == {"a": 0.8, "b": 0.4, "c": 0.2, "d": 0.0}
    assert [shares[job].reserved for job in "abcd"] == [0.5] * 4
    assert shares["a"].over == pytest.approx(0.3) and shares["a"].idle == 0
    assert shares["c"].idle == pytest.approx(0.3) and shares["c"].over == 0
    assert [shares[job].memory for job in "abcd"] == [4 * GIB, 3 * GIB, GIB, GIB]
    assert {share.quality for share in shares.values()} == {MEASURED}
    # 60 J are idle power, 15 J each; 140 J follow the SM time.
    assert shares["a"].energy == pytest.approx(15 + 140 * 4 / 7)
    assert shares["d"].energy == pytest.approx(15)
    assert interval.unattributed_used == pytest.approx(0)


def test_readings_above_the_devices_are_scaled_and_called_an_estimate():
    processes = [Process(1, "a", 0.9, 0), Process(2, "b", 0.3, 0)]
    interval = attribute(1.0, 0.6, [Holder("a", 0.5, 1.0), Holder("b", 0.5, 1.0)], processes)
    assert interval.shares["a"].used == pytest.approx(0.45)
    assert interval.shares["b"].used == pytest.approx(0.15)
    assert interval.readings == pytest.approx(1.2)
    assert interval.shares["a"].quality == ESTIMATED


def test_a_point_of_rounding_is_no_estimate():
    interval = attribute(1.0, 0.66, [Holder("a", 1.0, 1.0)], [Process(1, "a", 0.34, 0), Process(2, "a", 0.33, 0)])
    assert interval.shares["a"].quality == MEASURED
    assert interval.shares["a"].used == pytest.approx(0.66)


def test_a_process_of_no_job_leaves_its_part_unattributed():
    interval = attribute(1.0, 0.5, [Holder("a", 0.25, 1.0)], [Process(1, "a", 0.2, 1), Process(2, None, 0.3, 1)])
    assert interval.shares["a"].used == pytest.approx(0.2)
    assert interval.unattributed_used == pytest.approx(0.3)


def test_what_servers_of_mps_take_is_overhead_and_no_jobs():
    holders = [Holder("a", 0.5, 1.0), Holder("b", 0.5, 1.0)]
    processes = [Process(1, "a", 0.3, 1), Process(2, None, 0.1, 9, overhead=True), Process(3, None, 0.2, 1)]
    interval = attribute(1.0, 0.6, holders, processes, energy=130.0, idle_power=100.0)
    assert interval.overhead_used == pytest.approx(0.1) and interval.unattributed_used == pytest.approx(0.2)
    assert interval.overhead_energy == pytest.approx(5) and interval.shares["a"].energy == pytest.approx(50 + 15)
    assert interval.shares["b"].used == 0 and interval.shares["b"].without_process == 0.5


def test_a_server_of_mps_without_a_reading_hinders_no_estimate():
    processes = [Process(1, "a", None, 1), Process(2, None, None, 9, overhead=True)]
    interval = attribute(1.0, 0.6, [Holder("a", 0.5, 1.0)], processes)
    assert interval.shares["a"].used == pytest.approx(0.6) and interval.quality == ESTIMATED


def test_held_without_a_process_is_told_from_held_and_unused():
    holders = [Holder(job, 0.25, 2.0) for job in "abc"]
    shares = attribute(2.0, 0.1, holders, [Process(1, "a", 0.0, 5), Process(2, "b", 0.1, 5)]).shares
    assert [(shares[job].idle, shares[job].without_process) for job in "ac"] == [(0.5, 0.0), (0.5, 0.5)]
    assert shares["b"].idle == pytest.approx(0.3) and shares["b"].without_process == 0
    assert attribute(2.0, 0.0, holders, None).shares["a"].without_process is None


def test_the_readings_are_kept_as_they_were_before_they_were_scaled():
    processes = [Process(1, "a", 0.9, 0), Process(2, "b", 0.3, 0)]
    interval = attribute(2.0, 0.6, [Holder("a", 0.5, 2.0), Holder("b", 0.5, 2.0)], processes)
    assert [interval.shares[job].read for job in "ab"] == pytest.approx([1.8, 0.6])
    assert attribute(1.0, 0.6, [Holder("a", 0.5, 1.0)], [Process(1, "a", None, 0)]).shares["a"].read is None


def test_what_is_not_known_says_why():
    holders = [Holder("a", 0.5, 1.0)]
    assert "no utilisation" in attribute(1.0, None, holders, []).shares["a"].why
    assert "no processes" in attribute(1.0, 0.5, holders, None).shares["a"].why
    strange = attribute(1.0, 0.5, holders, [Process(1, "a", None, 1), Process(2, None, None, 1)])
    assert "not all are of its jobs" in strange.shares["a"].why
    assert attribute(1.0, 0.5, holders, []).shares["a"].why is None


def test_without_a_device_value_nothing_is_made_up():
    share = attribute(1.0, None, [Holder("a", 0.25, 1.0)], [Process(1, "a", 0.2, 7)], energy=50.0).shares["a"]
    assert (share.used, share.idle, share.over, share.energy) == (None, None, None, None)
    assert share.reserved == 0.25 and share.memory == 7 and share.quality == UNKNOWN


def test_without_process_readings_the_device_is_divided_among_jobs_with_a_process():
    holders = [Holder("a", 0.5, 1.0), Holder("b", 0.25, 1.0), Holder("c", 0.25, 1.0)]
    processes = [Process(1, "a", None, 1), Process(2, "b", None, 1)]
    shares = attribute(1.0, 0.9, holders, processes).shares
    assert shares["a"].used == pytest.approx(0.6) and shares["b"].used == pytest.approx(0.3) and shares["c"].used == 0
    assert shares["a"].quality == ESTIMATED


@pytest.mark.parametrize("processes", [None, [Process(1, "a", None, 1), Process(2, None, None, 1)]])
def test_a_busy_gpu_whose_user_cannot_be_told_is_unknown_for_a_part_holder(processes):
    share = attribute(1.0, 0.9, [Holder("a", 0.5, 1.0)], processes).shares["a"]
    assert share.used is None and share.quality == UNKNOWN


def test_an_idle_gpu_needs_no_process_readings():
    share = attribute(1.0, 0.0, [Holder("a", 0.5, 1.0)], None).shares["a"]
    assert share.used == 0 and share.idle == 0.5 and share.quality == MEASURED


def test_memory_is_unknown_when_one_process_has_none_to_tell():
    processes = [Process(1, "a", 0.1, GIB), Process(2, "a", 0.1, None)]
    assert attribute(1.0, 0.2, [Holder("a", 0.5, 1.0)], processes).shares["a"].memory is None


def test_a_job_that_came_in_the_middle_gets_its_part_of_the_interval():
    interval = attribute(2.0, 0.5, [Holder("a", 0.25, 0.5)], [Process(1, "a", 0.5, 1)])
    assert interval.shares["a"].reserved == 0.125
    assert interval.shares["a"].used == pytest.approx(0.25)
    assert interval.unattributed_used == pytest.approx(0.75)


def test_a_process_that_came_and_went_is_all_its_jobs():
    processes = [Process(1, "a", 0.2, GIB, ended=True), Process(2, "b", 0.1, 5), Process(3, "a", 0.1, 2, ended=True)]
    interval = attribute(5.0, 0.4, [Holder("a", 0.25, 2.0), Holder("b", 0.25, 5.0)], processes)
    assert interval.shares["a"].used == pytest.approx(1.5) and interval.shares["a"].read == pytest.approx(1.5)
    assert interval.shares["a"].memory == GIB  # the two were not there together
    assert interval.unattributed_used == pytest.approx(0.0)
    assert interval.shares["a"].quality == MEASURED


def test_energy_is_the_counters_difference_or_else_mean_power():
    assert energy_between(2.0, (100.0, 10.0), (150.0, 999.0)) == 50
    assert energy_between(2.0, (None, 10.0), (None, 30.0)) == 40
    assert energy_between(2.0, (500.0, 10.0), (3.0, 30.0)) == 40  # the driver was loaded again
    assert energy_between(2.0, (500.0, None), (3.0, 30.0)) is None


JOBS = "abcde"
unit = st.floats(0, 1, allow_nan=False)
memory = st.none() | st.integers(0, 80 * GIB)
process = st.tuples(st.none() | st.sampled_from(JOBS), st.none() | unit, memory, st.booleans(), st.booleans())
# So that most lists have readings of all: one without makes an estimate of the whole.
read = st.tuples(st.none() | st.sampled_from(JOBS), unit, memory, st.booleans(), st.booleans())


@given(
    seconds=st.floats(0.01, 60),
    device=st.none() | unit,
    held=st.dictionaries(st.sampled_from(JOBS), st.tuples(st.floats(0.01, 1), unit), max_size=5),
    processes=st.none() | st.lists(process, max_size=8) | st.lists(read, max_size=8),
    energy=st.none() | st.floats(0, 1e5),
    idle_power=st.none() | st.floats(0, 1000),
)
def test_sums_are_conserved(seconds, device, held, processes, energy, idle_power):
    holders = [Holder(job, fraction, part * seconds) for job, (fraction, part) in held.items()]
    listed = None if processes is None else [Process(number, *values) for number, values in enumerate(processes)]
    interval = attribute(seconds, device, holders, listed, energy, idle_power)

    def conserved(parts, overhead, rest, whole):
        if whole is None:
            return rest is None and overhead is None and all(part is None for part in parts)
        total = sum(part for part in parts if part is not None) + overhead + rest
        low = -1e-9 * max(1.0, whole)
        return math.isclose(total, whole, rel_tol=1e-9, abs_tol=1e-9) and rest >= low and overhead >= 0

    shares = interval.shares.values()
    assert conserved([each.used for each in shares], interval.overhead_used, interval.unattributed_used, interval.used)
    energies = [share.energy for share in shares]
    assert conserved(energies, interval.overhead_energy, interval.unattributed_energy, interval.energy)
    if device is None:
        assert {share.used for share in shares} | {share.energy for share in shares} <= {None}
    if interval.readings is not None and interval.readings > interval.used + (len(listed) + 1) * 0.005 * seconds:
        assert interval.quality == ESTIMATED
    for share in shares:
        assert (share.why is not None) == (share.used is None)
        if share.without_process is not None:
            assert 0 <= share.without_process <= share.idle
        if share.read is not None:
            assert share.used <= share.read + 1e-9
        assert (share.used is None) == (share.idle is None) == (share.over is None) == (share.quality == UNKNOWN)
        if share.used is not None:
            assert share.used >= 0 and share.idle >= 0 and share.over >= 0
            assert math.isclose(share.reserved - share.idle + share.over, share.used, abs_tol=1e-9)
