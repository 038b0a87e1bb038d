"""The service's part of `--format html`: gathers from the store what the page draws beside the report's own table."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from slurm_gpushare.accounting import page_data
from slurm_gpushare.accounting.read import known, tallied
from slurm_gpushare.accounting.report import SLACK, match, of_one_source
from slurm_gpushare.accounting.selection import JobRef, Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.errors import RequestError
from slurm_gpushare.slurm.sacct import JobRow
from slurm_gpushare.usage import UsageRecord

PARTS = ("sums", "heat", "timeline")
_WINDOW = page_data.DAY  # seconds of the timeline
_MOST_GPUS = 16  # of the timeline, those with most use
_MOST_COURSES = 600
_MOST_HEAT = 31 * page_data.DAY


def page(store: Store, selection: Selection, given: Mapping[str, str]) -> dict:
    """Return those of PARTS that ``parts`` names: what accounting/page_data.py makes of the runs that may be seen.

    ``sums``: ``{"unit": "day" | "month", "lines": [object of cube, …]}``. ``heat``: of the GPUs' hours where who asks
    sees all and asks for all, else of the runs. ``timeline``: of the last day in which something of it ended, or of
    the jobs that are named; None where there is none.
    """
    parts = given.get("parts", "sums").split(",")
    for name in parts:
        if name not in PARTS:
            raise RequestError(f"part {name!r} is none of a page: write {', '.join(PARTS)}")
    answer: dict = {"warnings": []}
    if "sums" in parts:
        answer["sums"] = _sums(store, selection)
    if "heat" in parts:
        answer["heat"] = _heat(store, selection)
    if "timeline" in parts:
        answer["timeline"] = _timeline(store, selection)
    return answer


def _sums(store: Store, selection: Selection) -> dict:
    unit = page_data.unit_of(selection.start, selection.end)
    groups = tallied(store, selection, ("account", "user", "backend", unit))
    return {"unit": unit, "lines": page_data.cube(groups)}


def _heat(store: Store, selection: Selection) -> dict | None:
    end = min(selection.end, time.time())
    start = page_data.local_midnight(max(selection.start, end - _MOST_HEAT))
    if end <= start:
        return None
    bucket = page_data.bucket_seconds(start, end)
    names = (selection.users, selection.jobs, selection.accounts, selection.partitions, selection.states)
    if selection.uid is None and not any(names):
        found = page_data.heat_of_hours(store.hours_in(start, end, bucket), start, bucket)
        found["of"] = "gpus"
    else:
        runs = _runs(store, replace(selection, start=start, end=end))
        found = page_data.heat_of_records((part for _, record in runs for part in record), start, end, bucket)
        found["of"] = "runs"
    return {"start": start, "end": end, "utc_offset": _utc_offset(start), **found}


def _runs(store: Store, selection: Selection) -> list[tuple[JobRow | None, list[UsageRecord]]]:
    """Return the runs of ``selection`` that have records that count, and those; None where Slurm tells of no run."""
    rows, records = known(store, selection)
    of_run, left = match(rows, records)
    found = [(row, of_one_source(of_run[row.key])) for row in rows if of_run[row.key] and selection.takes(row)]
    if not any((selection.accounts, selection.partitions, selection.states)):
        found += [(None, [record]) for record in left]
    return found


def _timeline(store: Store, selection: Selection) -> dict | None:
    if selection.jobs is not None:
        return _timeline_of_jobs(store, selection)
    # Most often something ended in the last day; where not, the one is found in which something last did.
    for days in (1, 7, 31, 366, 10_000):
        start = max(selection.start, min(selection.end, time.time()) - days * page_data.DAY)
        runs = _runs(store, replace(selection, start=start))
        if runs or start <= selection.start:
            break
    if not runs:
        return None
    last = min(selection.end, max(record.ended for _, records in runs for record in records))
    begun = max(selection.start, last - _WINDOW, min(record.started for _, records in runs for record in records))
    # Whole hours are easier to read; of a short time they would be mostly empty.
    step = 3600.0 if last - begun > 2 * 3600.0 else 60.0 if last - begun > 600.0 else 5.0
    last = min(selection.end, math.ceil(last / step) * step)
    start = max(selection.start, last - _WINDOW, math.floor(begun / step) * step)
    return _drawn(store, runs, start, last)


def _timeline_of_jobs(store: Store, selection: Selection) -> dict | None:
    """Return the timeline of the named jobs' GPUs while they ran, with all on them that who asks may see."""
    own = [record for _, records in _runs(store, selection) for record in records]
    if not own:
        return None
    own = own[:_MOST_GPUS]
    others = {one.key: one for record in own if ":" not in record.gpu for one in store.on_gpu(record)}
    ids = {one.job_id for one in (*own, *others.values())}
    start, end = min(one.started for one in own), max(one.ended for one in own)
    rows = store.jobs(Selection(start - SLACK, end + SLACK, jobs=tuple(JobRef(job) for job in sorted(ids))))
    of_run, left = match(rows, [*others.values(), *own])
    runs: list[tuple[JobRow | None, list[UsageRecord]]] = [
        (row, of_one_source(of_run[row.key])) for row in rows if of_run[row.key]
    ]
    runs += [(None, [record]) for record in left]
    seen = [
        (row, records) for row, records in runs if selection.sees(records[0].uid, None if row is None else row.account)
    ]
    gpus = {(record.node, record.gpu) for record in own}
    kept = [(row, [one for one in records if (one.node, one.gpu) in gpus]) for row, records in seen]
    return _drawn(store, kept, start, end)


def _drawn(
    store: Store, runs: Sequence[tuple[JobRow | None, list[UsageRecord]]], start: float, end: float
) -> dict | None:
    row_of = {record.key: row for row, records in runs for record in records}
    within = [one for _, records in runs for one in records if one.ended > start and one.started < end]
    used: dict[tuple, float] = {}
    for one in within:
        used[one.node, one.gpu] = used.get((one.node, one.gpu), 0.0) + (one.gpu_seconds_used or 0.0)
    busiest = sorted(used, key=lambda key: (-used[key], key))
    shown = set(busiest[:_MOST_GPUS])
    taken = [one for one in within if (one.node, one.gpu) in shown]
    taken = sorted(taken, key=lambda one: one.gpu_seconds_used or 0.0)[-_MOST_COURSES:]

    def told(record: UsageRecord) -> dict:
        row = row_of[record.key]
        return {
            "job": str(record.job_id) if row is None else row.job,
            "user": record.user if row is None else row.user or record.user,
            "account": None if row is None else row.account,
        }

    if not taken or end <= start:
        return None
    drawn = page_data.timeline(taken, told, store.series, start, end)
    return {
        **drawn,
        "utc_offset": _utc_offset(start),
        "gpus_left_out": len(busiest) - len(shown),
        "runs_left_out": len([one for one in within if (one.node, one.gpu) in shown]) - len(taken),
    }


def _utc_offset(moment: float) -> float:
    """Return by how many seconds local time is ahead of UTC."""
    return datetime.fromtimestamp(moment).astimezone().utcoffset().total_seconds()
