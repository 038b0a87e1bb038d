"""Times as sacct takes them."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.slurm.times import parse_time

NOW = datetime(2026, 11, 22, 10, 30)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", datetime(2026, 1, 31)),
        ("2026-01-31T13:05", datetime(2026, 1, 31, 13, 5)),
        ("2026-01-31t13:05:09", datetime(2026, 1, 31, 13, 5, 9)),
        ("today", datetime(2026, 11, 22)),
        ("midnight", datetime(2026, 11, 22)),
        ("noon", datetime(2026, 11, 21, 12)),
        ("10:29", datetime(2026, 11, 22, 10, 29)),
        ("10:31", datetime(2026, 11, 21, 10, 31)),
        ("12:00AM", datetime(2026, 11, 22)),
        ("9:15pm", datetime(2026, 11, 21, 21, 15)),
        ("11/21", datetime(2026, 11, 21)),
        ("12/24", datetime(2025, 12, 24)),
        ("12/24/25-18:00", datetime(2025, 12, 24, 18)),
        ("1224", datetime(2025, 12, 24)),
        ("now", NOW),
        ("now-7days", NOW - timedelta(days=7)),
        ("now-2weeks", NOW - timedelta(weeks=2)),
        ("now+90", NOW + timedelta(seconds=90)),
        ("now-1h", NOW - timedelta(hours=1)),
    ],
)
def test_known_forms(text: str, moment: datetime) -> None:
    assert parse_time(text, NOW) == moment.timestamp()


@pytest.mark.parametrize("text", ["2026-02-30", "2026-13-01", "25:00", "13:00pm", "10:60", "0230", "2026-01-31T24:00"])
def test_what_does_not_exist_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        parse_time(text, NOW)


@pytest.mark.parametrize("text", ["", "tomorrow", "20261", "now-", "now-3fortnights", "2026-01-31 x"])
def test_what_is_no_time_says_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        parse_time(text, NOW)


@given(st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2037, 1, 1)))
def test_iso_is_read_as_python_writes_it(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    assert parse_time(moment.isoformat(), NOW) == moment.timestamp()


@given(st.text(max_size=20))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    try:
        assert parse_time(text, NOW) == parse_time(text, NOW)
    except ValueError as error:
        assert repr(text) in str(error)
