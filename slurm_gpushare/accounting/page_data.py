"""What the page of a report draws: sums by who and when, histogram of use, GPUs over time. Pure functions.

All is in GPU-seconds and seconds since the epoch, as in the other reports; the page turns it into hours.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, tzinfo

from slurm_gpushare.accounting.usage_report import Tally
from slurm_gpushare.usage import UsageRecord

DAY = 86400.0
LONGEST_BY_DAY = 62 * DAY  # a longer time is told by months
MOST_GPUS = 64  # of the heat map
_MOST_BUCKETS = 100
_BUCKETS = (1, 2, 3, 6, 12, 24, 48, 168, 672)  # hours
TIMELINE_BINS = 240
_AMOUNTS = ("reserved", "used", "idle", "over", "unmeasured")


def unit_of(start: float, end: float) -> str:
    """Return by what a page divides the time: ``day`` or ``month``."""
    return "day" if end - start <= LONGEST_BY_DAY else "month"


def cube(groups: Mapping[tuple, Tally]) -> list[dict]:
    """Return the sums of the tallies of (account, user, backend, day or month).

    Each has ``account``, ``user``, ``backend``, ``unit`` (the day, or the month), ``gpu_seconds_reserved``, ``_used``,
    ``_idle``, ``_over``, ``_unmeasured``, ``energy_joules``; and ``histogram``: reserved GPU-seconds by the use that
    the run made of its share, BINS of them. What nobody measured is in ``_unmeasured`` alone.
    """
    return [
        {
            **dict(zip(("account", "user", "backend", "unit"), key, strict=True)),
            **{f"gpu_seconds_{name}": round(getattr(one, name) or 0.0, 3) for name in _AMOUNTS},
            "energy_joules": round(one.energy or 0.0, 1),
            "histogram": [round(value, 3) for value in one.bins],
        }
        for key, one in sorted(groups.items(), key=lambda each: _in_order(each[0]))
    ]


def bucket_seconds(start: float, end: float) -> float:
    """Return how wide the heat map's cells are in a time: whole hours, so many that they can be seen."""
    hours = (end - start) / 3600.0 / _MOST_BUCKETS
    return next((wide for wide in _BUCKETS if wide >= hours), _BUCKETS[-1]) * 3600.0


def heat_of_hours(sums: Iterable[tuple], start: float, bucket: float) -> dict:
    """Return the heat map of GPUs' hours (Store.hours_in): what each GPU itself did, whoever used it.

    ``{"bucket": SECONDS, "gpus_left_out": COUNT, "cells": [{"node", "gpu", "model", "start", "sampled",
    "gpu_seconds_used", "gpu_seconds_reserved"}, …]}``, of the MOST_GPUS with most reserved.
    """
    return _heat({(node, gpu, model, start + at * bucket): cell for node, gpu, model, at, *cell in sums}, bucket)


def heat_of_records(records: Iterable[UsageRecord], start: float, end: float, bucket: float) -> dict:
    """Return the heat map of what runs themselves used of each GPU in [start, end], for who may not see all of it.

    As heat_of_hours has it; ``sampled`` is the cell's whole width. Within a run its use counts as even.
    """
    cells: dict[tuple, list[float]] = defaultdict(lambda: [bucket, 0.0, 0.0])
    for record in records:
        if record.gpu_seconds_used is None or record.ended <= record.started:
            continue
        low, last = max(record.started, start), min(record.ended, end)
        while low < last:
            at = _bucket(low, start, bucket)
            part = (min(last, at + bucket) - low) / (record.ended - record.started)
            cell = cells[record.node, record.gpu, record.gpu_name, at]
            cell[1] += record.gpu_seconds_used * part
            cell[2] += record.gpu_seconds_reserved * part
            low = at + bucket
    return _heat(cells, bucket)


def _bucket(moment: float, start: float, bucket: float) -> float:
    return start + math.floor((moment - start) / bucket) * bucket


