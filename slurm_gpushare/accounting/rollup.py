"""Sums over years of runs in a moment: from roll-ups of whole days and months, and from records where these end.

Roll-ups are made by the same functions that sum up records (usage_report.py), of runs that have ended, and of days that
are over. What changes a run or a record undoes the days that it has a part in (rollup_store.outdate).
"""

import itertools
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from slurm_gpushare.accounting.calendar_units import around, beginnings, unit_name
from slurm_gpushare.accounting.dimensions import CALENDAR
from slurm_gpushare.accounting.report import SLACK
from slurm_gpushare.accounting.rollup_schema import AMOUNTS, COUNTS, DAY, KEYS, MONTH, USES
from slurm_gpushare.accounting.rollup_store import RollupStore, zone_name
from slurm_gpushare.accounting.selection import JobRef, Selection
from slurm_gpushare.accounting.usage_report import Piece, Tally, clip, pieces, tallies, tally
from slurm_gpushare.errors import StoreError

if TYPE_CHECKING:
    from slurm_gpushare.accounting.store import Store

RECORDS = "records"
_PATIENCE = 60.0  # seconds that a report waits for sums that are not built
_FEW = 3  # days that are read from records instead
_LONGEST = 32 * 86400.0  # seconds that a unit has at most
_SHORTEST = 2 * 86400.0  # seconds: a shorter time is summed up from records alone
_AT_ONCE = 500  # jobs in one statement


def is_rolled(selection: Selection, by: Sequence[str]) -> bool:
    """Tell whether sums over ``selection`` by ``by`` can come from roll-ups."""
    return "node" not in by and selection.jobs is None and selection.end - selection.start > _SHORTEST


