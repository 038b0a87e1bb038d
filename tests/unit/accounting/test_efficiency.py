"""Who uses what was reserved, over a history that can be checked by hand."""

from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.accounting.efficiency import (
    BINS,
    IDLE,
    WITHOUT_PROCESS,
    Waste,
    distribution,
    rank,
    runs,
    waste,
    worst,
)
from slurm_gpushare.accounting.reports import REPORTS
from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.accounting.usage_report import Sums, pieces, summarise, tallies, tally
from slurm_gpushare.errors import RequestError
from tests.unit.accounting import month
from tests.unit.accounting.month import T, run, used

PERIOD = Selection(T, T + 2000)


def line(name: str | None, share: float | None, by: str = "user") -> Sums:
    """Return a line of sums over one run of a quarter of a GPU for 1000 s, of which ``share`` was used."""
    record = used(1, 0, 1000, None if share is None else share * 0.25, user=name)
    (one,) = summarise(pieces([], [record], T), (by,), T, T + 2000)
    return one


def test_the_rank_is_that_among_everybody() -> None:
    everybody = [line("alice", 0.5), line("bob", 0.9), line("carol", 0.1), line("dave", 0.5), line("eve", None)]
    found = rank(everybody, everybody, "user", lambda name: True)
    assert [(one.name, one.rank, one.of) for one in found] == [
        ("bob", 1, 4),
        ("alice", 2, 4),
        ("dave", 2, 4),
        ("carol", 4, 4),
        ("eve", None, None),
    ]
    (own,) = rank(everybody[2:3], everybody, "user", lambda name: name == "carol")
    assert (own.rank, own.of, own.used_of_reserved, own.gpu_seconds_idle) == (4, 4, 0.1, 225.0)
    (part,) = rank(everybody[:1], everybody, "user", lambda name: name == "carol")
    assert (part.rank, part.of) == (None, None)


@given(st.lists(st.none() | st.integers(0, 400), max_size=30))
def test_a_rank_counts_those_that_are_better(shares: list[int | None]) -> None:
    template = line("x", 0.5)
    lines = [
        replace(template, group={"user": f"u{at}"}, used_of_reserved=None if share is None else share / 100)
        for at, share in enumerate(shares)
    ]
    for one in rank(lines, lines, "user", lambda name: True):
        better = sum(other is not None and other / 100 > (one.used_of_reserved or 0) for other in shares)
        assert one.rank == (None if one.used_of_reserved is None else 1 + better)


def test_the_distribution_has_every_measured_second_in_one_bin() -> None:
    found = distribution(tallies(pieces(month.RUNS, month.RECORDS, T + 1000), ("user",), T, T + 2000).values())
    assert len(found) == BINS + 1
    # By hand: job 1 first run 0.1 of 0.25 (40 %), 2_6 and 2_7 80 %; all others 100 % and more.
    seconds = {(one["from"], one["to"]): one["gpu_seconds"] for one in found if one["gpu_seconds"]}
    assert seconds == {(0.4, 0.5): 25.0, (0.8, 0.9): 50.0, (1.0, None): 50.0 + 25.0 + 200.0}


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 1000)), max_size=20))
def test_the_bins_add_up(jobs: list[tuple[float, int]]) -> None:
    records = [used(number, 0, seconds, share) for number, (share, seconds) in enumerate(jobs)]
    whole = sum(one["gpu_seconds"] for one in distribution([tally(pieces([], records, T))]))
    assert whole == pytest.approx(sum(0.25 * seconds for _, seconds in jobs), abs=1e-4)


def test_what_a_run_wasted_in_the_period() -> None:
    ((row, parts),) = runs([month.REQUEUED[0]], [replace(month.REQUEUED_USE[0], gpu_seconds_without_process=5.0)])
    whole = waste(row, parts, T, T + 2000)
    assert (whole.job, whole.gpu_seconds_reserved, whole.gpu_seconds_used, whole.used_of_reserved) == ("1", 25, 10, 0.4)
    assert (whole.gpu_seconds_idle, whole.gpu_seconds_without_process) == (15.0, 5.0)
    half = waste(row, parts, T, T + 60.5)
    assert (half.gpu_seconds_idle, half.gpu_seconds_without_process, half.used_of_reserved) == (7.5, 2.5, 0.4)
    assert waste(row, parts, T + 200, T + 300) is None
    assert waste(month.WHOLE, [], T, T + 2000) is None
    ((nobody, alone),) = runs([], [month.SHARER_USE])
    assert nobody is None and waste(None, alone, T, T + 2000).user == "bob"


def test_two_sources_of_one_run_are_one() -> None:
    records = [used(1, 10, 110, 0.1), used(1, 10, 110, 0.1, source="server", gpu="GPU-9")]
    ((row, parts),) = runs([month.REQUEUED[0]], records)
    assert waste(row, parts, T, T + 2000).gpu_seconds_idle == 15.0


def some(job: int, idle: float) -> Waste:
    ((row, parts),) = runs([run(job, 0, 100)], [replace(used(job, 0, 100, 0.0), gpu_seconds_idle=idle)])
    return waste(row, parts, T, T + 100)