def _heat(cells: dict[tuple, list[float]], bucket: float) -> dict:
    held: dict[tuple, float] = defaultdict(float)
    for (node, gpu, model, _), cell in cells.items():
        held[node, gpu, model] += cell[2]
    shown = set(sorted(held, key=lambda key: (-held[key], _in_order(key)))[:MOST_GPUS])
    return {
        "bucket": bucket,
        "gpus_left_out": len(held) - len(shown),
        "cells": [
            {
                "node": node,
                "gpu": gpu,
                "model": model,
                "start": at,
                "sampled": round(cell[0], 1),
                "gpu_seconds_used": round(cell[1], 1),
                "gpu_seconds_reserved": round(cell[2], 1),
            }
            for (node, gpu, model, at), cell in sorted(cells.items(), key=lambda one: _in_order(one[0]))
            if (node, gpu, model) in shown
        ],
    }


def _in_order(key: tuple) -> tuple:
    """Return by what keys are sorted of which names may be None."""
    return tuple("" if word is None else word for word in key)


def course_bins(record: UsageRecord, course: dict, start: float, end: float) -> list[list]:
    """Return the course of a record over [start, end]: ``[bin, mean use, mean memory, known]`` of TIMELINE_BINS.

    The means are over the whole bin, so that those of several jobs may be stacked and their area is what was used;
    ``known`` is the part of the bin in which the job ran and its use was measured, 0..1. Bins without anything of it
    are left out.
    """
    wide = (end - start) / TIMELINE_BINS
    every = course["every"]
    sums: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    begun, last = record.started - start, min(end, record.ended) - start
    for number, (use, memory) in enumerate(zip(course["sm"], course["memory"], strict=True)):
        low, high = max(0.0, begun + number * every), min(last, begun + (number + 1) * every)
        for at in range(math.floor(low / wide), min(TIMELINE_BINS, math.ceil(high / wide))):
            part = (min(high, (at + 1) * wide) - max(low, at * wide)) / wide
            # A sliver of the neighbouring bin, left over by rounding, is nothing of this one.
            if part <= 1e-6:
                continue
            cell = sums[at]
            if use is not None:
                cell[0] += use * part
                cell[2] += part
            if memory is not None:
                cell[1] += memory * part
    return [
        [at, round(use, 4), round(memory), round(min(1.0, known), 3)]
        for at, (use, memory, known) in sorted(sums.items())
    ]


def timeline(
    records: Sequence[UsageRecord],
    told: Callable[[UsageRecord], dict],
    course: Callable[[UsageRecord], dict | None],
    start: float,
    end: float,
) -> dict:
    """Return what each GPU did for each of ``records``' jobs over [start, end].

    ``told`` returns ``job``, ``user`` and ``account`` of a record, ``course`` its series. The answer:
    ``{"start", "end", "bins", "gpus": [{"node", "gpu", "index", "model", "jobs": [{"job", "user", "account",
    "backend", "fraction", "start", "end", "points": [[bin, use, memory, known], …]}, …]}, …]}``.
    """
    gpus: dict[tuple, list[UsageRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda one: (one.node, one.gpu_index or 0, one.gpu, one.started, one.job_id)):
        if record.ended > start and record.started < end and end > start:
            gpus[record.node, record.gpu].append(record)
    found = []
    for (node, gpu), parts in gpus.items():
        jobs = []
        for record in parts:
            series = course(record)
            jobs.append(
                {
                    **told(record),
                    "backend": record.backend,
                    "fraction": record.fraction,
                    "start": record.started,
                    "end": record.ended,
                    "points": [] if series is None else course_bins(record, series, start, end),
                }
            )
        first = parts[0]
        found.append({"node": node, "gpu": gpu, "index": first.gpu_index, "model": first.gpu_name, "jobs": jobs})
    return {"start": start, "end": end, "bins": TIMELINE_BINS, "gpus": found}


def local_midnight(moment: float, zone: tzinfo | None = None) -> float:
    """Return the beginning of the local day of ``moment``."""
    local = datetime.fromtimestamp(moment, zone)
    return datetime(local.year, local.month, local.day, tzinfo=zone).timestamp()