class Rollups:
    """Builds and reads the roll-ups of one store. Its methods may be called from several threads at once."""

    def __init__(self, store: "Store", rows: RollupStore, clock: Callable[[], float] = time.time):
        self._store = store
        self._rows = rows
        self._clock = clock
        self._building = threading.Lock()
        self._zone_is_checked = False
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let a build that is under way end after the day that it is at, and none begin."""
        self._stopped.set()

    def build(self, start: float | None = None, end: float | None = None, pause: float = 0.0) -> int:
        """Build the days and months of [start, end) that are over and not built; return how many.

        None is as far as there are runs or records. ``pause`` seconds pass between two days: it is not all that the
        process has to do. Raises StoreError.
        """
        span = None if start is not None and end is not None else self._rows.span()
        if span is None and (start is None or end is None):
            return 0
        start = span[0] if start is None else start
        end = min(_beginning(self._clock()), span[1] if end is None else end)
        return self._build(start, end, pause)

    def covers(self, start: float, end: float) -> bool:
        """Tell whether all days of [start, end) that are over are built; raises StoreError."""
        return not self._missing(DAY, start, end)

    def tallies(self, selection: Selection, by: Sequence[str]) -> dict[tuple, Tally]:
        """Return the tally of each group of ``selection`` by ``by``, for which is_rolled holds; raises StoreError."""
        self._prepare(selection)
        unit = next((each for each in by if each in CALENDAR), None)
        names = [each for each in by if each != unit]
        found: dict[tuple, Tally] = defaultdict(Tally)
        for label, start, end in _labelled(selection.start, selection.end, unit):
            parts = [self._segment(*each, selection, names) for each in self._segments(start, end)]
            for key, each in itertools.chain(*parts, self._running(selection, start, end, names)):
                values = iter(key)
                found[tuple(label if one == unit else next(values) for one in by)] += each
        return dict(found)

    # Building

    def _prepare(self, selection: Selection) -> None:
        """Build what ``selection`` lacks, unless that takes longer than who asks would wait."""
        self._build(selection.start, min(_beginning(self._clock()), selection.end), 0.0, _PATIENCE)
        # Those that are undone meanwhile, one or two, are read from records.
        if (left := len(self._missing(DAY, selection.start, selection.end))) > _FEW:
            raise StoreError(
                f"the sums of {left} days are not built yet: the service builds them, the newest first, since it "
                "was started: ask again in some minutes, or for a later time"
            )

    def _check_zone(self) -> None:
        if not self._zone_is_checked:
            self._rows.same_zone(zone_name())
            self._zone_is_checked = True

    def _build(self, start: float, end: float, pause: float, patience: float = math.inf) -> int:
        count, since = 0, time.monotonic()
        with self._building:
            self._check_zone()
        for moment in reversed(self._missing(DAY, start, end)):
            count += self._build_one(DAY, moment)
            if self._stopped.wait(pause) or time.monotonic() - since > patience:
                return count
        return count + sum(self._build_one(MONTH, moment) for moment in self._missing(MONTH, start, end))

    def _missing(self, unit: str, start: float, end: float) -> list[int]:
        """Return the beginnings of the units with a part in [start, end) that are over and not built."""
        built = self._rows.built(unit, start - _LONGEST, end)
        today = _beginning(self._clock())
        # A unit that begins at the end has no part in it.
        found = (one for one in beginnings(start, end, unit) if one < end and one not in built)
        return [one for one in found if around(one, unit)[1] <= today]

    def _build_one(self, unit: str, moment: int) -> bool:
        following = around(moment, unit)[1]
        with self._building:  # by one at a time, and for a short time: a report may wait for another day
            if self._rows.built(unit, moment, moment + 1):
                return False
            self._rows.begin(unit, moment)
            if unit == DAY:
                return self._rows.finish(DAY, moment, self._day(moment, following))
            # Begun first: a day that is undone from now on undoes the month.
            whole = set(beginnings(moment, following - 1, DAY)) == self._rows.built(DAY, moment, following)
            return whole and self._rows.finish(MONTH, moment, _month(moment, self._rows.rows(DAY, moment, following)))

    def _day(self, start: int, end: float) -> list[dict]:
        first: dict[tuple, Piece] = {}  # by run
        began: dict[tuple, float] = {}  # by run, and by run and row
        parts: dict[tuple, list[Piece]] = defaultdict(list)  # by row
        found = self._ended(Selection(start, end))
        for whole in sorted(found, key=lambda one: (one.start, one.gpu or "", one.node or "")):
            began.setdefault(whole.run, whole.start)
            began.setdefault((whole.run, _key(whole)), whole.start)
            part = clip(whole, start, end)
            if part is not None:
                first.setdefault(part.run, part)
                parts[_key(part)].append(part)
        runs: dict[tuple, list[float]] = defaultdict(list)
        for run, part in first.items():
            runs[_key(part)].append(began[run])
        return [
            {
                **_row(DAY, start, key, tally(each)),
                **_counts(start, runs[key], [began[run, key] for run in {part.run for part in each}]),
            }
            for key, each in parts.items()
        ]

    # Reading

    def _segments(self, start: float, end: float) -> Iterator[tuple[str, float, float, bool]]:
        """Cut [start, end) into months and days that are built, and times of which records are read.

        Yield (MONTH, DAY or RECORDS, start, end, whether it is the first).
        """
        today = _beginning(self._clock())
        days, months = (self._rows.built(unit, start, min(end, today)) for unit in (DAY, MONTH))
        cuts: list[tuple[str, float, float]] = []
        moment = start
        while moment < end:
            month_end, day_end = around(moment, MONTH)[1], around(moment, DAY)[1]
            if moment in months and month_end <= end:
                kind, following = MONTH, month_end
            elif moment in days and day_end <= end:
                kind, following = DAY, day_end
            else:
                kind, following = RECORDS, min(day_end, end) if moment < today else end
            if cuts and cuts[-1][0] == kind:
                cuts[-1] = (kind, cuts[-1][1], following)
            else:
                cuts.append((kind, moment, following))
            moment = following
        for number, (kind, low, high) in enumerate(cuts):
            yield kind, low, high, number == 0

    def _segment(
        self, kind: str, start: float, end: float, is_first: bool, selection: Selection, by: Sequence[str]
    ) -> Iterable[tuple[tuple, Tally]]:
        if kind != RECORDS:
            return self._rows.tallies(kind, start, end, is_first, selection, by)
        found = [one for one in self._ended(replace(selection, start=start, end=end)) if selection.takes(one)]
        groups = tallies(found, by, start, end)
        if not is_first:
            # A run that had begun before is counted there.
            began: dict[tuple, dict[tuple, Piece]] = defaultdict(dict)
            for one in sorted(found, key=lambda one: one.start):
                began[tuple(getattr(one, each) for each in by)].setdefault(one.run, one)
            for key, each in groups.items():
                firsts = [one for one in began[key].values() if start <= one.start < end]
                each.runs, each.jobs = len(firsts), sum(one.is_last for one in firsts)
        return groups.items()

    def _ended(self, selection: Selection) -> list[Piece]:
        """Return the pieces of all runs around the time of ``selection`` but of those that still run."""
        wide = replace(selection, start=selection.start - SLACK, end=selection.end + SLACK)
        rows, records = self._store.jobs(wide), self._store.usage(wide)
        # A record can reach out of its run, by more than the slack where the clocks of two hosts differ so much.
        there = {(row.cluster, row.job_id) for row in rows}
        rows += self._runs_of({(one.cluster, one.job_id) for one in records} - there, selection)
        running = {row.key for row in rows if row.end is None}
        found = pieces(rows, records, self._clock(), self._store.followed(rows))
        return [one for one in found if one.run not in running]

    def _running(self, selection: Selection, start: float, end: float, by: Sequence[str]) -> Iterable:
        rows = [
            row
            for row in self._store.running()
            if row.start < end
            and selection.sees(row.uid, row.account)
            and (selection.users is None or row.user in selection.users)
        ]
        keys = {row.key for row in rows}
        jobs = {(row.cluster, row.job_id) for row in rows}
        # With the earlier runs of these jobs, to which their earlier records belong.
        runs = self._runs_of(jobs, replace(selection, end=end))
        found = pieces(runs, self._records_of(jobs), self._clock(), self._store.followed(runs))
        chosen = [one for one in found if one.run in keys and selection.takes(one)]
        return tallies(chosen, by, start, end).items()

    def _runs_of(self, jobs: set[tuple[str, int]], selection: Selection) -> list:
        refs = [JobRef(job_id) for job_id in sorted({job_id for _, job_id in jobs})]
        whole = Selection(0.0, max(selection.end, self._clock()) + SLACK)
        found = []
        for at in range(0, len(refs), _AT_ONCE):
            found += self._store.jobs(replace(whole, jobs=tuple(refs[at : at + _AT_ONCE])))
        return [row for row in found if (row.cluster, row.job_id) in jobs]

    def _records_of(self, jobs: set[tuple[str, int]]) -> list:
        found = []
        for cluster in sorted({cluster for cluster, _ in jobs}):
            ids = sorted(job_id for each, job_id in jobs if each == cluster)
            for at in range(0, len(ids), _AT_ONCE):
                found += self._store.usage_of(cluster, ids[at : at + _AT_ONCE])
        return found


def _beginning(moment: float) -> int:
    return next(beginnings(moment, moment, DAY))


def _labelled(start: float, end: float, unit: str | None) -> Iterator[tuple[str | None, float, float]]:
    if unit is None:
        yield None, start, end
        return
    while start < end:
        first, following = around(start, unit)
        yield unit_name(first, unit), start, min(following, end)
        start = following


def _key(piece: Piece) -> tuple:
    return tuple(getattr(piece, each) for each in KEYS)


def _row(unit: str, moment: int, key: tuple, found: Tally) -> dict:
    amounts = {each: getattr(found, each) for each in AMOUNTS}
    uses = dict(zip(USES, found.bins, strict=True))
    return {"unit": unit, "moment": moment, **dict(zip(KEYS, key, strict=True)), **amounts, **uses}


def _counts(start: float, runs: Sequence[float], runs_gpu: Sequence[float]) -> dict:
    begun, begun_gpu = (sum(moment >= start for moment in moments) for moments in (runs, runs_gpu))
    return dict(zip(COUNTS, (begun, len(runs) - begun, begun_gpu, len(runs_gpu) - begun_gpu), strict=True))


def _month(moment: int, days: Iterable[dict]) -> list[dict]:
    """Return a month's rows from those of its days."""
    groups: dict[tuple, list[dict]] = defaultdict(list)
    for row in days:
        groups[tuple(row[each] for each in KEYS)].append(row)
    months = []
    for key, rows in groups.items():
        total = sum((_tally(row) for row in rows), Tally())
        firsts = [row for row in rows if row["moment"] == moment]
        counts = {each: sum(row[each] for row in rows) for each in ("begun", "begun_gpu")}
        counts |= {each: sum(row[each] for row in firsts) for each in ("carried", "carried_gpu")}
        months.append({**_row(MONTH, moment, key, total), **counts})
    return months


def _tally(row: dict) -> Tally:
    return Tally(**{each: row[each] for each in AMOUNTS}, bins=tuple(row[each] for each in USES))
