"""Reserved and used GPU time by user, account, node, month or any of these together. Pure functions.

A run is cut into pieces, one for each GPU of each node, and each piece by the limits of the period and of days, weeks
or months in local time. What is cut is divided by time: within a run, use counts as even.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo

from slurm_gpushare.accounting.dimensions import CALENDAR
from slurm_gpushare.accounting.report import concerns_us, match, missing_parts, of_one_source, share_of
from slurm_gpushare.slurm.sacct import JobRow
from slurm_gpushare.usage import UsageRecord

_AMOUNTS = ("reserved", "used", "idle", "over", "energy")


@dataclass(frozen=True)
class Piece:
    """What one run held of one GPU in one time. Times are seconds since the epoch, amounts GPU-seconds and joules."""

    run: tuple  # what tells runs apart
    cluster: str
    user: str | None
    account: str | None
    partition: str | None
    qos: str | None
    state: str | None
    backend: str | None
    gpu: str | None  # its model
    node: str | None
    start: float
    end: float
    reserved: float | None
    used: float | None
    idle: float | None
    over: float | None
    energy: float | None


@dataclass(frozen=True)
class Sums:
    """One line of the report. None: of none of its pieces known."""

    group: dict[str, str | None]
    runs: int
    gpu_seconds_reserved: float | None
    gpu_seconds_used: float | None
    gpu_seconds_idle: float | None
    gpu_seconds_over: float | None
    gpu_seconds_unmeasured: float  # the part of what was reserved of which no use is known
    used_of_reserved: float | None  # of what was measured, 0 and up
    energy_joules: float | None


def pieces(rows: Iterable[JobRow], records: Iterable[UsageRecord], now: float) -> list[Piece]:
    """Return all pieces of all runs that concern us; a run that has not ended is taken to ``now``."""
    rows = list(rows)
    of_run, left = match(rows, records)
    found = [
        piece
        for row in rows
        if concerns_us(row, bool(of_run[row.key]))
        for piece in _of_run(row, of_one_source(of_run[row.key]), now)
    ]
    # Use of a run that Slurm does not tell of is its user's all the same.
    return found + [
        _measured(record, (record.cluster, record.job_id, record.started), {"user": record.user}) for record in left
    ]


def _of_run(row: JobRow, records: Sequence[UsageRecord], now: float) -> Iterator[Piece]:
    slurms = {name: getattr(row, name) for name in ("user", "account", "partition", "qos", "state")}
    for record in records:
        yield _measured(record, row.key, slurms)
    share = share_of(row, records)
    missing = missing_parts(share, row.nodes, records)
    if missing or not records:
        known = share.fraction is not None and row.elapsed_seconds is not None and missing
        yield Piece(
            run=row.key,
            cluster=row.cluster,
            **slurms,
            backend=share.backend,
            gpu=None,
            node=row.nodelist if row.nodes == 1 else None,
            start=row.start,
            end=now if row.end is None else row.end,
            reserved=share.fraction * missing * row.elapsed_seconds if known else None,
            used=None,
            idle=None,
            over=None,
            energy=None,
        )


def _measured(record: UsageRecord, run: tuple, slurms: dict[str, str | None]) -> Piece:
    return Piece(
        run=run,
        cluster=record.cluster,
        **{"user": None, "account": None, "partition": None, "qos": None, "state": None, **slurms},
        backend=record.backend,
        gpu=record.gpu_name,
        node=record.node,
        start=record.started,
        end=record.ended,
        reserved=record.gpu_seconds_reserved,
        used=record.gpu_seconds_used,
        idle=record.gpu_seconds_idle,
        over=record.gpu_seconds_over,
        energy=record.energy_joules,
    )


def clip(piece: Piece, start: float, end: float) -> Piece | None:
    """Return the part of a piece in [start, end), None where there is none."""
    if piece.end <= piece.start:
        return piece if start <= piece.start < end else None
    low, high = max(piece.start, start), min(piece.end, end)
    if low >= high:
        return None
    part = (high - low) / (piece.end - piece.start)
    amounts = {name: getattr(piece, name) for name in _AMOUNTS}
    scaled = {name: None if amount is None else amount * part for name, amount in amounts.items()}
    return replace(piece, start=low, end=high, **scaled)


def calendar(piece: Piece, unit: str, zone: tzinfo | None = None) -> Iterator[tuple[str, Piece]]:
    """Cut a piece by local days, weeks (from Monday) or months; yield each with its name: its first day, or its month.

    ``zone`` None is the machine's own. A day in which clocks change has 23 or 25 hours.
    """
    moment = piece.start
    while True:
        first, following = _around(moment, unit, zone)
        name = f"{first:%Y-%m}" if unit == "month" else f"{first:%Y-%m-%d}"
        part = clip(piece, moment, following)
        if part is not None:
            yield name, part
        if following >= piece.end:
            return
        moment = following


def _around(moment: float, unit: str, zone: tzinfo | None) -> tuple[datetime, float]:
    """Return the beginning of the unit around ``moment``, and the moment of the next one's."""
    local = datetime.fromtimestamp(moment, zone)
    day = datetime(local.year, local.month, local.day)
    if unit == "week":
        day -= timedelta(days=day.weekday())
    if unit == "month":
        day = day.replace(day=1)
        following = (day + timedelta(days=31)).replace(day=1)
    else:
        following = day + timedelta(days=7 if unit == "week" else 1)
    limit = following.replace(tzinfo=zone).timestamp()
    # Where clocks are put back over midnight that hour is there twice.
    return day, limit if limit > moment else limit + 3600.0


def summarise(
    found: Iterable[Piece], by: Sequence[str], start: float, end: float, zone: tzinfo | None = None
) -> list[Sums]:
    """Return one line for each group of the pieces' parts in [start, end), those with most reserved first."""
    groups: dict[tuple, list[Piece]] = defaultdict(list)
    unit = next((name for name in by if name in CALENDAR), None)
    for whole in found:
        piece = clip(whole, start, end)
        if piece is None:
            continue
        for name, part in [(None, piece)] if unit is None else calendar(piece, unit, zone):
            groups[tuple(name if each == unit else getattr(part, each) for each in by)].append(part)
    lines = [_sums(dict(zip(by, key, strict=True)), parts) for key, parts in groups.items()]
    if unit is None:
        return sorted(lines, key=lambda line: (-(line.gpu_seconds_reserved or 0.0), _words(line.group)))
    return sorted(lines, key=lambda line: (line.group[unit], -(line.gpu_seconds_reserved or 0.0), _words(line.group)))


def _words(group: dict[str, str | None]) -> list[str]:
    return [value or "" for value in group.values()]


def _sums(group: dict[str, str | None], parts: Sequence[Piece]) -> Sums:
    measured = [part for part in parts if part.used is not None]
    held = math.fsum(part.reserved or 0.0 for part in measured)
    used = _sum(part.used for part in parts)
    return Sums(
        group=group,
        runs=len({part.run for part in parts}),
        gpu_seconds_reserved=_sum(part.reserved for part in parts),
        gpu_seconds_used=used,
        gpu_seconds_idle=_sum(part.idle for part in parts),
        gpu_seconds_over=_sum(part.over for part in parts),
        gpu_seconds_unmeasured=round(math.fsum(part.reserved or 0.0 for part in parts if part.used is None), 6),
        used_of_reserved=None if used is None or held <= 0 else round(used / held, 4),
        energy_joules=_sum(part.energy for part in parts),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(math.fsum(known), 6) if known else None
