"""Reserved and used GPU time by user, account, node, month or any of these together. Pure functions.

A run is cut into pieces, one for each GPU of each node, and each piece by the limits of the period and of days, weeks
or months in local time. What is cut is divided by time: within a run, use counts as even.
"""

import math
import operator
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo

from slurm_gpushare.accounting.calendar_units import around, unit_name
from slurm_gpushare.accounting.dimensions import CALENDAR
from slurm_gpushare.accounting.reconcile import slurm_gpu_seconds
from slurm_gpushare.accounting.report import concerns_us, match, missing_parts, of_one_source, share_of
from slurm_gpushare.slurm.sacct import JobRow
from slurm_gpushare.usage import UsageRecord

_AMOUNTS = ("reserved", "used", "idle", "over", "energy", "slurm", "recorded", "unrecorded", "foreign")
_COUNTS = ("runs", "jobs", "unmeasured", "held", "parts_unrecorded", "parts_foreign")
BINS = 21  # of the histogram of use: 5 % of the share each, and all of it or more


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
    uid: int | None
    began: float  # where it has not been cut: ``start``
    is_last: int  # 1; 0 of a run whose job has run again since: a job counts where its last run is
    # For reconcile.py; of a run that still runs neither side is final.
    slurm: float | None = None  # what Slurm counted of the run, on one piece of it
    recorded: float | None = None  # reserved, of a record and a run that belong together
    unrecorded: float | None = None  # reserved, of a run without a record
    foreign: float | None = None  # reserved, of a record without a run


@dataclass(frozen=True)
class Sums:
    """One line of the report. None: of none of its pieces known."""

    group: dict[str, str | None]
    runs: int
    jobs: int  # those of the runs that are the last of their job
    gpu_seconds_reserved: float | None
    gpu_seconds_used: float | None
    gpu_seconds_idle: float | None
    gpu_seconds_over: float | None
    gpu_seconds_unmeasured: float  # the part of what was reserved of which no use is known
    gpu_seconds_unattributed: float | None  # of GPUs that were measured, by no job; None where it is nobody's line
    used_of_reserved: float | None  # of what was measured, 0 and up
    use_p95: float | None  # 95 % of what was reserved and measured made this use of it or less; 1 is all of it or more
    energy_joules: float | None


def pieces(
    rows: Iterable[JobRow], records: Iterable[UsageRecord], now: float, followed: Collection[tuple] = ()
) -> list[Piece]:
    """Return all pieces of all runs that concern us; a run that has not ended is taken to ``now``.

    ``followed`` are the keys of the runs whose job has run again since.
    """
    rows = list(rows)
    of_run, left = match(rows, records)
    found = [
        piece
        for row in rows
        if concerns_us(row, bool(of_run[row.key]))
        for piece in _of_run(row, of_one_source(of_run[row.key]), now, int(row.key not in followed))
    ]
    # Use of a run that Slurm does not tell of is its user's all the same.
    return found + [
        _measured(
            record,
            (record.cluster, record.job_id, record.started),
            {"user": record.user, "uid": record.uid, "foreign": record.gpu_seconds_reserved},
        )
        for record in left
    ]


def _of_run(row: JobRow, records: Sequence[UsageRecord], now: float, is_last: int) -> Iterator[Piece]:
    slurms = {name: getattr(row, name) for name in ("user", "account", "partition", "qos", "state", "uid")}
    slurms["is_last"] = is_last
    is_over = row.end is not None
    counted = slurm_gpu_seconds(row) if is_over else None
    for number, record in enumerate(records):
        recorded = record.gpu_seconds_reserved if is_over else None
        yield _measured(record, row.key, {**slurms, "recorded": recorded, "slurm": None if number else counted})
    share = share_of(row, records)
    missing = missing_parts(share, row.nodes, records)
    if missing or not records:
        known = share.fraction is not None and row.elapsed_seconds is not None and missing
        reserved = share.fraction * missing * row.elapsed_seconds if known else None
        yield Piece(
            run=row.key,
            cluster=row.cluster,
            **slurms,
            backend=share.backend,
            gpu=None,
            node=row.nodelist if row.nodes == 1 else None,
            start=row.start,
            end=row.end if is_over else now,
            reserved=reserved,
            used=None,
            idle=None,
            over=None,
            energy=None,
            began=row.start,
            unrecorded=reserved if is_over else None,
            slurm=None if records else counted,
        )


def _measured(record: UsageRecord, run: tuple, more: Mapping[str, object]) -> Piece:
    """Return the piece of a record; ``more`` has what the record does not know."""
    return Piece(
        run=run,
        cluster=record.cluster,
        **{"account": None, "partition": None, "qos": None, "state": None, "is_last": 1, **more},
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
        began=record.started,
    )


def clip(piece: Piece, start: float, end: float) -> Piece | None:
    """Return the part of a piece in [start, end), None where there is none."""
    if piece.end <= piece.start:
        return piece if start <= piece.start < end else None
    low, high = max(piece.start, start), min(piece.end, end)
    if low >= high:
        return None
    if (low, high) == (piece.start, piece.end):
        return piece
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
        first, following = around(moment, unit, zone)
        part = clip(piece, moment, following)
        if part is not None:
            yield unit_name(first, unit), part
        if following >= piece.end:
            return
        moment = following


