"""What the page draws, against sums that are made otherwise and figures that can be checked by hand."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.accounting.page_data import (
    MOST_GPUS,
    TIMELINE_BINS,
    bucket_seconds,
    course_bins,
    cube,
    heat_of_hours,
    heat_of_records,
    local_midnight,
    timeline,
    unit_of,
)
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.accounting.usage_report import BINS, pieces, summarise, tallies
from slurm_gpushare.gpu_hour import GpuHour
from tests.unit.accounting.month import GIB, RECORDS, RUNS, T, used

DAY = 86400.0
PIECES = pieces(RUNS, RECORDS, T + 1000)
BY = ("account", "user", "backend", "day")
moments = st.floats(0, 1100)


def hour(at: float, use: float | None, **changed: object) -> GpuHour:
    """Return an hour of GPU-1 of which 3600 s were sampled, half of it reserved."""
    values = dict.fromkeys(GpuHour.__dataclass_fields__) | {
        "cluster": "lab",
        "node": "n1",
        "gpu": "GPU-1",
        "source": "node",
        "hour": at,
        "seconds_sampled": 3600.0,
        "gpu_seconds_reserved": 1800.0,
        "gpu_seconds_used": use,
        "quality": "measured",
    }
    return GpuHour(**{**values, **changed})


@given(moments, moments)
def test_the_sums_of_the_page_are_those_of_the_usage_report(one: float, other: float) -> None:
    start, end = sorted((T + one, T + other))
    cells = cube(tallies(PIECES, BY, start, end, UTC))
    lines = summarise(PIECES, (), start, end, UTC)
    for name in ("reserved", "used", "idle", "over", "unmeasured"):
        expected = sum(getattr(line, f"gpu_seconds_{name}") or 0.0 for line in lines)
        assert math.fsum(cell[f"gpu_seconds_{name}"] for cell in cells) == pytest.approx(expected, abs=0.05)


@given(moments, moments)
def test_the_histogram_has_what_was_measured(one: float, other: float) -> None:
    start, end = sorted((T + one, T + other))
    for cell in cube(tallies(PIECES, BY, start, end, UTC)):
        measured = cell["gpu_seconds_reserved"] - cell["gpu_seconds_unmeasured"]
        assert len(cell["histogram"]) == BINS
        assert math.fsum(cell["histogram"]) == pytest.approx(measured, abs=0.05)


def test_cells_by_hand() -> None:
    cells = {
        (cell["account"], cell["user"]): cell for cell in cube(tallies(PIECES, (*BY[:3], "month"), T, T + 1000, UTC))
    }
    bob = cells["biology", "bob"]
    # Job 4: a quarter for 100 s, of which it used 0.6 of the GPU: 60 s of 25 s reserved.
    assert (bob["backend"], bob["unit"]) == ("shard", f"{datetime.fromtimestamp(T, UTC):%Y-%m}")
    assert (bob["gpu_seconds_reserved"], bob["gpu_seconds_used"], bob["gpu_seconds_over"]) == (25.0, 60.0, 35.0)
    assert bob["histogram"] == [0.0] * 20 + [25.0]


def test_long_times_are_told_by_months_and_in_wide_cells() -> None:
    assert (unit_of(0, 31 * DAY), unit_of(0, 365 * DAY)) == ("day", "month")
    assert bucket_seconds(0, DAY) == 3600.0
    assert bucket_seconds(0, 31 * DAY) == 12 * 3600.0
    assert bucket_seconds(0, 9999 * DAY) == 672 * 3600.0


def test_the_map_of_gpus_adds_hours_up(database_url: str) -> None:
    store = Store(database_url)
    begun = T // 3600 * 3600.0
    hours = [hour(begun - 3600.0, 1.0), hour(begun, 900.0), hour(begun + 3600.0, 2700.0)]
    hours += [hour(begun + 7200.0, None), hour(begun + 10800.0, 360.0), hour(begun + 14400.0, 1.0)]
    store.add_usage([*hours, hour(begun, 10.0, node="n2", gpu_name="Tesla")])
    found = heat_of_hours(store.hours_in(begun, begun + 14400.0, 7200.0), begun, 7200.0)
    store.close()
    columns = ("node", "model", "start", "sampled", "gpu_seconds_used", "gpu_seconds_reserved")
    assert [tuple(cell[name] for name in columns) for cell in found["cells"]] == [
        ("n1", None, begun, 7200.0, 3600.0, 3600.0),
        ("n1", None, begun + 7200.0, 3600.0, 360.0, 1800.0),
        ("n2", "Tesla", begun, 3600.0, 10.0, 1800.0),
    ]
    assert found["gpus_left_out"] == 0


def test_the_map_shows_the_gpus_that_were_reserved_most() -> None:
    sums = [("n1", f"GPU-{number}", None, 0, 3600.0, 1.0, float(number)) for number in range(MOST_GPUS + 3)]
    found = heat_of_hours(sums, 0.0, 3600.0)
    assert found["gpus_left_out"] == 3
    assert {f"GPU-{number}" for number in range(3)} & {cell["gpu"] for cell in found["cells"]} == set()


@given(moments, moments, st.sampled_from([60.0, 100.0, 3600.0]))
def test_the_map_of_runs_has_all_that_they_used(one: float, other: float, bucket: float) -> None:
    start, end = sorted((T + one, T + other))
    cells = heat_of_records(RECORDS, start, end, bucket)["cells"]
    expected = math.fsum(
        record.gpu_seconds_used
        * max(0.0, min(end, record.ended) - max(start, record.started))
        / (record.ended - record.started)
        for record in RECORDS
    )
    assert math.fsum(cell["gpu_seconds_used"] for cell in cells) == pytest.approx(expected, abs=0.05 * (len(cells) + 1))
    assert all(start - bucket < cell["start"] <= end for cell in cells)


@given(
    st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=300),
    st.floats(1, 600),
    st.floats(-5000, 5000),
    st.floats(10, 90000),
)
def test_what_is_drawn_of_a_course_is_what_was_used(sm: list, every: float, early: float, width: float) -> None:
    record = replace(used(1, 0, 1, 0.5), started=T + 0.0, ended=T + every * len(sm))
    course = {"every": every, "sm": sm, "memory": [None if value is None else GIB for value in sm]}
    start, end = T + early, T + early + width
    bins = course_bins(record, course, start, end)
    expected = math.fsum(
        value * max(0.0, min(end, T + (at + 1) * every) - max(start, T + at * every))
        for at, value in enumerate(sm)
        if value is not None
    )
    wide = width / TIMELINE_BINS
    assert math.fsum(use * wide for _, use, _, _ in bins) == pytest.approx(expected, abs=1e-3 + 1e-4 * width)
    assert all(0 <= at < TIMELINE_BINS and 0 <= known <= 1 for at, _, _, known in bins)
    assert [at for at, *_ in bins] == sorted({at for at, *_ in bins})


def test_jobs_of_one_gpu_lie_beside_each_other() -> None:
    records = [used(4, 0, 240, 0.5), used(5, 120, 240, 0.25), used(6, 0, 240, 0.1, gpu="GPU-2"), used(7, 300, 400, 1.0)]
    courses = {
        record.job_id: {"every": 60.0, "sm": [0.5] * 4 if record.job_id == 4 else [0.25] * 2, "memory": [GIB] * 4}
        | ({"memory": [GIB] * 2} if record.job_id != 4 else {})
        for record in records
    }
    del courses[6]
    told = {"user": "alice", "account": "physics"}
    found = timeline(
        records, lambda one: {"job": str(one.job_id), **told}, lambda one: courses.get(one.job_id), T, T + 240
    )
    assert [(gpu["gpu"], [job["job"] for job in gpu["jobs"]]) for gpu in found["gpus"]] == [
        ("GPU-1", ["4", "5"]),
        ("GPU-2", ["6"]),
    ]
    first, second = found["gpus"][0]["jobs"]
    assert first["points"][0] == [0, 0.5, GIB, 1.0] and len(first["points"]) == TIMELINE_BINS
    assert second["points"][0][0] == TIMELINE_BINS // 2
    assert found["gpus"][1]["jobs"][0]["points"] == []


def test_a_day_begins_at_local_midnight() -> None:
    zone = ZoneInfo("Europe/Berlin")
    noon = datetime(2026, 10, 25, 12, tzinfo=zone).timestamp()
    assert noon - local_midnight(noon, zone) == 13 * 3600
