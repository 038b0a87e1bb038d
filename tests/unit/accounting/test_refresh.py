"""What is asked of Slurm, when, and what is kept of the answer."""

from dataclasses import replace
from pathlib import Path

import pytest

from slurm_gpushare.accounting.refresh import Refresher
from slurm_gpushare.accounting.selection import Selection, parse_jobs
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.slurm.command import SlurmError
from tests.unit.accounting import month
from tests.unit.accounting.month import T, grant, run, used

PERIOD = Selection(T, T + 1000)


class Slurm:
    """sacct and squeue of a cluster whose runs the test sets."""

    def __init__(self):
        self.rows, self.extras, self.asked, self.queued, self.away, self.now = [], {}, [], 0, False, 100.0

    def fetch(self, start, end, jobs=()):
        self.asked.append((start, end, tuple(jobs)))
        if self.away:
            raise SlurmError("sacct: status 1: Problem talking to the database")
        around = [row for row in self.rows if jobs or row.start is None or (row.end or 10**12) >= start]
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
    return Refresher(store, slurm.fetch, slurm.running, lambda: slurm.now)


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


def test_a_run_that_ended_unseen_before_the_period_is_asked_for_by_its_number(
    refresher: Refresher, slurm: Slurm, store: Store
) -> None:
    slurm.rows = [month.RUNNING]
    refresher.refresh(PERIOD)
    ended = replace(month.RUNNING, end=T + 1500, state="COMPLETED")
    slurm.rows, slurm.now = [ended], slurm.now + 10
    refresher.refresh(Selection(T + 5000, T + 6000))
    assert slurm.asked[-1][2] == (7,)
    assert store.running() == []
    assert store.jobs(Selection(T + 5000, T + 6000)) == []


def test_sacct_is_asked_for_no_time_that_it_cannot_read(refresher: Refresher, slurm: Slurm) -> None:
    # It would fail, and for some seconds every other user would be told that Slurm is away.
    for start, end in ((0, 1), (2**39, 2**40)):
        assert refresher.refresh(Selection(start, end)) == []
    assert slurm.asked == []
    refresher.refresh(Selection(0, 2**40))
    [(start, end, _)] = slurm.asked
    assert start == 86400 and end == 2**33