@dataclass
class Tally:
    """What the pieces of one group add up to, unrounded, so that tallies can be added to each other."""

    runs: int = 0
    jobs: int = 0
    reserved: float | None = None
    used: float | None = None
    idle: float | None = None
    over: float | None = None
    energy: float | None = None
    unmeasured: float = 0.0
    held: float = 0.0  # reserved, of what was measured
    bins: tuple[float, ...] = (0.0,) * BINS  # ``held`` by the use that was made of it
    slurm: float | None = None  # this and the next as of Piece
    recorded: float | None = None
    unrecorded: float | None = None
    foreign: float | None = None
    parts_unrecorded: int = 0  # that begin here
    parts_foreign: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        amounts = {name: _sum((getattr(self, name), getattr(other, name))) for name in _AMOUNTS}
        bins = tuple(map(operator.add, self.bins, other.bins))
        counts = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        return Tally(**amounts, **counts, bins=bins)


def tally(parts: Sequence[Piece]) -> Tally:
    """Return what the pieces add up to."""
    seconds: list[list[float]] = [[] for _ in range(BINS)]
    for part in parts:
        if part.used is not None and part.reserved:
            seconds[bin_of(part.used / part.reserved)].append(part.reserved)
    return Tally(
        runs=len({part.run for part in parts}),
        jobs=len({part.run for part in parts if part.is_last}),
        **{name: _sum(getattr(part, name) for part in parts) for name in _AMOUNTS},
        unmeasured=math.fsum(part.reserved or 0.0 for part in parts if part.used is None),
        held=math.fsum(part.reserved or 0.0 for part in parts if part.used is not None),
        bins=tuple(map(math.fsum, seconds)),
        parts_unrecorded=sum(part.unrecorded is not None and part.start == part.began for part in parts),
        parts_foreign=sum(part.foreign is not None and part.start == part.began for part in parts),
    )


def bin_of(use: float) -> int:
    """Return the bin of the histogram of a ``use``, 0..1 and up of what was reserved."""
    return max(0, min(BINS - 1, math.floor(use * (BINS - 1) + 1e-9)))


def percentile(bins: Sequence[float], share: float) -> float | None:
    """Return the use at or below which ``share`` of the seconds in ``bins`` lie, None where there are none.

    Seconds count as even within a bin: the error is one bin at most, 5 percentage points. 1 is "all of it or more".
    """
    wanted = share * math.fsum(bins)
    if wanted <= 0:
        return None
    for number, seconds in enumerate(bins[:-1]):
        if wanted <= seconds:
            return round((number + wanted / seconds) / (BINS - 1), 4)
        wanted -= seconds
    return 1.0


def tallies(
    found: Iterable[Piece], by: Sequence[str], start: float, end: float, zone: tzinfo | None = None
) -> dict[tuple, Tally]:
    """Return the tally of each group of the pieces' parts in [start, end); a group is the values of ``by``."""
    groups: dict[tuple, list[Piece]] = defaultdict(list)
    unit = next((name for name in by if name in CALENDAR), None)
    for whole in found:
        piece = clip(whole, start, end)
        if piece is None:
            continue
        for label, part in [(None, piece)] if unit is None else calendar(piece, unit, zone):
            groups[tuple(label if each == unit else getattr(part, each) for each in by)].append(part)
    return {key: tally(parts) for key, parts in groups.items()}


def lines(by: Sequence[str], groups: Mapping[tuple, Tally]) -> list[Sums]:
    """Return one line for each group, those with most reserved first, in the order of time where ``by`` has one."""
    unit = next((name for name in by if name in CALENDAR), None)
    found = [_sums(dict(zip(by, key, strict=True)), each) for key, each in groups.items()]
    return sorted(
        found,
        key=lambda line: (line.group[unit] if unit else "", -(line.gpu_seconds_reserved or 0.0), _words(line.group)),
    )


def summarise(
    found: Iterable[Piece], by: Sequence[str], start: float, end: float, zone: tzinfo | None = None
) -> list[Sums]:
    """Return one line for each group of the pieces' parts in [start, end)."""
    return lines(by, tallies(found, by, start, end, zone))


def _words(group: dict[str, str | None]) -> list[str]:
    return [value or "" for value in group.values()]


def _sums(group: dict[str, str | None], found: Tally) -> Sums:
    return Sums(
        group=group,
        runs=found.runs,
        jobs=found.jobs,
        gpu_seconds_reserved=_rounded(found.reserved),
        gpu_seconds_used=_rounded(found.used),
        gpu_seconds_idle=_rounded(found.idle),
        gpu_seconds_over=_rounded(found.over),
        gpu_seconds_unmeasured=round(found.unmeasured, 6),
        gpu_seconds_unattributed=None,
        used_of_reserved=None if found.used is None or found.held <= 0 else round(found.used / found.held, 4),
        use_p95=percentile(found.bins, 0.95),
        energy_joules=_rounded(found.energy),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) if known else None
