"""Who uses what was reserved: a rank, the runs that wasted most, and those that held a GPU without a process.

Pure functions. Efficiency is used / reserved, of what was measured. It is above 1 where a job took more than its share
of a GPU that nobody else needed then.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from slurm_gpushare.accounting.report import concerns_us, groups, match, of_one_source, share_of
from slurm_gpushare.accounting.usage_report import Sums, Tally
from slurm_gpushare.slurm.sacct import JobRow
from slurm_gpushare.usage import UsageRecord

BY = ("user", "account")
IDLE = "gpu_seconds_idle"
WITHOUT_PROCESS = "gpu_seconds_without_process"
BINS = 10


@dataclass(frozen=True)
class Ranked:
    """What one user or account used of what it reserved. None: not known, or not for who asks."""

    rank: int | None  # 1 is the best; equal ones have the same
    of: int | None  # how many have a rank
    name: str | None
    runs: int
    gpu_seconds_reserved: float | None
    gpu_seconds_used: float | None
    gpu_seconds_idle: float | None
    gpu_seconds_over: float | None
    gpu_seconds_unmeasured: float
    used_of_reserved: float | None


@dataclass(frozen=True)
class Waste:
    """What one run left unused in the period. Times are seconds since the epoch; None: not known."""

    cluster: str
    job: str  # as Slurm writes it
    job_id: int
    restart: int | None
    user: str | None
    account: str | None
    partition: str | None
    backend: str | None
    request: str | None
    state: str | None
    start: float
    end: float | None
    gpu_seconds_reserved: float  # of what was measured
    gpu_seconds_used: float
    gpu_seconds_idle: float
    gpu_seconds_without_process: float | None
    used_of_reserved: float | None


def rank(
    lines: Iterable[Sums], everybody: Iterable[Sums], by: str, whole: Callable[[str | None], bool]
) -> list[Ranked]:
    """Return ``lines``, the best first, with the rank of their names among ``everybody``; both are sums by ``by``.

    ``whole`` tells of a name whether all that it reserved is in its line: others have no rank.
    """
    values = {line.group[by]: line.used_of_reserved for line in everybody if line.used_of_reserved is not None}
    order = sorted(values.values())
    found = [
        _ranked(line, line.group[by], values.get(line.group[by]) if whole(line.group[by]) else None, order)
        for line in lines
    ]
    return sorted(found, key=lambda one: (one.used_of_reserved is None, -(one.used_of_reserved or 0.0), one.name or ""))


def _ranked(line: Sums, name: str | None, value: float | None, order: Sequence[float]) -> Ranked:
    """Return the line with the rank of ``value`` among those in ``order``, which are sorted; None: it has none."""
    return Ranked(
        rank=None if value is None else 1 + len(order) - bisect_right(order, value),
        of=None if value is None else len(order),
        name=name,
        runs=line.runs,
        gpu_seconds_reserved=line.gpu_seconds_reserved,
        gpu_seconds_used=line.gpu_seconds_used,
        gpu_seconds_idle=line.gpu_seconds_idle,
        gpu_seconds_over=line.gpu_seconds_over,
        gpu_seconds_unmeasured=line.gpu_seconds_unmeasured,
        used_of_reserved=line.used_of_reserved,
    )


def distribution(found: Iterable[Tally]) -> list[dict]:
    """Return how much was reserved, of what was measured, at which use: BINS bins from 0 on, and one from 1 on.

    ``[{"from": SHARE, "to": SHARE or None, "gpu_seconds": SECONDS}, …]``; use is used / reserved of a run on one GPU.
    """
    whole = sum(found, Tally()).bins
    finer = (len(whole) - 1) // BINS
    parts = [whole[at : at + finer] for at in range(0, BINS * finer, finer)] + [whole[-1:]]
    return [
        {
            "from": round(number / BINS, 4),
            "to": None if number == BINS else round((number + 1) / BINS, 4),
            "gpu_seconds": round(math.fsum(part), 6),
        }
        for number, part in enumerate(parts)
    ]


def runs(rows: Iterable[JobRow], records: Iterable[UsageRecord]) -> list[tuple[JobRow | None, list[UsageRecord]]]:
    """Return the runs that concern us with the records that count of each; None: Slurm does not tell of it."""
    rows = list(rows)
    of_run, left = match(rows, records)
    found = [(row, of_one_source(of_run[row.key])) for row in rows if concerns_us(row, bool(of_run[row.key]))]
    return found + [(None, of_one_source(group)) for group in groups(left)]


def waste(row: JobRow | None, records: Sequence[UsageRecord], start: float, end: float) -> Waste | None:
    """Return what one of ``runs`` left unused in [``start``, ``end``), None where nothing is known of it then."""
    parts = [(record, _part(record, start, end)) for record in records if record.gpu_seconds_idle is not None]
    parts = [(record, share) for record, share in parts if share > 0]
    if not parts:
        return None

    def total(name: str) -> float:
        return round(math.fsum(getattr(record, name) * share for record, share in parts), 6)

    first = parts[0][0]
    reserved, used = total("gpu_seconds_reserved"), total("gpu_seconds_used")
    known = all(record.gpu_seconds_without_process is not None for record, _ in parts)
    slurms = {
        name: None if row is None else getattr(row, name) for name in ("restart", "account", "partition", "state")
    }
    return Waste(
        cluster=first.cluster,
        job=str(first.job_id) if row is None else row.job,
        job_id=first.job_id,
        user=first.user if row is None else row.user,
        backend=first.backend,
        request=None if row is None else share_of(row, records).request,
        start=min(record.started for record in records) if row is None else row.start,
        end=max(record.ended for record in records) if row is None else row.end,
        gpu_seconds_reserved=reserved,
        gpu_seconds_used=used,
        gpu_seconds_idle=total(IDLE),
        gpu_seconds_without_process=total(WITHOUT_PROCESS) if known else None,
        used_of_reserved=round(used / reserved, 4) if reserved > 0 else None,
        **slurms,
    )


def _part(record: UsageRecord, start: float, end: float) -> float:
    """Return the share of a record's time that lies in [``start``, ``end``)."""
    if record.ended <= record.started:
        return 1.0 if start <= record.started < end else 0.0
    overlap = min(record.ended, end) - max(record.started, start)
    return max(0.0, overlap) / (record.ended - record.started)


def worst(
    bounds: Iterator[tuple[float, tuple[str, int]]],
    look: Callable[[list[tuple[str, int]]], list[Waste]],
    name: str,
    most: int,
) -> list[Waste]:
    """Return the ``most`` runs with the largest ``name`` (IDLE or WITHOUT_PROCESS).

    ``bounds`` are jobs, (cluster, job id), with what none of their runs exceeds, the largest first; ``look`` returns
    the runs of some. No more is looked at than can be among the largest.
    """
    found: list[Waste] = []
    batch: list[tuple[str, int]] = []

    def least() -> float:
        return getattr(found[most - 1], name) if len(found) >= most else 0.0

    for bound, job in bounds:
        if bound <= least():
            break
        batch.append(job)
        if len(batch) == most:
            found = _largest([*found, *look(batch)], name, most)
            batch = []
    return _largest([*found, *look(batch)], name, most) if batch else found


def _largest(found: Iterable[Waste], name: str, most: int) -> list[Waste]:
    known = [one for one in found if getattr(one, name)]
    return sorted(known, key=lambda one: (-getattr(one, name), one.start, one.job_id))[:most]
