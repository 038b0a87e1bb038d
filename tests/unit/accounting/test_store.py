"""The store, on every kind of database: what is kept comes back, and twice is once."""

import threading
from dataclasses import fields, replace

import pytest

from slurm_gpushare.accounting.selection import Selection, parse_jobs
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.gpu_hour import GpuHour
from tests.unit.accounting import month
from tests.unit.accounting.month import RECORDS, RUNS, T, run, used

EVER = Selection(0, T + 10**6)


@pytest.fixture
def store(database_url: str):
    store = Store(database_url)
    yield store
    store.close()


def by_key(records: list) -> list:
    return sorted(records, key=lambda one: one.key)


def test_what_is_kept_comes_back_and_twice_is_once(store: Store, database_url: str) -> None:
    for _ in range(2):
        store.add_usage(RECORDS)
        store.add_jobs(RUNS)
    assert by_key(store.usage(EVER)) == by_key(RECORDS)
    assert by_key(store.jobs(EVER)) == by_key([row for row in RUNS if row.start is not None])
    store.close()
    again = Store(database_url)
    assert by_key(again.usage(EVER)) == by_key(RECORDS)
    again.close()


def test_a_later_record_of_the_same_run_replaces_the_earlier(store: Store) -> None:
    first, later = used(1, 0.123456, 10, 0.1), used(1, 0.123456, 20, 0.2)
    store.add_usage([first])
    store.add_usage([later, replace(later, node="n2")])
    assert by_key(store.usage(EVER)) == by_key([later, replace(later, node="n2")])
    store.add_jobs([month.RUNNING])
    assert store.running() == [month.RUNNING]
    ended = replace(month.RUNNING, end=T + 950, state="FAILED")
    store.add_jobs([ended])
    assert (store.jobs(EVER), store.running()) == ([ended], [])


def test_what_a_server_and_an_allocation_measured_of_one_gpu_are_two_records(store: Store) -> None:
    inside = used(1, 0.25, 10, 0.1, node="c1", source="allocation", backend="bitfusion")
    server = used(1, 0, 10, 0.2, node="server1", source="server", backend="bitfusion")
    # A host may be node and server under one name: Slurm's start of the run is a whole second, prolog's is not.
    for twin in (server, replace(server, node="c1")):
        assert twin.gpu == inside.gpu and twin.key != inside.key
        store.add_usage([inside, twin])
    assert by_key(store.usage(EVER)) == by_key([inside, server, replace(server, node="c1")])


def test_a_selection_is_by_time_user_and_job(store: Store) -> None:
    store.add_jobs(RUNS)
    store.add_usage(RECORDS)

    def jobs(start: float = 0, end: float = 2000, **limits: object) -> list[int]:
        return [row.job_id for row in store.jobs(Selection(T + start, T + end, **limits))]

    assert jobs(111, 115) == [1]
    assert jobs(1500) == [7]
    assert jobs(uid=1002) == [4, 6]
    assert jobs(users=("bob",)) == [4]
    assert jobs(users=("nobody",)) == []
    assert jobs(jobs=parse_jobs("2")) == [2, 3]
    assert jobs(jobs=parse_jobs("2_6,5")) == [3, 5]
    assert {one.job_id for one in store.usage(Selection(T, T + 2000, uid=1002))} == {4}
    assert {one.job_id for one in store.usage(Selection(T, T + 2000, jobs=parse_jobs("2_6")))} == {3}
    assert store.jobs_with_usage(T + 320, T + 550) == {("lab", 2), ("lab", 3), ("lab", 4)}


def test_as_many_jobs_as_a_request_can_name_are_found(store: Store) -> None:
    store.add_jobs(month.RUNS)
    many = ",".join(f"{number},{number}_6" for number in range(1, 2000))
    assert [row.job_id for row in store.jobs(Selection(T, T + 2000, jobs=parse_jobs(many)))] == [
        row.job_id for row in store.jobs(Selection(T, T + 2000))
    ]
    store.usage(Selection(T, T + 2000, jobs=parse_jobs(many)))


def test_all_records_of_a_run_come_with_it_also_those_from_before_the_period(store: Store) -> None:
    store.add_jobs([run(1, 0, 1000)])
    store.add_usage([used(1, 0, 200, 0.1)])
    assert len(store.usage(Selection(T + 900, T + 1000))) == 1


