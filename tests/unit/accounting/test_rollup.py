"""Sums from roll-ups are those from records, whatever the history, the time and what came when."""

import math
import time
from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_gpushare.accounting import rollup
from slurm_gpushare.accounting.calendar_units import beginnings
from slurm_gpushare.accounting.rollup import is_rolled
from slurm_gpushare.accounting.rollup_schema import DAY, MONTH
from slurm_gpushare.accounting.rollup_store import RollupStore
from slurm_gpushare.accounting.selection import JobRef, Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.accounting.usage_report import Sums, lines, pieces, summarise
from slurm_gpushare.errors import StoreError
from slurm_gpushare.slurm.sacct import JobRow
from slurm_gpushare.usage import UsageRecord
from tests.unit.accounting.month import T as EPOCH
from tests.unit.accounting.month import run, used

HOUR = 3600
# 2026-09-27 00:00 in Berlin, where clocks change on 2026-10-25; the history is of 40 days, and a bit.
T = 1_790_460_000
NOW = T + 40 * 24 * HOUR + 7 * HOUR
BYS = [("user",), ("account", "month"), ("day",), ("gpu", "backend"), ("partition", "qos", "week"), ("user", "gpu")]


@pytest.fixture(autouse=True, scope="module")
def berlin() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


def job(number: int, start: float, end: float | None, **changed: object) -> JobRow:
    row = run(number, start + T - EPOCH, None if end is None else end + T - EPOCH, **changed)
    return replace(row, elapsed_seconds=None if row.end is None else row.end - row.start)


def record(number: int, start: float, end: float, share: float | None, **changed: object) -> UsageRecord:
    return used(number, start + T - EPOCH, end + T - EPOCH, share, **changed)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[JobRow], list[UsageRecord]]:
    """Runs and records: some without the other, some that run, over midnights, months and the change of clocks.

    Some jobs run twice, soon or days after the first time.
    """
    rows, records = [], []
    for number in range(1, draw(st.integers(1, 12)) + 1):
        start = draw(st.integers(0, 41 * 24)) * HOUR + draw(st.sampled_from((0, 0, 1800, 61)))
        end = start + draw(st.sampled_from((0, 5, 600, HOUR, 5 * HOUR, 30 * HOUR, 200 * HOUR)))
        user, uid = draw(st.sampled_from((("alice", 1001), ("bob", 1002))))
        names = {"user": user, "uid": uid}
        runs = T + end > NOW
        if draw(st.integers(0, 9)):
            account = draw(st.sampled_from(("physics", "biology")))
            end_of_it = None if runs else end
            rows.append(job(number, start, end_of_it, account=account, qos=draw(st.sampled_from("ab")), **names))
        if draw(st.integers(0, 9)) and T + start < NOW:
            share = draw(st.sampled_from((None, 0.0, 0.1, 0.25, 0.9)))
            for gpu in range(draw(st.integers(1, 2))):
                last = min(end, NOW - T) + draw(st.sampled_from((0, 0.5)))
                more = {"gpu": f"GPU-{gpu}", "gpu_name": f"model {gpu}", **names}
                records.append(record(number, start + 0.25, max(start + 0.25, last), share, **more))
        again = end + draw(st.sampled_from((60, HOUR, 50 * HOUR)))
        if not draw(st.integers(0, 3)) and T + again < NOW:
            until = again + draw(st.sampled_from((600, 30 * HOUR)))
            more = {"restart": 1, "submit": T + end, "account": draw(st.sampled_from(("physics", "biology")))}
            rows.append(job(number, again, None if T + until > NOW else until, **more, **names))
    return rows, records


def followed(rows: list[JobRow]) -> set[tuple]:
    """Return the keys of the runs of jobs that ran again."""
    last = {row.job_id: row.restart for row in sorted(rows, key=lambda row: row.restart)}
    return {row.key for row in rows if row.restart < last[row.job_id]}


def same(found: list[Sums], wanted: list[Sums]) -> None:
    """The lines are equal, but for what floats add up to in another order."""

    def by_group(them: list[Sums]) -> dict[tuple, Sums]:
        return {tuple(one.group.items()): one for one in them}

    assert len(found) == len(wanted) and by_group(found).keys() == by_group(wanted).keys()
    for group, one in by_group(wanted).items():
        for mine, other in zip(astuple(by_group(found)[group])[1:], astuple(one)[1:], strict=True):
            assert (mine is None) == (other is None)
            assert mine is None or math.isclose(mine, other, rel_tol=1e-6, abs_tol=2e-4), (group, mine, other)


def from_records(rows: list, records: list, selection: Selection, by: tuple[str, ...]) -> list[Sums]:
    found = pieces(rows, records, NOW, followed(rows))
    found = [one for one in found if selection.takes(one) and selection.sees(one.uid, one.account)]
    found = [one for one in found if selection.users is None or one.user in selection.users]
    return summarise(found, by, selection.start, selection.end)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    history=histories(),
    later=st.floats(0, 1),
    by=st.sampled_from(BYS),
    start=st.integers(-24, 30 * 24),
    length=st.integers(49, 45 * 24),
    shift=st.sampled_from((0, 0, 17.5)),
    more=st.sampled_from(
        (
            {},
            {"uid": 1001},
            {"uid": 1002, "accounts_seen": ("physics",)},
            {"users": ("bob",)},
            {"accounts": ("biology",)},
        )
    ),
)
def test_sums_are_those_of_records(tmp_path_factory, history, later, by, start, length, shift, more) -> None:
    rows, records = history
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('store')}/usage.sqlite", lambda: NOW)
    rollups = store.rollups
    # Part of it comes when all was rolled up already.
    store.add_jobs(rows[: int(later * len(rows))])
    store.add_usage(records[: int(later * len(records))])
    rollups.build()
    store.add_usage(records[int(later * len(records)) :])
    store.add_jobs(rows[int(later * len(rows)) :])
    selection = Selection(T + start * HOUR + shift, T + (start + length) * HOUR + shift, **more)
    same(lines(by, rollups.tallies(selection, by)), from_records(rows, records, selection, by))
    store.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/usage.sqlite", lambda: NOW)
    yield store
    store.close()


