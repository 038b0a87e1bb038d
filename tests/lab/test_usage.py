"""Four jobs of known loads on one GPU: what the store says of each, and that all together is what the GPU did.

All places at once, since most of it is waiting: shards, MPS, parts by MIG, a GPU that loses a function in the middle,
and an agent that is killed in the middle.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from tests.lab import known_loads
from tests.lab.cluster import Cluster, until
from tests.lab.daemons import kill, start, start_those_that_are_down
from tests.lab.known_loads import GIB, PARTS, SHARES, Load

SECONDS = 30  # of each load
POINTS = 0.02
SAMPLE = 1.0  # seconds between two of the agent's
WITHOUT_AGENT = 4.0  # seconds


@dataclass(frozen=True)
class Place:
    """A GPU with four jobs."""

    node: str
    partition: str
    loads: Sequence[Load] = SHARES


PLACES = {
    "shard": Place("n1", "shard"),
    "function lost": Place("n2", "shard"),
    "mps": Place("m1", "mps"),
    "mig": Place("g1", "mig", PARTS),
    "agent killed": Place("h1", "hami"),
}
# The newest way to the use of processes, and the process list that MPS has besides.
LOST = ("nvmlDeviceGetProcessesUtilizationInfo", "nvmlDeviceGetGraphicsRunningProcesses")


@dataclass
class Measured:
    """What is known of a place after its jobs."""

    jobs: list[int]
    records: list[dict]
    truth: dict[str, float]  # what the node's GPUs did, by their own count
    hours: dict[str, float]  # what the agent put into the node's GPU hours


def _write_hours(lab: Cluster) -> None:
    """End the agents, which then write the hours that are not over, and begin anew."""
    for place in PLACES.values():
        kill(lab, f"agent {place.node}", "TERM")
        start(lab, f"agent {place.node}")
    for place in PLACES.values():
        until(f"what {place.node} has to send", lambda place=place: not known_loads.unsent(lab, place.node))


def _all(lab: Cluster) -> dict[str, tuple[dict, dict]]:
    return {
        name: (known_loads.truth(lab, place.node), known_loads.hours(lab, place.node)) for name, place in PLACES.items()
    }


def _difference(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {name: value - before.get(name, 0.0) for name, value in after.items()}


@pytest.fixture(scope="module")
def hopper(local_lab: Cluster) -> Iterator[None]:
    """The GPU with parts as one of Hopper, from which on the driver tells of them."""
    path, daemon, node = "/etc/lab/gpu-g1.json", "gpu-g1", PLACES["mig"].node
    before = local_lab.read(path)

    def restart(text: str) -> None:
        local_lab.run("sh", "-c", f"cat >{path}", stdin=text)
        kill(local_lab, daemon, "TERM")
        start(local_lab, daemon)
        until("the GPU", lambda: known_loads.control(local_lab, node, "snapshot", check=False))

    document = json.loads(before)
    restart(json.dumps(document | {"gpus": [gpu | {"capability": "9.0"} for gpu in document["gpus"]]}))
    yield
    restart(before)


@pytest.fixture(scope="module")
def measured(local_lab: Cluster, hopper: None) -> Iterator[dict[str, Measured]]:
    """The jobs of all places, run beside each other to their ends."""
    lab = local_lab
    jobs: dict[str, list[int]] = {}
    others: list[int] = []
    try:
        _write_hours(lab)
        before = _all(lab)
        for name, place in PLACES.items():
            blocked = place.loads is SHARES
            jobs[name], more = known_loads.submit(lab, place.node, place.partition, place.loads, SECONDS, blocked)
            others += more
        ours = [job for each in jobs.values() for job in each]
        for job in ours:
            lab.wait_running(job)
        time_to_act = time.monotonic() + SECONDS / 4
        until("some samples", lambda: time.monotonic() > time_to_act)
        for function in LOST:
            known_loads.control(lab, PLACES["function lost"].node, "fail", "all", function, "not_supported")
        kill(lab, f"agent {PLACES['agent killed'].node}")
        dead_until = time.monotonic() + WITHOUT_AGENT
        until("some seconds without an agent", lambda: time.monotonic() > dead_until)
        start(lab, f"agent {PLACES['agent killed'].node}")
        assert {lab.wait(job, 120) for job in ours} == {"COMPLETED"}
        lab.run("scancel", *map(str, others))
        for job in others:
            lab.wait(job)
        until("all records", lambda: len(known_loads.records(lab, ours + others)) >= len(ours + others))
        after = _all(lab)
        _write_hours(lab)
        for name in PLACES:
            after[name] = (after[name][0], known_loads.hours(lab, PLACES[name].node))
        yield {
            name: Measured(
                jobs[name], known_loads.records(lab, jobs[name]), *map(_difference, after[name], before[name])
            )
            for name in PLACES
        }
    finally:
        known_loads.control(lab, PLACES["function lost"].node, "heal", "all", "all", check=False)
        kill(lab, f"agent {PLACES['function lost'].node}", "TERM")
        start_those_that_are_down(lab, [f"agent {place.node}" for place in PLACES.values()])
        lab.run("scancel", "--user=alice")
        until("an empty queue", lambda: not lab.out("squeue", "-h"), 60)


@pytest.fixture(params=PLACES)
def name(request: pytest.FixtureRequest) -> str:
    """The name of a place."""
    return request.param


def _rows(measured: dict[str, Measured], name: str) -> Iterator[tuple[Load, dict]]:
    """Return each load with its one record."""
    found = measured[name]
    for job, load in zip(found.jobs, PLACES[name].loads, strict=True):
        (row,) = [row for row in found.records if row["job_id"] == job]
        yield load, row


def test_each_job_is_reported_with_what_it_did(measured: dict[str, Measured], name: str) -> None:
    for load, row in _rows(measured, name):
        # The loads of a part are percentages of the part.
        share = load.percent / 100 * (row["fraction"] if PLACES[name].loads is PARTS else 1.0)
        known = row["seconds_sampled"]
        # Where jobs come and go the processes' readings exceed the GPU's for a moment; and the first sample by another
        # function says nothing of the seconds before it.
        assert row["quality"] in ("measured", "estimated"), row
        # Of a part of a GPU there is only its own use, no process's.
        if name != "mig":
            assert abs(row["gpu_seconds_read"] - row["gpu_seconds_used"]) <= POINTS * known, row
        loaded = SECONDS - (row["ended"] - row["started"] - known if name == "agent killed" else 0)
        assert abs(row["gpu_seconds_used"] - share * loaded) <= POINTS * known, row
        assert abs(row["sm_mean"] - share * loaded / known) <= POINTS, row
        assert abs(row["sm_p50"] - share) <= POINTS and abs(row["sm_p95"] - share) <= POINTS, row
        assert row["gpu_seconds_used"] == pytest.approx(row["sm_mean"] * known, abs=1e-3)
        reserved = row["gpu_seconds_used"] + row["gpu_seconds_idle"] - row["gpu_seconds_over"]
        assert reserved == pytest.approx(row["fraction"] * known, abs=0.01)
        assert row["gpu_seconds_reserved"] == pytest.approx(row["fraction"] * (row["ended"] - row["started"]), abs=0.01)
        # Before and after the load the job has no process; a load of nothing is idle with one.
        without = row["fraction"] * max(0.0, known - loaded)
        assert abs(row["gpu_seconds_without_process"] - without) <= row["fraction"] * 2 * SAMPLE, row


def test_each_jobs_memory_is_reported_to_a_sample(measured: dict[str, Measured], name: str) -> None:
    for load, row in _rows(measured, name):
        span, size = row["ended"] - row["started"], load.gib * GIB
        known = row["seconds_sampled"]
        loaded = SECONDS - (span - known if name == "agent killed" else 0.0)
        assert row["memory_peak_bytes"] == size
        assert row["memory_p50_bytes"] == pytest.approx(size, rel=0.01)
        assert row["memory_p95_bytes"] == pytest.approx(size, rel=0.01)
        # One where the load begins, one where it ends, and likewise at both ends of the time without an agent.
        samples = 4 if name == "agent killed" else 2
        assert abs(row["memory_mean_bytes"] * known - size * loaded) <= samples * size * SAMPLE, row


def test_the_course_is_kept(measured: dict[str, Measured], name: str) -> None:
    for _, row in _rows(measured, name):
        course, span = row["series"], row["ended"] - row["started"]
        assert 0 < len(course["sm"]) == len(course["memory"]) <= 240
        assert course["every"] * (len(course["sm"]) - 1) < span + SAMPLE
        known = [sm for sm in course["sm"] if sm is not None]
        assert sum(known) / len(known) == pytest.approx(row["sm_mean"], abs=POINTS)


def test_the_sums_are_what_the_gpu_did(measured: dict[str, Measured], name: str) -> None:
    found = measured[name]
    hours = found.hours
    parts = ("jobs", "overhead", "unattributed")
    used = sum(hours[f"gpu_seconds_{part}"] for part in parts)
    assert used == pytest.approx(hours["gpu_seconds_used"], abs=0.01)
    assert sum(row["gpu_seconds_used"] for row in found.records) == pytest.approx(hours["gpu_seconds_jobs"], abs=0.01)
    joules = sum(hours[name] for name in ("energy_jobs_joules", "energy_overhead_joules", "energy_unattributed_joules"))
    assert joules == pytest.approx(hours["energy_joules"], abs=0.1)
    truth = found.truth["used"]
    missed = 0.7 * (WITHOUT_AGENT + 3 * SAMPLE) if name == "agent killed" else 0.0
    # A sample of all loads where they begin, and one where they end.
    edges = 2 * SAMPLE * sum(load.percent for load in PLACES[name].loads) / 100
    assert -edges - missed <= hours["gpu_seconds_used"] - truth <= edges


def test_only_the_time_without_an_agent_is_missing(measured: dict[str, Measured]) -> None:
    for _, row in _rows(measured, "agent killed"):
        (gap,) = row["gaps"]
        offset, seconds, why = gap
        assert why == "agent was down" and offset > 2 * SAMPLE
        assert WITHOUT_AGENT - SAMPLE <= seconds <= WITHOUT_AGENT + 5 * SAMPLE
        assert row["seconds_sampled"] == pytest.approx(row["ended"] - row["started"] - seconds, abs=SAMPLE)
    for name in set(PLACES) - {"agent killed"}:
        for _, row in _rows(measured, name):
            # Before its record was there prolog had the job alone.
            assert all(offset == 0 for offset, _, _ in row["gaps"]), row