def test_what_lasted_long_is_found_in_a_short_time_in_its_midst(store: Store) -> None:
    day = 86400
    middle = Selection(T + 5 * day, T + 5 * day + 60)
    short, long = used(1, 0, 60, 0.1), used(2, 0, 20 * day, 0.1)
    for record in (long, short):  # a short one makes nothing shorter
        store.add_usage([record])
        assert store.usage(middle) == [long]
    runs = [run(3, 0, 20 * day), run(4, 0, 60), run(5, 0, None)]
    for each in runs:
        store.add_jobs([each])
    assert [row.job_id for row in store.jobs(middle)] == [3, 5]
    store.add_jobs([run(5, 0, 30 * day)])
    assert [row.job_id for row in store.jobs(Selection(T + 25 * day, T + 25 * day))] == [5]
    assert store.jobs_with_usage(T + 19 * day, T + 19 * day) == {(long.cluster, 2)}


def test_many_threads_at_once_lose_nothing(store: Store) -> None:
    def write(number: int) -> None:
        for job in range(20):
            store.add_usage([used(job, number, number + 1, 0.1, node=f"n{number}")])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.usage(EVER)) == 120


def test_a_record_without_its_course_is_read_and_the_course_alone(store: Store) -> None:
    course = {"every": 1.0, "sm": [0.25, None], "memory": [1 << 30, None]}
    known = used(1, 0.25, 10, 0.1, sm_p95=0.5, memory_mean_bytes=7, gaps=[[2.5, 1.0, "GPU is lost"]])
    store.add_usage([replace(known, series=course), used(2, 0, 10, 0.1)])
    assert by_key(store.usage(EVER)) == [known, used(2, 0, 10, 0.1)]
    assert store.series(known) == course and store.series(used(2, 0, 10, 0.1)) is None
    store.add_usage([replace(known, series=course | {"every": 2.0})])
    assert store.series(known)["every"] == 2.0
    assert [store.forget_series(T + end) for end in (10, 11, 12)] == [0, 1, 0]
    assert store.series(known) is None and by_key(store.usage(EVER))[0] == known


def gpu_hour(hour: float, sampled: float, **changed: object) -> GpuHour:
    values = dict.fromkeys(item.name for item in fields(GpuHour))
    values |= {"cluster": "lab", "node": "n1", "gpu": "GPU-1", "source": "node", "hour": T + hour}
    values |= {"seconds_sampled": sampled, "quality": "measured", "gpu_seconds_reserved": 0.5}
    return GpuHour(**{**values, **changed})


def test_an_hour_of_a_gpu_only_grows(store: Store) -> None:
    first, more = gpu_hour(0, 10, gpu_seconds_used=3.5), gpu_hour(0, 20, gpu_seconds_used=4.5)
    other = gpu_hour(0, 5, source="server")
    for hours in ([first, used(1, 0, 10, 0.1)], [more, other], [first], [gpu_hour(3600, 7), gpu_hour(3600, 7)]):
        store.add_usage(hours)
    assert store.hours(T, T + 3600) == [more, other]
    assert store.hours(T + 1800, T + 3601) == [more, gpu_hour(3600, 7), other]
    assert store.hours(T + 3600, T + 7200) == [gpu_hour(3600, 7)]
    assert [record.job_id for record in store.usage(EVER)] == [1]


def test_names_differ_by_their_case(store: Store) -> None:
    bobs = [run(1, 0, 10, user="bob"), run(2, 0, 10, user="Bob")]
    store.add_jobs(bobs)
    store.add_usage([used(1, 0, 10, 0.1, gpu="GPU-a"), used(1, 0, 10, 0.1, gpu="GPU-A")])
    assert store.jobs(Selection(T, T + 20, users=("Bob",))) == bobs[1:]
    assert len(store.usage(EVER)) == 2


def test_every_name_and_number_comes_back(store: Store) -> None:
    odd = used(1, 0.123457, 10.000001, 1 / 3, gpu_name="GPU «ß» 漢 🎮 %s ' \\ \"", energy_joules=1e-300, uid=2**40)
    none = used(2, 0, 10, None)
    store.add_usage([odd, none])
    assert by_key(store.usage(EVER)) == [odd, none]


def test_a_name_of_slurm_that_is_too_long_holds_up_no_run(store: Store) -> None:
    store.add_jobs([run(1, 0, 10, qos="q" * 300), run(2, 0, 10), month.PENDING])
    assert [(row.job_id, row.qos[:2]) for row in store.jobs(EVER)] == [(1, "qq"), (2, "no")]