@given(
    st.dictionaries(st.integers(1, 200), st.tuples(st.floats(0, 100), st.floats(1, 4)), max_size=60), st.integers(1, 8)
)
def test_the_worst_are_found_though_bounds_are_rough(jobs: dict[int, tuple[float, float]], most: int) -> None:
    looked: list[int] = []

    def look(keys: list[tuple[str, int]]) -> list[Waste]:
        looked.extend(job for _, job in keys)
        return [some(job, jobs[job][0]) for _, job in keys]

    bounds = sorted(((idle * rough, ("lab", job)) for job, (idle, rough) in jobs.items() if idle > 0), reverse=True)
    found = worst(iter(bounds), look, IDLE, most)
    expected = sorted((round(idle, 6) for idle, _ in jobs.values() if round(idle, 6)), reverse=True)[:most]
    assert [one.gpu_seconds_idle for one in found] == expected
    assert len(looked) == len(set(looked))


def test_no_more_is_looked_at_than_can_be_among_them() -> None:
    looked: list[int] = []

    def look(keys: list[tuple[str, int]]) -> list[Waste]:
        looked.extend(job for _, job in keys)
        return [some(job, float(100 - job)) for _, job in keys]

    worst(((float(100 - job), ("lab", job)) for job in range(1, 90)), look, IDLE, 3)
    assert looked == [1, 2, 3]


# From the store


@pytest.fixture
def store() -> Store:
    store = Store("sqlite://")
    store.add_jobs(replace(one, uid=1001) if one is month.WHOLE else one for one in month.RUNS)
    store.add_usage(replace(one, gpu_seconds_without_process=one.gpu_seconds_idle / 5) for one in month.RECORDS)
    return store


def answer(store: Store, selection: Selection = PERIOD, **given: str) -> dict:
    return REPORTS["efficiency"].answer(store, selection, given)


def test_an_operator_sees_everybody(store: Store) -> None:
    told = answer(store)
    assert [(one["name"], one["rank"], one["of"], one["used_of_reserved"]) for one in told["lines"]] == [
        ("bob", 1, 2, 2.4),
        # 10 + 100 + 20 + 20 + 200 of 25 + 50 + 25 + 25 + 200
        ("alice", 2, 2, round(350 / 325, 4)),
    ]
    assert [(one["job"], one["restart"], one["gpu_seconds_idle"]) for one in told["wasters"]] == [
        ("1", 0, 15.0),
        ("2_7", 0, 5.0),
        ("2_6", 0, 5.0),
    ]
    assert [(one["job"], one[WITHOUT_PROCESS]) for one in told["holders"]] == [("1", 3.0), ("2_7", 1.0), ("2_6", 1.0)]
    assert [one["job"] for one in answer(store, most="1")["wasters"]] == ["1"]


def test_a_user_has_the_rank_among_all_and_nobody_elses_line(store: Store) -> None:
    told = answer(store, replace(PERIOD, uid=1001))
    assert [(one["name"], one["rank"], one["of"]) for one in told["lines"]] == [("alice", 2, 2)]
    assert "bob" not in str(told)
    told = answer(store, replace(PERIOD, uid=1002))
    assert [(one["name"], one["rank"], one["of"]) for one in told["lines"]] == [("bob", 1, 2)]
    assert told["wasters"] == [] and "alice" not in str(told)
    assert answer(store, replace(PERIOD, uid=1003))["lines"] == []


def test_a_coordinator_sees_an_account_and_ranks_what_is_whole(store: Store) -> None:
    coordinator = replace(PERIOD, uid=1002, accounts_seen=("physics",))
    assert [(one["name"], one["rank"]) for one in answer(store, coordinator)["lines"]] == [("bob", 1), ("alice", None)]
    by = {one["name"]: (one["rank"], one["of"]) for one in answer(store, coordinator, by="account")["lines"]}
    assert by == {"physics": (2, 2), "biology": (None, None)}


def test_filters_choose_the_worst_too(store: Store) -> None:
    assert [one["job"] for one in answer(store, replace(PERIOD, states=("REQUEUED",)))["wasters"]] == ["1"]
    assert answer(store, replace(PERIOD, accounts=("biology",)))["wasters"] == []
    assert answer(store, replace(PERIOD, partitions=("nix",)))["lines"] == []
    told = answer(store, replace(PERIOD, users=("alice",)))
    assert [(one["name"], one["rank"], one["of"]) for one in told["lines"]] == [("alice", 2, 2)]


def test_a_number_that_was_used_again_shows_nobody_elses_run(store: Store) -> None:
    store.add_jobs([run(1, 1500, 1600, user="bob", uid=1002, account="biology", submit=T + 1400)])
    store.add_usage([replace(used(1, 1500, 1600, 0.0, uid=1002, user="bob"), gpu_seconds_without_process=25.0)])
    assert [(one["job"], one["user"]) for one in answer(store, replace(PERIOD, uid=1002))["wasters"]] == [("1", "bob")]
    alices = answer(store, replace(PERIOD, uid=1001))["wasters"]
    assert {one["user"] for one in alices} == {"alice"} and len(alices) == 3


@pytest.mark.parametrize(
    ("given", "said"), [({"by": "node"}, "'node'"), ({"most": "0"}, "'0'"), ({"most": "x"}, "'x'")]
)
def test_what_cannot_be_ranked_is_refused(store: Store, given: dict, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        answer(store, **given)


def test_a_waste_has_the_keys_of_the_answer(store: Store) -> None:
    assert tuple(answer(store)["wasters"][0]) == tuple(asdict(some(1, 3.0)))
