"""Keeps the store's runs as Slurm has them now."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from slurm_gpushare.accounting.report import SLACK, concerns_us
from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.sacct import JobRow, fetch_jobs
from slurm_gpushare.slurm.squeue import RunKey, running_extras

LATE = 3600.0  # seconds
_LONGEST = 7 * 86400.0  # seconds: sacct keeps all that it tells in memory
_MOST_PARTS = 100  # that a long time is asked for in
_FRESH = 1.0  # seconds in which what sacct said is not asked again
_AWAY = 5.0  # the same after a failure: whoever asks meanwhile is answered at once
# What sacct takes as a time: it reads the first hours of 1970 as hours of today, and years of four digits.
_EARLIEST, _LATEST = 86400.0, 2.0**33


class Refresher:
    """Asks Slurm for a period and keeps the answer. Not for several threads at once: one refresh at a time."""

    def __init__(
        self,
        store: Store,
        fetch: Callable[[float, float, Iterable[int]], list[JobRow]] = fetch_jobs,
        extras: Callable[[], dict[RunKey, str]] = running_extras,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ):
        self._store = store
        self._fetch = fetch
        self._extras = extras
        self._clock = clock
        self._wall = wall
        self._done: float | None = None  # when the newest runs were asked for
        self._named: tuple[float, frozenset[int]] | None = None  # when jobs were asked for by number, and which
        self._failed: tuple[float, str] | None = None  # when and why

    def refresh(self, selection: Selection, late: float = LATE) -> list[str]:
        """Bring the runs of ``selection`` up to date; return one line for each reason why they may not be.

        Slurm is asked for what it was never asked for, and again for what is not ``late`` seconds older than when it
        was last asked: slurmdbd may hear of a run's end some time after it.

        Raises
        ------
        StoreError
            The store cannot be read or written.
        """
        if self._failed is not None and self._clock() - self._failed[0] < _AWAY:
            return [self._failed[1]]
        warnings: list[str] = []
        try:
            if selection.jobs is not None:
                self._by_number([ref.job_id for ref in selection.jobs], warnings)
            else:
                self._by_time(selection.start - SLACK, selection.end + SLACK, late, warnings)
        except SlurmError as error:
            self._failed = (self._clock(), f"runs may be missing or out of date: {error}")
            return [self._failed[1]]
        self._failed = None
        return warnings

    def _by_number(self, jobs: list[int], warnings: list[str]) -> None:
        now, wanted = self._clock(), frozenset(jobs)
        if self._named is not None and now - self._named[0] < _FRESH and wanted <= self._named[1]:
            return
        self._keep(self._fetch(_EARLIEST, _LATEST, jobs), _EARLIEST, _LATEST, warnings)
        self._named = (now, wanted)

    def _by_time(self, start: float, end: float, late: float, warnings: list[str]) -> None:
        now, wall = self._clock(), self._wall()
        start = max(start, _EARLIEST)
        if end <= start or start > wall + SLACK:
            return  # no job ran then, and what sacct would say to it is not a failure of Slurm's
        covered = self._store.covered()
        # The newest come first, and each part is kept before the next: what is covered has no gap.
        if covered is None:
            for low, high in _parts(start, wall + SLACK):
                self._keep(self._fetch(low, high, []), low, high, warnings)
                self._store.cover(low, wall)
            self._done = now
        else:
            since, until = covered
            if self._done is None or now - self._done >= _FRESH:
                self._newest(max(min(until, wall) - late, _EARLIEST), wall + SLACK, warnings)
                self._store.cover(since, wall)
                self._done = now
            for low, high in _parts(start, since):
                self._keep(self._fetch(low, high, []), low, high, warnings)
                self._store.cover(low, wall)

    def _newest(self, low: float, high: float, warnings: list[str]) -> None:
        rows = self._fetch(low, high, [])
        lost = {row.job_id for row in self._store.running()} - {row.job_id for row in rows}
        if lost:
            # They ran when last asked, and are not among those that ran since.
            rows += self._fetch(low, high, sorted(lost))
        self._keep(rows, low, high, warnings)

    def _keep(self, rows: list[JobRow], low: float, high: float, warnings: list[str]) -> None:
        known = {row.key: row for row in self._store.running()}
        rows = self._with_extras(rows, known, warnings)
        measured = self._store.jobs_with_usage(low, high)
        self._store.add_jobs(
            row for row in rows if row.key in known or concerns_us(row, (row.cluster, row.job_id) in measured)
        )

    def _with_extras(self, rows: list[JobRow], known: dict[tuple, JobRow], warnings: list[str]) -> list[JobRow]:
        """Fill in what slurmdbd does not have of running jobs: their grant."""
        blank = {row.key for row in rows if row.start is not None and row.end is None and not row.extra}
        stored = {key: known[key].extra for key in blank if key in known and known[key].extra}
        extras: dict[RunKey, str] = {}
        if blank - set(stored):
            try:
                extras = self._extras()
            except SlurmError as error:
                warnings.append(f"shares of running jobs may be unknown: {error}")
        return [
            replace(row, extra=stored.get(row.key) or extras.get((row.job_id, row.restart), ""))
            if row.key in blank
            else row
            for row in rows
        ]


def _parts(start: float, end: float) -> Iterator[tuple[float, float]]:
    """Cut [start, end) into parts that Slurm can be asked for at once, the last one first."""
    longest = max(_LONGEST, (end - start) / _MOST_PARTS)
    while end > start:
        yield max(start, end - longest), end
        end -= longest
