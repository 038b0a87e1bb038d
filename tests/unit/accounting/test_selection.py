"""Which runs, in a URL's query and back."""

import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.accounting.selection import JobRef, Selection, from_query, parse_jobs, to_query
from slurm_gpushare.errors import RequestError

TIME = st.floats(0, 2**40)


@given(
    st.tuples(TIME, TIME).map(sorted),
    st.none() | st.lists(st.from_regex(r"[^\s,]([^,]*[^\s,])?", fullmatch=True), min_size=1).map(tuple),
    st.none()
    | st.lists(st.builds(JobRef, st.integers(0, 10**9), st.none() | st.integers(0, 10**6)), min_size=1).map(tuple),
)
def test_there_and_back(times: list[float], users: tuple | None, jobs: tuple | None) -> None:
    selection = Selection(*times, users=users, jobs=jobs)
    query = dict(urllib.parse.parse_qsl(to_query(selection), keep_blank_values=True, strict_parsing=True))
    assert from_query(query) == selection


def test_jobs() -> None:
    assert parse_jobs("12, 13_4") == (JobRef(12), JobRef(13, 4))
    for text in ("", "12,", "x", "-1", "12.0", "12_", "1" * 19, "\u0661"):
        with pytest.raises(RequestError, match="no job's number"):
            parse_jobs(text)


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"start": "0"},
        {"start": "0", "end": "nan"},
        {"start": "-1", "end": "5"},
        {"start": "5", "end": "4"},
        {"start": "0", "end": "1e300"},
        {"start": "0", "end": "1", "uid": "0"},
        {"start": "0", "end": "1", "user": ""},
    ],
)
def test_what_is_wrong_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(RequestError):
        from_query(query)
