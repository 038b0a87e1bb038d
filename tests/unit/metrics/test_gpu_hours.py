import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.accounting.incoming import check_hour
from slurm_gpushare.gpu_hour import HOUR
from slurm_gpushare.metrics.attribution import Holder, Process, attribute
from slurm_gpushare.metrics.gpu_hours import GpuHours

T = 500_000 * HOUR  # an hour begins here


def interval(seconds=10.0, device=0.6, energy=1000.0):
    processes = [Process(1, "a", 0.3, 1), Process(2, None, 0.1, 1, overhead=True), Process(3, None, 0.1, 1)]
    return attribute(seconds, device, [Holder("a", 0.25, seconds)], processes, energy, 40.0)


@pytest.fixture
def hours():
    return GpuHours("n1", "node")


def test_an_hour_is_told_when_it_is_over_and_only_once(hours):
    for end in range(10, 3600, 10):
        hours.add("GPU-1", "Tesla", T + end, interval())
    assert hours.records("lab", T + 3599) == []
    (hour,) = hours.records("lab", T + 3600)
    assert (hour.cluster, hour.node, hour.gpu, hour.source, hour.hour) == ("lab", "n1", "GPU-1", "node", T)
    assert (hour.gpu_name, hour.seconds_sampled, hour.quality) == ("Tesla", 3590, "measured")
    assert hour.gpu_seconds_used == pytest.approx(0.6 * 3590) and hour.gpu_seconds_jobs == pytest.approx(0.3 * 3590)
    assert hour.gpu_seconds_overhead == pytest.approx(359) and hour.gpu_seconds_unattributed == pytest.approx(718)
    assert hour.gpu_seconds_reserved == pytest.approx(0.25 * 3590) and hour.energy_joules == 359000
    assert hours.records("lab", T + 3605) == [] and check_hour(hour) is hour


def test_an_interval_over_the_end_of_an_hour_is_shared_by_time(hours):
    hours.add("GPU-1", None, T + HOUR + 4, interval())
    first, second = hours.records("lab", T + HOUR + 5, open_too=True)
    assert (first.hour, first.seconds_sampled, second.hour, second.seconds_sampled) == (T, 6, T + HOUR, 4)
    assert first.gpu_seconds_used == pytest.approx(3.6) and second.energy_joules == pytest.approx(400)


def test_an_hour_that_the_clock_came_back_to_goes_on_and_is_told_again(hours):
    hours.add("GPU-1", None, T + 100, interval())
    assert hours.records("lab", T + HOUR)[0].seconds_sampled == 10
    hours.add("GPU-1", None, T + 100, interval())
    assert hours.records("lab", T + HOUR)[0].seconds_sampled == 20


def test_without_the_clusters_name_it_waits_for_two_days_at_most(hours):
    hours.add("GPU-1", None, T + 100, interval())
    hours.add("GPU-1", None, T + 40 * HOUR, interval())
    assert hours.records(None, T + 47 * HOUR) == []
    assert len(hours.records("lab", T + 50 * HOUR)) == 1
    assert hours.state() == hours.state() and len(hours.state()) == 1


def test_what_the_device_did_not_tell_is_null(hours):
    hours.add("GPU-1", None, T + 100, interval(device=None, energy=None))
    (hour,) = hours.records("lab", T + HOUR)
    assert hour.quality == "unknown" and hour.seconds_sampled == 0 and hour.gpu_seconds_reserved == 0
    assert {hour.gpu_seconds_used, hour.gpu_seconds_jobs, hour.energy_joules, hour.energy_jobs_joules} == {None}


def test_use_that_nobody_can_be_told_of_is_unattributed_and_the_quality_says_so(hours):
    hours.add("GPU-1", None, T + 100, attribute(10.0, 0.5, [Holder("a", 0.5, 10.0)], None))
    (hour,) = hours.records("lab", T + HOUR)
    assert (hour.gpu_seconds_used, hour.gpu_seconds_jobs, hour.gpu_seconds_unattributed) == (5, 0, 5)
    assert hour.quality == "unknown"


unit = st.none() | st.floats(0, 1)
JOBS = "abc"
steps = st.lists(
    st.tuples(
        st.floats(0.01, 5000),
        unit,
        st.none() | st.lists(st.tuples(st.none() | st.sampled_from(JOBS), unit, st.booleans()), max_size=5),
        st.none() | st.floats(0, 1e5),
    ),
    max_size=8,
)


@given(steps)
def test_every_hours_sums_are_conserved_and_all_hours_have_all(given_steps):
    hours, end, device, joules, seconds_known = GpuHours("n1", "node"), T + 1234.5, 0.0, 0.0, 0.0
    for seconds, sm, listed, energy in given_steps:
        processes = None
        if listed is not None:
            processes = [Process(number, job, each, 0, mps) for number, (job, each, mps) in enumerate(listed)]
        end += seconds
        one = attribute(seconds, sm, [Holder(job, 0.3, seconds) for job in JOBS], processes, energy, 30.0)
        hours.add("GPU-1", None, end, one)
        device += one.used or 0.0
        joules += energy or 0.0
        seconds_known += 0.0 if sm is None else seconds
        again = GpuHours("n1", "node")
        again.restore(json.loads(json.dumps(hours.state())))
        hours = again
    found = hours.records("lab", end, open_too=True)
    assert sum(hour.gpu_seconds_used or 0.0 for hour in found) == pytest.approx(device, abs=1e-4)
    assert sum(hour.energy_joules or 0.0 for hour in found) == pytest.approx(joules, abs=1e-4)
    assert sum(hour.seconds_sampled for hour in found) == pytest.approx(seconds_known, abs=1e-4)
    for hour in found:
        check_hour(hour)
        assert hour.seconds_sampled <= HOUR + 1e-6
        if hour.gpu_seconds_used is not None:
            parts = hour.gpu_seconds_jobs + hour.gpu_seconds_overhead + hour.gpu_seconds_unattributed
            assert parts == pytest.approx(hour.gpu_seconds_used, abs=1e-5)
        if hour.energy_joules is not None:
            parts = hour.energy_jobs_joules + hour.energy_overhead_joules + hour.energy_unattributed_joules
            assert parts == pytest.approx(hour.energy_joules, abs=1e-5)
