import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.accounting.incoming import check
from slurm_gpushare.metrics.accumulate import Accumulator
from slurm_gpushare.metrics.attribution import Holder, Process, attribute
from slurm_gpushare.metrics.readings import GpuReading
from slurm_gpushare.usage import ESTIMATED, MEASURED, UNKNOWN

from .records import launch


def add(sums, times, device, sm, seconds=1.0, **more):
    for _ in range(times):
        processes = [Process((1, 1), 1, sm, more.get("memory", 100))]
        sums.add(attribute(seconds, device, [Holder(1, 0.25, seconds)], processes, more.get("energy"), 10).shares[1])


@pytest.fixture
def sums():
    return Accumulator(launch(1), "GPU-1", 0, "shard", 0.25, "node")


def test_sums_over_intervals(sums):
    add(sums, 6, 0.5, 0.5, energy=50.0)
    add(sums, 4, 0.0, 0.0, energy=10.0, memory=40)
    record = sums.record(1010.0)
    assert (record.started, record.ended, record.seconds_sampled, record.coverage) == (1000.0, 1010.0, 10.0, 1.0)
    assert record.gpu_seconds_reserved == 2.5
    assert record.gpu_seconds_used == 3.0 and record.gpu_seconds_over == 1.5 and record.gpu_seconds_idle == 1.0
    assert record.energy_joules == 6 * (2.5 + 40) + 4 * 2.5
    assert record.memory_peak_bytes == 100 and record.processes_seen == 1 and record.quality == MEASURED


def test_means_percentiles_and_the_course(sums):
    for memory, sm, times in ((100 << 20, 0.0, 50), (300 << 20, 0.4, 40), (500 << 20, 1.0, 10)):
        add(sums, times, sm, sm, memory=memory)
    record = sums.record(1100.0)
    assert (record.sm_mean, record.sm_p50, record.sm_p95, record.sm_max) == (0.26, 0.0, 1.0, 1.0)
    assert record.memory_mean_bytes == 220 << 20 and record.memory_peak_bytes == 500 << 20
    assert record.memory_p50_bytes == pytest.approx(100 << 20, rel=0.01)
    assert record.memory_p95_bytes == pytest.approx(500 << 20, rel=0.01) and record.memory_p95_bytes <= 500 << 20
    assert record.series["every"] == 1 and record.series["sm"][49:51] == [0.0, 0.4] and len(record.series["sm"]) == 100
    assert record.gaps == [] and check(record) is record


def test_held_without_a_process_and_what_was_read(sums):
    for processes in ([], [Process((1, 1), 1, 0.5, 1), Process((2, 1), None, 0.5, 1)]):
        sums.add(attribute(1.0, 0.5, [Holder(1, 0.25, 1.0)], processes).shares[1])
    record = sums.record(1002.0)
    assert record.gpu_seconds_without_process == 0.25 and record.gpu_seconds_idle == 0.25
    assert record.gpu_seconds_read == 0.5 and record.gpu_seconds_used == 0.25
    # Of this second the process's own reading is not known, so that there is no sum of readings any more.
    sums.add(attribute(1.0, 0.5, [Holder(1, 0.25, 1.0)], [Process((1, 1), 1, None, 1)]).shares[1])
    record = sums.record(1003.0)
    assert record.gpu_seconds_read is None and record.gpu_seconds_used == 0.75


def test_gaps_tell_when_and_why(sums):
    share = attribute(1.0, 0.5, [Holder(1, 0.25, 1.0)], []).shares[1]
    unknown = attribute(1.0, None, [Holder(1, 0.25, 1.0)], []).shares[1]
    sums.because("agent was down")
    sums.add(share, 5.0)
    for at in (6.0, 7.0, 8.0):
        sums.add(unknown, at)
    sums.add(share, 9.0)
    assert sums.record(1012.0).gaps == [
        [0, 4, "agent was down"],
        [5, 3, "GPU tells no utilisation"],
        [9, 3, "not sampled"],
    ]


