"""Everything on one job, of the history whose figures can be checked by hand."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.accounting.job_answer import MOST_COURSES
from slurm_gpushare.accounting.job_report import MOST_NAMED, gpu_part, is_one_gpu, job_runs, sharers
from slurm_gpushare.accounting.report import KEYS
from slurm_gpushare.accounting.reports import REPORTS
from slurm_gpushare.accounting.selection import JobRef, Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.errors import RequestError
from tests.unit.accounting import month
from tests.unit.accounting.month import T, grant, run, used

EVERYTHING = Selection(0, T + 10**6)


def all_see(uid: int | None, account: str | None) -> bool:
    return True


def test_each_run_of_a_requeued_job_has_its_own() -> None:
    first, second = job_runs(month.REQUEUED, month.REQUEUED_USE)
    assert [one["state"] for one, _ in (first, second)] == ["REQUEUED", "COMPLETED"]
    assert [one["wait_seconds"] for one, _ in (first, second)] == [10, 5]
    assert [one["gpu_seconds_used"] for one, _ in (first, second)] == [10.0, 100.0]
    assert [parts for _, parts in (first, second)] == [[one] for one in month.REQUEUED_USE]
    assert tuple(first[0])[: len(KEYS)] == KEYS


def test_a_job_is_named_as_slurm_does() -> None:
    named = job_runs([*month.ARRAY, run(21, 0, 9, het_job_id=20, het_offset=1)], [])
    assert sorted(one["job"] for one, _ in named) == ["20+1", "2_6", "2_7"]


def test_the_grant_and_what_slurm_gave() -> None:
    ((one, parts),) = job_runs([month.TWO_NODES], month.TWO_NODES_USE)
    assert (one["grant"]["gpus"], one["grant"]["fraction"], one["grant"]["rule"]) == (2, 0.5, "default")
    assert [(part.node, part.gpu) for part in parts] == [
        ("n1", "GPU-1"),
        ("n1", "GPU-2"),
        ("n2", "GPU-3"),
        ("n2", "GPU-4"),
    ]
    ((whole, _),) = job_runs([month.WHOLE], [])
    assert (whole["grant"], whole["alloc_tres"], whole["nodelist"]) == (None, "cpu=2,gres/gpu=2,node=2", "n1")
    ((other, _),) = job_runs([run(3, 0, 9, extra=grant().replace('"v":1', '"v":9'))], [])
    assert other["grant"] is None


def test_use_that_slurm_does_not_know_of_is_told() -> None:
    ((one, parts),) = job_runs([], [used(5, 0, 100, 0.2)])
    assert (one["job"], one["state"], one["wait_seconds"], one["grant"], one["nodelist"]) == (
        "5",
        None,
        None,
        None,
        "n1",
    )
    assert len(parts) == 1


def test_a_part_has_its_record_and_its_course() -> None:
    record = month.ARRAY_USE[1]
    part = gpu_part(record, {"every": 1.0, "sm": [0.2], "memory": [1]}, {"shared_seconds": 0.0})
    assert (part["node"], part["gpu_seconds_used"], part["coverage"], part["course"]["sm"]) == ("n1", 20.0, 1.0, [0.2])
    assert "uid" not in part and "series" not in part


def test_who_shared_the_gpu() -> None:
    record = month.ARRAY_USE[1]
    told = sharers(record, [month.SHARER_USE], [month.SHARER], all_see)
    assert told == {
        "shared_seconds": 100.0,
        "others": [{"job": "4", "user": "bob", "fraction": 0.25, "seconds": 100.0, "gpu_seconds_used": 60.0}],
        "others_unnamed": 0,
    }


def test_others_are_counted_where_they_may_not_be_seen() -> None:
    record, theirs = month.ARRAY_USE[1], [month.SHARER_USE, used(10, 350, 450, 0.1, uid=1003, user="carol")]
    told = sharers(record, theirs, [month.SHARER], lambda uid, account: account == "biology")
    assert ([one["job"] for one in told["others"]], told["others_unnamed"]) == (["4"], 1)
    told = sharers(record, theirs, [month.SHARER], lambda uid, account: False)
    assert (told["others"], told["others_unnamed"], told["shared_seconds"]) == ([], 2, 100.0)
    assert "bob" not in str(told) and "60" not in str(told)


def test_time_is_shared_once_however_many_share_it() -> None:
    record = used(1, 100, 200, 0.1)
    # Two that overlap each other, one that was before, one that touches, one to the end and beyond.
    others = [
        used(2, 110, 130, 0.1),
        used(3, 120, 140, 0.1),
        used(4, 0, 90, 0.1),
        used(5, 200, 300, 0.1),
        used(6, 190, 300, 0.1),
    ]
    told = sharers(record, others, [], all_see)
    assert told["shared_seconds"] == 40.0
    assert [(one["job"], one["seconds"]) for one in told["others"]] == [("2", 20.0), ("3", 20.0), ("6", 10.0)]


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 100)), max_size=20))
def test_shared_seconds_are_those_of_the_union(spans: list[tuple[int, int]]) -> None:
    record = used(1, 100, 200, 0.1)
    others = [used(number + 2, start, start + length, 0.1) for number, (start, length) in enumerate(spans)]
    seconds = {at for start, length in spans for at in range(start, start + length)} & set(range(100, 200))
    assert sharers(record, others, [], all_see)["shared_seconds"] == len(seconds)


def test_only_so_many_are_named() -> None:
    others = [used(number, 0, 100, 0.0) for number in range(2, MOST_NAMED + 12)]
    told = sharers(used(1, 0, 100, 0.1), others, [], all_see)
    assert (len(told["others"]), told["others_unnamed"]) == (MOST_NAMED, 10)


def test_a_gpu_without_a_uuid_is_nobody_elses() -> None:
    assert is_one_gpu(used(1, 0, 1, None))
    assert not is_one_gpu(used(1, 0, 1, None, gpu="bitfusion:n1:0"))


# From the store


@pytest.fixture
def store() -> Store:
    store = Store("sqlite://")
    course = {"every": 1.0, "sm": [0.2] * 100, "memory": [1] * 100}
    store.add_jobs([*month.RUNS, run(21, 2000, 2100, het_job_id=20, het_offset=1)])
    store.add_usage([replace(month.ARRAY_USE[1], series=course), *month.RECORDS[:3], *month.RECORDS[4:]])
    return store


def answer(store: Store, *refs: JobRef, **selected: object) -> dict:
    return REPORTS["job"].answer(store, replace(EVERYTHING, jobs=refs, **selected), {})


def test_one_task_an_array_and_a_component(store: Store) -> None:
    (task,) = answer(store, JobRef(2, 7))["runs"]
    assert task["job"] == "2_7" and task["measured"][0]["course"]["sm"] == [0.2] * 100
    assert {one["job"] for one in answer(store, JobRef(2))["runs"]} == {"2_6", "2_7"}
    for ref in (JobRef(20, None, 1), JobRef(20), JobRef(21)):
        (part,) = answer(store, ref)["runs"]
        assert part["job"] == "20+1"
    assert answer(store, JobRef(20, None, 2))["runs"] == answer(store, JobRef(99))["runs"] == []


def test_names_of_others_are_for_who_may_see_them(store: Store) -> None:
    (seen,) = answer(store, JobRef(2, 7))["runs"]
    assert [one["user"] for one in seen["measured"][0]["others"]] == ["bob"]
    (own,) = answer(store, JobRef(2, 7), uid=1001)["runs"]
    assert own["measured"][0]["others"] == [] and own["measured"][0]["others_unnamed"] == 1
    assert answer(store, JobRef(2, 7), uid=1002)["runs"] == []


def test_no_job_is_refused_and_many_are_told_without_courses(store: Store) -> None:
    with pytest.raises(RequestError, match="12_3"):
        REPORTS["job"].answer(store, EVERYTHING, {})
    many = range(100, 101 + MOST_COURSES)
    store.add_jobs(run(job, 0, 10, array_job_id=100, array_task_id=job - 100) for job in many)
    store.add_usage(used(job, 0, 10, 0.1) for job in many)
    told = answer(store, JobRef(100))
    assert [one["measured"] for one in told["runs"]] == [None] * len(many)
    assert len(told["warnings"]) == 1 and told["runs"][0]["gpu_seconds_used"] == 1.0
