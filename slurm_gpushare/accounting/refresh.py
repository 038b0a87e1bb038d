"""Keeps the store's runs as Slurm has them now."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from slurm_gpushare.accounting.report import SLACK, concerns_us
from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.sacct import JobRow, fetch_jobs
from slurm_gpushare.slurm.squeue import RunKey, running_extras

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
    ):
        self._store = store
        self._fetch = fetch
        self._extras = extras
        self._clock = clock
        self._done: tuple[float, Selection] | None = None  # when and what for
        self._failed: tuple[float, str] | None = None  # when and why

    def refresh(self, selection: Selection) -> list[str]:
        """Bring the runs of ``selection`` up to date; return one line for each reason why they may not be.

        Raises
        ------
        StoreError
            The store cannot be read or written.
        """
        now = self._clock()
        if self._failed is not None and now - self._failed[0] < _AWAY:
            return [self._failed[1]]
        if self._done is not None and now - self._done[0] < _FRESH and _covers(self._done[1], selection):
            return []
        jobs = [ref.job_id for ref in selection.jobs or ()]
        start, end = max(selection.start - SLACK, _EARLIEST), min(selection.end + SLACK, _LATEST)
        if not jobs and end <= start:
            return []  # no job ran then, and what sacct would say to it is not a failure of Slurm's
        try:
            rows = self._fetch(start, end, jobs)
            known = {row.key: row for row in self._store.running()}
            lost = {row.job_id for row in known.values()} - {row.job_id for row in rows}
            if lost and not jobs:
                # They ran when last asked, and ended before this period.
                rows += self._fetch(start, end, sorted(lost))
        except SlurmError as error:
            self._failed = (self._clock(), f"runs may be missing or out of date: {error}")
            return [self._failed[1]]
        warnings: list[str] = []
        rows = self._with_extras(rows, known, warnings)
        measured = self._store.jobs_with_usage(start, end)
        self._store.add_jobs(
            row for row in rows if row.key in known or concerns_us(row, (row.cluster, row.job_id) in measured)
        )
        self._failed, self._done = None, (now, selection)
        return warnings

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


def _covers(done: Selection, wanted: Selection) -> bool:
    """Whether a refresh for ``done`` told all of ``wanted``, whose end may be a little later: the present moves on."""
    if done.jobs is not None:
        return wanted.jobs is not None and set(wanted.jobs) <= set(done.jobs)
    return wanted.jobs is None and done.start <= wanted.start and wanted.end <= done.end + _FRESH
