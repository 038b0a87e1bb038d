"""The service's part of the page, from a store: what it gathers, and that nobody gets more than they may see."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from slurm_gpushare.accounting.page_report import page
from slurm_gpushare.accounting.selection import JobRef, Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.errors import RequestError
from tests.unit.accounting.month import GIB, RECORDS, RUNS, T
from tests.unit.accounting.test_page_data import hour

ALL = Selection(T, T + 2000)
ALICE = replace(ALL, uid=1001)
BOB = replace(ALL, uid=1002)
PARTS = {"parts": "sums,heat,timeline"}


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store with the small month, courses, and an hour of a GPU."""
    opened = Store(database_url)
    opened.add_jobs(RUNS)
    course = {"every": 50.0, "sm": [0.2, 0.4], "memory": [GIB, 2 * GIB]}
    opened.add_usage([replace(record, series=course) for record in RECORDS])
    opened.add_usage([hour(T // 3600 * 3600.0, 1800.0)])
    yield opened
    opened.close()


def users(answer: dict) -> set[str]:
    """Return all users that an answer names."""
    jobs = [job for gpu in (answer["timeline"] or {"gpus": []})["gpus"] for job in gpu["jobs"]]
    return {line["user"] for line in answer["sums"]["lines"]} | {job["user"] for job in jobs}


def test_who_sees_all_gets_all(store: Store) -> None:
    answer = page(store, ALL, PARTS)
    assert users(answer) == {"alice", "bob"}
    assert answer["heat"]["of"] == "gpus"
    assert [cell["gpu_seconds_used"] for cell in answer["heat"]["cells"]] == [1800.0]
    jobs = {job["job"] for gpu in answer["timeline"]["gpus"] for job in gpu["jobs"]}
    assert jobs == {"1", "2_6", "2_7", "4", "5"}


def test_others_get_their_own_alone(store: Store) -> None:
    answer = page(store, BOB, PARTS)
    assert users(answer) == {"bob"} | {line["user"] for line in answer["sums"]["lines"] if line["user"] == "alice"}
    jobs = {job["job"] for gpu in answer["timeline"]["gpus"] for job in gpu["jobs"]}
    assert jobs == {"4"}
    assert answer["heat"]["of"] == "runs"
    # Job 4 used 60 s of GPU-1; what alice used beside it does not show.
    assert [(cell["gpu"], cell["gpu_seconds_used"]) for cell in answer["heat"]["cells"]] == [("GPU-1", 60.0)]


def test_a_coordinator_sees_the_account(store: Store) -> None:
    answer = page(store, replace(ALL, uid=4711, accounts_seen=("biology",)), PARTS)
    jobs = {job["job"] for gpu in answer["timeline"]["gpus"] for job in gpu["jobs"]}
    assert jobs == {"4"}


def test_who_shared_the_gpu_of_a_job_is_there_only_for_who_may_see_it(store: Store) -> None:
    of_job = replace(ALL, start=0.0, jobs=(JobRef(4),))
    everybody = page(store, of_job, {"parts": "timeline"})["timeline"]
    assert [[job["job"] for job in gpu["jobs"]] for gpu in everybody["gpus"]] == [["2_7", "4"]]
    assert (everybody["start"], everybody["end"]) == (T + 400, T + 500)
    bob = page(store, replace(of_job, uid=1002), {"parts": "timeline"})["timeline"]
    assert [[job["job"] for job in gpu["jobs"]] for gpu in bob["gpus"]] == [["4"]]
    assert page(store, replace(of_job, uid=1001), {"parts": "timeline"})["timeline"] is None


def test_what_was_chosen_is_what_is_drawn(store: Store) -> None:
    answer = page(store, replace(ALL, accounts=("biology",)), PARTS)
    assert {line["account"] for line in answer["sums"]["lines"]} == {"biology"}
    assert answer["heat"]["of"] == "runs"
    assert {job["job"] for gpu in answer["timeline"]["gpus"] for job in gpu["jobs"]} == {"4"}


def test_a_time_without_anything(store: Store) -> None:
    answer = page(store, Selection(T - 9000, T - 8000), PARTS)
    assert answer["sums"]["lines"] == [] and answer["timeline"] is None
    assert answer["heat"]["cells"] == []


def test_the_timeline_is_found_long_ago(store: Store) -> None:
    answer = page(store, Selection(0.0, T + 400 * 86400.0), {"parts": "timeline"})
    drawn = answer["timeline"]
    assert drawn["start"] <= T + 400 and drawn["end"] >= T + 700 and drawn["end"] - drawn["start"] <= 86400


def test_a_part_that_is_none_is_refused(store: Store) -> None:
    with pytest.raises(RequestError, match="'pie'"):
        page(store, ALL, {"parts": "sums,pie"})
