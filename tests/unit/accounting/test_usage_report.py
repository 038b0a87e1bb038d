"""Sums by group and by calendar of the history made by hand; no cut loses or doubles anything."""

import math
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.accounting.dimensions import BY, CALENDAR, parse_by
from slurm_gpushare.accounting.usage_report import calendar, clip, pieces, summarise
from slurm_gpushare.errors import RequestError
from tests.unit.accounting import month
from tests.unit.accounting.month import T, run, used

NOW = T + 1000
BERLIN = ZoneInfo("Europe/Berlin")
# The last two change their clocks at midnight.
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "America/Havana", "Africa/Cairo"]).map(ZoneInfo)


def lines(by: tuple[str, ...], start: float = T, end: float = NOW, zone=None) -> dict[tuple, tuple]:
    found = summarise(pieces(month.RUNS, month.RECORDS, NOW), by, start, end, zone)
    return {
        tuple(line.group.values()): (
            line.runs,
            line.gpu_seconds_reserved,
            line.gpu_seconds_used,
            line.gpu_seconds_unmeasured,
        )
        for line in found
    }


def test_by_account() -> None:
    # physics: job 1 25 + 50, 2 and 3 25 each, 5 200, and unmeasured 6 120 and 7 25; used 10 + 100 + 20 + 20 + 200.
    assert lines(("account",)) == {("physics",): (7, 470, 350, 145), ("biology",): (1, 25, 60, 0)}


def test_by_user_and_node() -> None:
    assert lines(("user", "node")) == {
        ("alice", "n1"): (6, 250, 250, 25),
        ("alice", "n2"): (1, 100, 100, 0),
        ("alice", None): (1, 120, None, 120),  # a whole GPU on each of two nodes
        ("bob", "n1"): (1, 25, 60, 0),
    }


def test_a_part_of_the_time_has_its_part_of_the_sums() -> None:
    # Half of 2, 3 and 4, whose 100 seconds begin at 400.
    assert lines(("account",), T + 450, T + 550) == {("physics",): (2, 25, 20, 0), ("biology",): (1, 12.5, 30, 0)}
    assert lines(("account",), T + 350, T + 400) == {}


def test_all_of_it_in_one_line() -> None:
    assert lines(("cluster",)) == {("lab",): (8, 495, 410, 145)}


def test_the_rest_of_a_line() -> None:
    biology = summarise(pieces(month.RUNS, month.RECORDS, NOW), ("account",), T, NOW)[1]
    assert (biology.gpu_seconds_idle, biology.gpu_seconds_over, biology.energy_joules) == (0, 35, 1000)
    assert biology.used_of_reserved == 2.4


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


def test_a_job_over_midnight_and_over_the_end_of_summer_time() -> None:
    # Saturday 20:00 to Sunday 20:00, in which night clocks went back: 25 hours.
    start, end = at("2026-10-24T20:00"), at("2026-10-25T20:00")
    seconds = end - start
    assert seconds == 25 * 3600
    found = pieces([run(1, start - T, end - T)], [used(1, start - T, end - T, 0.5)], NOW)
    days = summarise(found, ("day",), 0, NOW, BERLIN)
    assert [(line.group["day"], line.gpu_seconds_reserved, line.gpu_seconds_used) for line in days] == [
        ("2026-10-24", 3600, 7200),
        ("2026-10-25", 0.25 * 21 * 3600, 0.5 * 21 * 3600),
    ]
    assert [line.group["week"] for line in summarise(found, ("week",), 0, NOW, BERLIN)] == ["2026-10-19"]
    assert [line.group["month"] for line in summarise(found, ("month",), 0, NOW, BERLIN)] == ["2026-10"]


def test_use_that_slurm_does_not_tell_of_is_its_users() -> None:
    found = pieces([], [used(99, 0, 100, 0.1)], NOW)
    (line,) = summarise(found, ("user", "account"), T, NOW)
    assert line.group == {"user": "alice", "account": None} and line.gpu_seconds_used == 10


@given(
    st.lists(
        st.tuples(st.floats(0, 4e8), st.floats(0, 4e6), st.one_of(st.none(), st.floats(0, 1))), min_size=1, max_size=5
    ),
    st.sampled_from(CALENDAR),
    ZONES,
)
def test_calendars_conserve_every_sum(history: list, unit: str, zone: ZoneInfo) -> None:
    records = [used(job, begin, begin + length, share) for job, (begin, length, share) in enumerate(history)]
    for piece in pieces([], records, NOW):
        parts = [part for _, part in calendar(piece, unit, zone)]
        names = [name for name, _ in calendar(piece, unit, zone)]
        assert names == sorted(names)
        assert parts[0].start == piece.start and parts[-1].end == piece.end
        assert all(one.end == other.start for one, other in pairwise(parts))
        for amount in ("reserved", "used", "energy"):
            whole = getattr(piece, amount)
            if whole is not None:
                assert math.fsum(getattr(part, amount) for part in parts) == pytest.approx(whole, rel=1e-6, abs=1e-6)


@given(st.floats(0, 1000), st.floats(0, 1000))
def test_two_parts_of_a_time_are_the_whole(middle: float, length: float) -> None:
    (piece,) = pieces([], [used(1, 0, length, 0.3)], NOW)
    parts = [part for part in (clip(piece, T - 1, T + middle), clip(piece, T + middle, T + 2000)) if part]
    assert math.fsum(part.used for part in parts) == pytest.approx(piece.used, rel=1e-6, abs=1e-4)


def test_what_can_be_summed_by() -> None:
    assert parse_by("account, month") == ("account", "month")
    assert set(BY) >= {"user", "account", "partition", "qos", "gpu", "backend", "node", "day", "week", "month"}


@pytest.mark.parametrize("text", ["", "colour", "user,user", "day,month", "account;user"])
def test_what_cannot(text: str) -> None:
    with pytest.raises(RequestError, match=r"write|at most once"):
        parse_by(text)
