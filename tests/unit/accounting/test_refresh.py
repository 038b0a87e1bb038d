"""What is asked of Slurm, when, and what is kept of the answer."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from slurm_gpushare.accounting.refresh import LATE, Refresher
from slurm_gpushare.accounting.report import SLACK
from slurm_gpushare.accounting.selection import Selection, parse_jobs
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.slurm.command import SlurmError
from tests.unit.accounting import month
from tests.unit.accounting.month import T, grant, run, used

PERIOD = Selection(T, T + 1000)


class Slurm:
    """sacct and squeue of a cluster whose runs the test sets."""

    def __init__(self):
        self.rows, self.extras, self.asked, self.queued, self.away = [], {}, [], 0, False
        self.now, self.wall = 100.0, T + 1000.0  # a clock of its own, and the time of day

    def fetch(self, start, end, jobs=()):
        self.asked.append((start, end, tuple(jobs)))
        if self.away:
            raise SlurmError("sacct: status 1: Problem talking to the database")
        around = [row for row in self.rows if jobs or row.start is None or start <= (row.end or 10**12)]
        return [row for row in around if not jobs or row.job_id in jobs]

    def running(self):
        self.queued += 1
        if self.extras is None:
            raise SlurmError("squeue: status 1: no controller")
        return self.extras


@pytest.fixture
def slurm() -> Slurm:
    return Slurm()


@pytest.fixture
def store(tmp_path: Path):
    store = Store(f"sqlite:///{tmp_path}/usage.sqlite")
    yield store
    store.close()


@pytest.fixture
def refresher(store: Store, slurm: Slurm) -> Refresher:
    return Refresher(store, slurm.fetch, slurm.running, lambda: slurm.now, lambda: slurm.wall)


def test_only_runs_that_concern_us_are_kept(refresher: Refresher, slurm: Slurm, store: Store) -> None:
    slurm.rows = month.RUNS
    store.add_usage([used(9, 900, 950, 0.1, backend="gpu", fraction=1.0)])
    assert refresher.refresh(PERIOD) == []
    assert {row.job_id for row in store.jobs(Selection(0, T + 10000))} == {1, 2, 3, 4, 5, 6, 7, 9}
    start, end, jobs = slurm.asked[0]
    assert start < T and end > T + 1000 and jobs == ()


def test_sacct_is_not_asked_again_within_a_second(refresher: Refresher, slurm: Slurm) -> None:
    refresher.refresh(PERIOD)
    slurm.now += 0.5
    refresher.refresh(replace(PERIOD, end=PERIOD.end + 0.4))
    refresher.refresh(replace(PERIOD, start=T + 10))
    assert len(slurm.asked) == 1
    refresher.refresh(replace(PERIOD, start=T - 500))
    assert len(slurm.asked) == 2
    slurm.now += 1.5
    refresher.refresh(PERIOD)
    assert len(slurm.asked) == 3
    refresher.refresh(replace(PERIOD, jobs=parse_jobs("5,7_1")))
    assert slurm.asked[3][2] == (5, 7)


def test_who_asks_again_and_again_keeps_nobody_from_what_is_new(refresher: Refresher, slurm: Slurm) -> None:
    for _ in range(10):
        refresher.refresh(PERIOD)
        slurm.now += 0.6
    assert len(slurm.asked) == 5


def test_slurm_away_is_a_warning_and_is_not_asked_at_once_again(
    refresher: Refresher, slurm: Slurm, store: Store
) -> None:
    slurm.rows = [month.SHARER]
    refresher.refresh(PERIOD)
    slurm.away, slurm.now = True, slurm.now + 2
    for _ in range(2):
        [warning] = refresher.refresh(PERIOD)
        assert "Problem talking to the database" in warning
    assert len(slurm.asked) == 2
    assert store.jobs(PERIOD) == [month.SHARER]
    slurm.away, slurm.now = False, slurm.now + 6
    assert refresher.refresh(PERIOD) == []


def test_a_running_jobs_grant_comes_from_squeue_once(refresher: Refresher, slurm: Slurm, store: Store) -> None:
    pool = run(7, 900, None, extra="", alloc_tres="cpu=1,gres/bitfusion=25", state="RUNNING", restart=2)
    slurm.rows, slurm.extras = [pool], {(7, 2): grant("bitfusion"), (7, 1): "old"}
    assert refresher.refresh(PERIOD) == []
    assert store.jobs(PERIOD) == [replace(pool, extra=grant("bitfusion"))]
    slurm.now, slurm.extras = slurm.now + 2, None
    assert refresher.refresh(PERIOD) == []
    assert slurm.queued == 1
    assert store.jobs(PERIOD) == [replace(pool, extra=grant("bitfusion"))]


def test_squeue_away_is_a_warning_and_no_reason_to_leave_runs_out(
    refresher: Refresher, slurm: Slurm, store: Store
) -> None:
    shard = run(7, 900, None, extra="", state="RUNNING")
    slurm.rows, slurm.extras = [shard], None
    [warning] = refresher.refresh(PERIOD)
    assert "squeue" in warning
    assert store.jobs(PERIOD) == [shard]


def test_a_run_that_is_not_among_the_newest_is_asked_for_by_its_number(
    refresher: Refresher, slurm: Slurm, store: Store
) -> None:
    slurm.rows = [month.RUNNING]
    refresher.refresh(PERIOD)
    slurm.rows, slurm.now, slurm.wall = [replace(month.RUNNING, end=T + 1500, state="COMPLETED")], 110.0, T + 6000.0
    store.cover(T, T + 5500)
    refresher.refresh(Selection(T + 5000, T + 6000))
    assert slurm.asked[-1][2] == (7,)
    assert store.running() == []


def test_slurm_is_asked_for_a_time_once(refresher: Refresher, slurm: Slurm, store: Store) -> None:
    week = 7 * 86400
    refresher.refresh(PERIOD)
    slurm.asked.clear()
    slurm.now += 10
    refresher.refresh(Selection(T - 3 * week, T))
    times = [(start, end) for start, end, _ in slurm.asked]
    # The newest again; then what was never asked for, in parts without a gap, the newest first.
    assert times[0] == (T + 1000 - LATE, T + 1000 + SLACK)
    assert len(times) == 4 and times[1][1] == T - SLACK and times[-1][0] == T - 3 * week - SLACK
    assert all(low == high for (low, _), (_, high) in pairwise(times[1:]))
    assert store.covered() == (T - 3 * week - SLACK, T + 1000)
    slurm.asked.clear()
    slurm.now, slurm.wall = slurm.now + 10, slurm.wall + 600
    again = Refresher(store, slurm.fetch, slurm.running, lambda: slurm.now, lambda: slurm.wall)
    again.refresh(Selection(T - 2 * week, T + 1600))
    assert [(start, end) for start, end, _ in slurm.asked] == [(T + 1000 - LATE, T + 1600 + SLACK)]
    again.refresh(Selection(T - week, T))
    assert len(slurm.asked) == 1
    slurm.now += 10
    again.refresh(PERIOD, 3 * 86400)
    assert slurm.asked[-1][0] == T + 1600 - 3 * 86400


def test_what_was_told_before_slurm_went_away_is_not_asked_for_again(
    refresher: Refresher, slurm: Slurm, store: Store
) -> None:
    refresher.refresh(PERIOD)
    slurm.now += 10
    tell = slurm.fetch

    def fetch(start, end, jobs=()):
        slurm.away = start < T - 10 * 86400
        return tell(start, end, jobs)

    dying = Refresher(store, fetch, slurm.running, lambda: slurm.now, lambda: slurm.wall)
    [warning] = dying.refresh(Selection(T - 30 * 86400, T))
    assert "Problem talking" in warning and store.covered()[0] == T - SLACK - 7 * 86400


def test_sacct_is_asked_for_no_time_that_it_cannot_read(refresher: Refresher, slurm: Slurm) -> None:
    # It would fail, and for some seconds every other user would be told that Slurm is away.
    for start, end in ((0, 1), (2**39, 2**40)):
        assert refresher.refresh(Selection(start, end)) == []
    assert slurm.asked == []
    refresher.refresh(Selection(0, 2**40))
    assert slurm.asked[-1][0] == 86400 and slurm.asked[0][1] == slurm.wall + SLACK and len(slurm.asked) <= 101
