import pytest

from slurm_gpushare.metrics.accumulate import Accumulator
from slurm_gpushare.metrics.attribution import Holder, Process, attribute
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
