"""Which runs, in a URL's query and back."""

import urllib.parse
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.accounting.selection import (
    STATES,
    JobRef,
    Selection,
    from_query,
    parse_jobs,
    parse_states,
    to_query,
)
from slurm_gpushare.errors import RequestError

TIME = st.floats(0, 2**40)


NAMES = st.none() | st.lists(st.from_regex(r"[^\s,]([^,]*[^\s,])?", fullmatch=True), min_size=1).map(tuple)


@given(
    st.tuples(TIME, TIME).map(sorted),
    NAMES,
    st.none()
    | st.lists(
        st.builds(JobRef, st.integers(0, 10**9), st.none() | st.integers(0, 10**6))
        | st.builds(JobRef, st.integers(0, 10**9), st.none(), st.integers(0, 99)),
        min_size=1,
    ).map(tuple),
    NAMES,
    NAMES,
    st.none() | st.lists(st.sampled_from(sorted(STATES.values())), min_size=1).map(tuple),
)
def test_there_and_back(
    times: list[float],
    users: tuple | None,
    jobs: tuple | None,
    accounts: tuple | None,
    partitions: tuple | None,
    states: tuple | None,
) -> None:
    selection = Selection(*times, users=users, jobs=jobs, accounts=accounts, partitions=partitions, states=states)
    query = dict(urllib.parse.parse_qsl(to_query(selection), keep_blank_values=True, strict_parsing=True))
    assert from_query(query) == selection


def test_jobs() -> None:
    assert parse_jobs("12, 13_4,14+0") == (JobRef(12), JobRef(13, 4), JobRef(14, None, 0))
    for text in ("", "12,", "x", "-1", "12.0", "12_", "1" * 19, "\u0661"):
        with pytest.raises(RequestError, match="no job's number"):
            parse_jobs(text)


def test_states_as_slurm_writes_them() -> None:
    assert parse_states("failed,TO") == ("FAILED", "TIMEOUT")
    with pytest.raises(RequestError, match="'PENDING' is none of a job that had a GPU"):
        parse_states("pending")


def test_which_runs_are_taken() -> None:
    run = SimpleNamespace(account="physics", partition="shard", state="FAILED")
    assert Selection(0, 1).takes(run)
    assert Selection(0, 1, accounts=("biology", "physics"), states=("FAILED",)).takes(run)
    assert not Selection(0, 1, accounts=("physics",), partitions=("mps",)).takes(run)
    assert not Selection(0, 1, accounts=("physics",)).takes(SimpleNamespace(account=None, partition=None, state=None))


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
        {"start": "0", "end": "1", "state": "lost"},
    ],
)
def test_what_is_wrong_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(RequestError):
        from_query(query)