def test_the_memory_of_the_share_is_the_grants_else_its_part_of_the_gpu(sums):
    def reading(total, part=False):
        return GpuReading(0, 0, "GPU-9", "Tesla", total, 1.0, None, None, None, None, part=part)

    assert sums.record(1001.0).memory_share_bytes is None
    sums.describe(reading(None))
    sums.describe(reading(16 << 30))
    assert (sums.gpu, sums.gpu_name, sums.record(1001.0).memory_share_bytes) == ("GPU-9", "Tesla", 4 << 30)
    part = Accumulator(launch(1), "GPU-1", 0, "mig", 0.25, "node")
    part.describe(reading(10 << 30, part=True), "/1")
    assert (part.gpu, part.record(1001.0).memory_share_bytes) == ("GPU-9/1", 10 << 30)
    job = launch(1)
    granted = job._replace(grant=job.grant._replace(memory=3 << 30))
    given = Accumulator(granted, "GPU-1", 0, "shard", 0.25, "node")
    given.describe(reading(16 << 30))
    assert given.record(1001.0).memory_share_bytes == 3 << 30


unit = st.none() | st.floats(0, 1)
step = st.tuples(st.floats(0.01, 20), unit, unit, st.none() | st.integers(0, 1 << 40), st.floats(0, 30), st.booleans())


def feed(sums, steps, at=0.0):
    for seconds, device, sm, memory, pause, there in steps:
        processes = [Process((1, 7), 1, sm, memory)] if there else []
        at += pause + seconds
        if pause > 15:
            sums.because("a reason")
        sums.add(attribute(seconds, device, [Holder(1, 0.25, seconds)], processes, 9.0, 1.0).shares[1], at)
    return at


@given(st.lists(step, max_size=12), st.lists(step, max_size=12), st.lists(step, max_size=12))
def test_an_accumulator_goes_on_from_its_state_and_its_news(first, second, third):
    """Whatever is measured, what the next agent makes of it is what this one would have made."""
    sums = Accumulator(launch(1), "GPU-1", 0, "shard", 0.25, "node")
    at = feed(sums, first)
    again = Accumulator(launch(1), "GPU-other", 0, "shard", 0.25, "node")
    state = json.loads(json.dumps(sums.state()))
    sums.news()
    at = feed(sums, second, at)
    again.restore(state)
    again.replay(json.loads(json.dumps(sums.news())))
    assert sums.news() == [] == again.news()
    ended = 1000 + feed(sums, third, at)
    feed(again, third, at)
    # A reason for the present gap is given again by whoever goes on.
    again.because("a reason"), sums.because("a reason")
    assert again.record(ended) == sums.record(ended)
    record = sums.record(ended)
    assert check(record) is record
    if record.sm_mean is not None:
        assert 0 <= record.sm_p50 <= record.sm_p95 <= record.sm_max <= 1 and record.sm_mean <= record.sm_max + 1e-6


def test_without_a_sample_all_but_the_reservation_is_unknown(sums):
    record = sums.record(1100.0)
    assert record.gpu_seconds_reserved == 25.0 and record.quality == UNKNOWN and record.coverage == 0
    unknown = ("gpu_seconds_used", "gpu_seconds_idle", "gpu_seconds_over", "memory_peak_bytes", "energy_joules")
    assert {getattr(record, name) for name in (*unknown, "processes_seen")} == {None}


def test_an_unknown_interval_is_a_gap_and_not_idle(sums):
    add(sums, 5, 0.5, 0.5)
    add(sums, 5, None, 0.5)
    record = sums.record(1010.0)
    assert record.gpu_seconds_used == 2.5 and record.gpu_seconds_idle == 0 and record.coverage == 0.5


def test_quality_follows_what_most_of_the_time_was(sums):
    add(sums, 1, 0.2, 0.5)
    assert sums.record(1001.0).quality == ESTIMATED
    add(sums, 200, 0.5, 0.5)
    assert sums.record(1201.0).quality == MEASURED


def test_an_end_before_the_start_is_no_negative_time(sums):
    record = sums.record(900.0)
    assert record.ended == record.started and record.gpu_seconds_reserved == 0


def test_what_held_the_job_is_what_prolog_found_else_what_its_backend_declares(sums):
    assert sums.record(1001.0).enforces == "memory=none,compute=none,faults=none"
    found = {"memory": "enforced", "compute": "advisory", "faults": "none"}
    job = launch(1)._replace(options={"enforces": found})
    record = Accumulator(job, "GPU-1", 0, "shard", 0.25, "node").record(1001.0)
    assert record.enforces == "memory=enforced,compute=advisory,faults=none"
    assert Accumulator(launch(1), "GPU-1", 0, "newer", 0.25, "node").record(1001.0).enforces is None