def tables(store: Store) -> RollupStore:
    return RollupStore(store._engine, store._said)


def test_what_is_over_is_built_once(store: Store) -> None:
    rollups = store.rollups
    assert rollups.build() == 0
    store.add_jobs([job(1, 0, 30 * HOUR)])
    assert rollups.build() == 2 and rollups.build() == 0  # two days, of which the month had more
    # From 31 August to 5 November, and the two months that have all of their days.
    assert rollups.build(T - 27 * 24 * HOUR, NOW) == 1 + 30 + 31 + 5 - 2 + 2
    assert rollups.build(T - 27 * 24 * HOUR, NOW) == 0


def test_only_the_days_of_what_changed_are_undone(store: Store) -> None:
    rollups = store.rollups
    store.add_jobs([job(1, 0, 30 * HOUR), job(2, 100 * HOUR, 101 * HOUR)])
    rollups.build(T - 27 * 24 * HOUR, NOW)
    days = tables(store).built(DAY, 0, NOW)
    store.add_jobs([job(2, 100 * HOUR, 101 * HOUR)])
    assert tables(store).built(DAY, 0, NOW) == days, "told once more"
    store.add_usage([record(1, 0, 30 * HOUR, 0.1)])
    undone = set(beginnings(T, T + 30 * HOUR, DAY))
    assert days - tables(store).built(DAY, 0, NOW) == undone and len(undone) == 2
    assert tables(store).built(MONTH, 0, NOW) == set(beginnings(T + 5 * 24 * HOUR, T + 5 * 24 * HOUR, MONTH))
    store.add_jobs([job(2, 100 * HOUR, 200 * HOUR)])
    store.add_jobs([job(2, 100 * HOUR, 101 * HOUR)])
    assert set(beginnings(T + 100 * HOUR, T + 200 * HOUR, DAY)) & tables(store).built(DAY, 0, NOW) == set()


def test_a_change_while_a_day_is_built_undoes_it(store: Store) -> None:
    store.add_jobs([job(1, 0, HOUR)])
    tables(store).begin(DAY, T)
    store.add_usage([record(1, 0, HOUR, 0.1)])
    assert not tables(store).finish(DAY, T, []) and tables(store).built(DAY, 0, NOW) == set()


def test_a_build_that_was_cut_is_none(store: Store) -> None:
    store.add_jobs([job(1, 0, HOUR)])
    tables(store).begin(DAY, T)
    assert tables(store).built(DAY, 0, NOW) == set()
    assert store.rollups.build() == 1


def test_another_time_zone_builds_anew(store: Store) -> None:
    assert tables(store).same_zone("a") and tables(store).same_zone("a")
    tables(store).begin(DAY, T)
    assert tables(store).finish(DAY, T, [])
    assert not tables(store).same_zone("b") and tables(store).built(DAY, 0, NOW) == set()


def test_what_is_not_rolled_up() -> None:
    month = Selection(T, NOW)
    assert is_rolled(month, ("user", "month"))
    assert not is_rolled(month, ("node",))
    assert not is_rolled(replace(month, jobs=(JobRef(1),)), ("user",))
    assert not is_rolled(Selection(T, T + HOUR), ("user",))


def test_a_report_does_not_wait_for_years(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add_jobs([job(1, 0, 30 * 24 * HOUR)])
    monkeypatch.setattr(rollup, "_PATIENCE", 0.0)
    with pytest.raises(StoreError, match=r"the sums of 29 days are not built yet: .* ask again in some minutes"):
        store.rollups.tallies(Selection(T, T + 30 * 24 * HOUR), ("user",))
    store.rollups.build()
    assert store.rollups.tallies(Selection(T, T + 30 * 24 * HOUR), ("user",))[("alice",)].runs == 1


def test_a_build_that_is_stopped_ends_after_its_day(store: Store) -> None:
    store.add_jobs([job(1, 0, 30 * 24 * HOUR)])
    store.rollups.stop()
    assert store.rollups.build() == 1


def test_a_job_counts_where_its_last_run_is(store: Store) -> None:
    """Two runs of job 1 on the 1st and the 15th day, of which the second comes when all was rolled up."""
    month, first, second = (Selection(T + a * 24 * HOUR, T + b * 24 * HOUR) for a, b in ((0, 30), (0, 7), (7, 30)))
    names = {"qos": "normal"}

    def counts() -> list[tuple[int, int]]:
        found = (store.rollups.tallies(each, ())[()] for each in (month, first, second) if store.rollups.build() >= 0)
        return [(one.runs, one.jobs) for one in found]

    store.add_jobs([job(1, 0, 30 * HOUR, state="REQUEUED", **names), job(900_000, 0, 20 * 24 * HOUR, **names)])
    assert counts() == [(2, 2), (2, 2), (1, 1)]
    store.add_jobs([job(1, 15 * 24 * HOUR, 16 * 24 * HOUR, restart=1, submit=T + 30 * HOUR, **names)])
    assert counts() == [(3, 2), (2, 1), (2, 2)]
    by_day = store.rollups.tallies(month, ("day", "state"))
    assert by_day["2026-09-27", "REQUEUED"].jobs == 0 and by_day["2026-09-27", "COMPLETED"].jobs == 1
