"""From runs and usage records to what people read: one object for each run of a job. Pure functions.

Sums are over the run's parts; a part is one GPU of one node. What one part does not know is not known of the run.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

from slurm_gpushare.errors import GrantError
from slurm_gpushare.grant import Grant, decode_grant, looks_like_grant
from slurm_gpushare.slurm.sacct import JobRow
from slurm_gpushare.slurm.tres import gres_count, gres_types, parse_tres
from slurm_gpushare.usage import ESTIMATED, MEASURED, SOURCES, UNKNOWN, UsageRecord, enforces_of

# A node's clock and slurmctld's may differ by this many seconds: a usage record begins within its run, give or take.
SLACK = 10.0

_WORSE = (MEASURED, ESTIMATED, UNKNOWN)


@dataclass(frozen=True)
class RunReport:
    """One run of a job. Times are seconds since the epoch; None is what is not known. The order is the contract's."""

    cluster: str
    job_id: int
    submit: int | None  # None, as all of Slurm's: usage was measured of a run that Slurm does not tell of
    restart: int | None
    user: str | None
    account: str | None
    partition: str | None
    qos: str | None
    state: str | None
    request: str | None
    backend: str | None
    gpus: int | float | None  # on each node; the mean where nodes have different numbers
    fraction: float | None  # of each GPU
    nodes: int
    array_job_id: int | None
    array_task_id: int | None
    start: float
    end: float | None  # None: it runs
    elapsed_seconds: int | None  # Slurm's, without the time in which the job was suspended
    gpu_seconds_reserved: float | None
    gpu_seconds_used: float | None
    gpu_seconds_idle: float | None
    gpu_seconds_over: float | None
    memory_peak_bytes: int | None  # the largest of the parts, of the seconds that were sampled
    energy_joules: float | None
    quality: str  # the worst of the parts
    coverage: float | None  # share of the parts' time that was sampled, 0..1
    enforces: str | None  # what held the run to its share: the least of the parts
    image: str | None  # of the job's container, and what tells it from another at that path (usage.image_text)
    reason: str | None  # what gpushare did to it, and why: it was warned, ended or requeued


KEYS = tuple(item.name for item in fields(RunReport))


@dataclass(frozen=True)
class Share:
    """What a run was given, as far as it is known."""

    backend: str | None = None
    gpus: int | float | None = None
    fraction: float | None = None
    request: str | None = None


def concerns_us(row: JobRow, has_usage: bool) -> bool:
    """Tell whether a run belongs into reports.

    It has begun, and has a grant, GPUs or shards, a usage record, or asked for a share that its client lost.
    """
    if row.start is None or not row.alloc_tres:
        return False
    tres = parse_tres(row.alloc_tres)
    held = gres_count(tres, "gpu") > 0 or gres_count(tres, "shard") > 0
    return held or has_usage or looks_like_grant(row.extra) or row.lost_request is not None


def build(rows: Iterable[JobRow], records: Iterable[UsageRecord], start: float, end: float) -> list[RunReport]:
    """Return the reports of all runs that held resources in [``start``, ``end``], oldest first.

    ``records`` without a run among ``rows`` make a report of their own, so that no measured use is lost.
    """
    rows = list(rows)
    of_run, left = match(rows, records)
    reports = [run_report(row, of_run[row.key]) for row in rows if concerns_us(row, bool(of_run[row.key]))]
    reports += [without_slurm(group) for group in groups(left)]
    chosen = [one for one in reports if one.start <= end and (one.end is None or one.end >= start)]
    return sorted(chosen, key=lambda one: (one.start, one.cluster, one.job_id, one.restart or 0))


def match(
    rows: Iterable[JobRow], records: Iterable[UsageRecord]
) -> tuple[dict[tuple, list[UsageRecord]], list[UsageRecord]]:
    """Give each record to the run of its job that contains its beginning; return those by run's key, and the rest.

    Where several runs do (a job requeued within the slack), the one that began nearest to it has the record.
    """
    runs = defaultdict(list)
    for row in rows:
        if row.start is not None:
            runs[row.cluster, row.job_id].append(row)
    of_run, left = defaultdict(list), []
    for record in records:
        around = [row for row in runs[record.cluster, record.job_id] if _contains(row, record.started)]
        if around:
            of_run[min(around, key=lambda row: (abs(row.start - record.started), row.restart)).key].append(record)
        else:
            left.append(record)
    return of_run, left


def run_report(row: JobRow, records: Sequence[UsageRecord]) -> RunReport:
    """Return the report of one run from what Slurm tells of it and what was measured."""
    records = of_one_source(records)
    share = share_of(row, records)
    elapsed = row.elapsed_seconds
    missing = missing_parts(share, row.nodes, records)
    return RunReport(
        cluster=row.cluster,
        job_id=row.job_id,
        submit=row.submit,
        restart=row.restart,
        user=row.user,
        account=row.account,
        partition=row.partition,
        qos=row.qos,
        state=row.state or None,
        request=share.request,
        backend=share.backend,
        gpus=share.gpus,
        fraction=share.fraction,
        nodes=row.nodes,
        array_job_id=row.array_job_id,
        array_task_id=row.array_task_id,
        start=row.start,
        end=row.end,
        elapsed_seconds=elapsed,
        reason=row.reason,
        **_sums(records, missing, share.fraction, elapsed),
    )


def of_one_source(records: Sequence[UsageRecord]) -> list[UsageRecord]:
    """Return those records of a run that count: of the source that is believed first of those that saw enough of it.

    Two sources measured the same GPU seconds, so they are never added up. One that saw less than half of what another
    did gives way to it: a pool's server knows only the time in which a job had the GPU for itself.
    """
    seen: dict[str, float] = defaultdict(float)
    for record in records:
        # By fraction, since one record of a server may stand for several allocations on that GPU.
        seen[record.source] += 0.0 if record.quality == UNKNOWN else record.fraction * record.seconds_sampled
    enough = max(seen.values(), default=0.0) / 2
    sources = [source for source, sampled in seen.items() if sampled >= enough]
    chosen = min(sources, key=lambda name: (SOURCES.index(name) if name in SOURCES else len(SOURCES), name), default="")
    return [record for record in records if record.source == chosen]


def missing_parts(share: Share, nodes: int, records: Sequence[UsageRecord]) -> int:
    """Return how many of a run's parts have no record; 0 where it is not known how many there are."""
    parts = 0 if share.gpus is None else round(share.gpus * nodes)
    return max(0, parts - _parts(records, share.fraction))


def _parts(records: Sequence[UsageRecord], fraction: float | None) -> int:
    """Return how many of the run's parts, each ``fraction`` of a GPU, have a record; one of a server may be several."""
    if not fraction:
        return len(records)
    return sum(max(1, round(record.fraction / fraction)) for record in records)


def share_of(row: JobRow, records: Sequence[UsageRecord] = ()) -> Share:
    """Return what a run was given: from its grant, else from Slurm's TRES, else from what was measured."""
    grant = grant_of(row.extra)
    if grant is not None:
        return Share(grant.backend, grant.gpus * grant.tasks, grant.fraction, grant.request or None)
    allocated, asked = parse_tres(row.alloc_tres), parse_tres(row.req_tres)
    if gpus := gres_count(allocated, "gpu"):
        return Share("gpu", _each(gpus, row.nodes), 1.0, _request(asked, row.nodes))
    if row.lost_request is not None and not records:
        return Share(gpus=0, request=row.lost_request)
    measured = _share_of_records(records)
    if gres_count(allocated, "shard") and measured.backend is None:
        return Share("shard", request=_request(asked, row.nodes))
    return measured


def _share_of_records(records: Sequence[UsageRecord]) -> Share:
    if not records:
        return Share()
    backends = {record.backend for record in records}
    fractions = {record.fraction for record in records}
    return Share(
        backends.pop() if len(backends) == 1 else None,
        _each(len(records), len({record.node for record in records})),
        fractions.pop() if len(fractions) == 1 else None,
    )


def _sums(records: Sequence[UsageRecord], missing: int, fraction: float | None, elapsed: int | None) -> dict:
    """Return the measured part of a report, where ``missing`` parts have no record."""
    reserved = [record.gpu_seconds_reserved for record in records]
    weights = [record.ended - record.started for record in records]
    if missing or not records:
        # A part that nobody measured was reserved all the same.
        known = fraction is not None and elapsed is not None and missing
        reserved.append(fraction * missing * elapsed if known else None)
        weights.append(float(missing * (elapsed or 0)))
    sampled = [min(record.seconds_sampled, record.ended - record.started) for record in records]
    peaks = [record.memory_peak_bytes for record in records if record.memory_peak_bytes is not None]
    qualities = [record.quality for record in records] + [UNKNOWN] * bool(missing)

    def total(name: str) -> float | None:
        return None if missing else _sum([getattr(record, name) for record in records])

    return {
        "gpu_seconds_reserved": _sum(reserved),
        "gpu_seconds_used": total("gpu_seconds_used"),
        "gpu_seconds_idle": total("gpu_seconds_idle"),
        "gpu_seconds_over": total("gpu_seconds_over"),
        "memory_peak_bytes": max(peaks, default=None),
        "energy_joules": total("energy_joules"),
        "quality": max(qualities, key=_WORSE.index, default=UNKNOWN),
        "coverage": round(math.fsum(sampled) / math.fsum(weights), 4) if records and sum(weights) > 0 else None,
        "enforces": None if missing else enforces_of([record.enforces for record in records]),
        "image": next((record.image for record in records if record.image), None),
    }


def without_slurm(records: Sequence[UsageRecord]) -> RunReport:
    """Return the report of usage whose run Slurm does not tell of."""
    records = of_one_source(records)
    share = _share_of_records(records)
    first = records[0]
    return RunReport(
        cluster=first.cluster,
        job_id=first.job_id,
        submit=None,
        restart=None,
        user=first.user,
        account=None,
        partition=None,
        qos=None,
        state=None,
        request=None,
        backend=share.backend,
        gpus=share.gpus,
        fraction=share.fraction,
        nodes=len({record.node for record in records}),
        array_job_id=None,
        array_task_id=None,
        start=min(record.started for record in records),
        end=max(record.ended for record in records),
        elapsed_seconds=None,
        reason=None,
        **_sums(records, 0, share.fraction, None),
    )


def groups(records: Iterable[UsageRecord]) -> list[list[UsageRecord]]:
    """Return ``records`` by run: those of one job that overlap in time belong together."""
    found: list[list[UsageRecord]] = []
    for record in sorted(records, key=lambda one: (one.cluster, one.job_id, one.started)):
        last = found[-1] if found else []
        same = last and (last[0].cluster, last[0].job_id) == (record.cluster, record.job_id)
        if same and record.started <= max(one.ended for one in last):
            last.append(record)
        else:
            found.append([record])
    return found


def _contains(row: JobRow, moment: float) -> bool:
    return row.start - SLACK <= moment and (row.end is None or moment <= row.end + SLACK)


@lru_cache(4096)  # jobs of one kind have the same, and each is looked at several times
def grant_of(extra: str) -> Grant | None:
    """Return the grant of ``extra``; None for a text that is none, or is of a version that is not known here."""
    if not looks_like_grant(extra):
        return None
    try:
        return decode_grant(extra)
    except GrantError:
        return None


def _request(asked: dict[str, str], nodes: int) -> str | None:
    """Return what ReqTRES asked for on each node, as sbatch's --gres writes it; in all where it does not divide."""
    for name in ("gpu", "shard"):
        if count := gres_count(asked, name):
            types = gres_types(asked, name)
            word = f"{name}:{types[0]}" if len(types) == 1 else name
            each = _each(count, nodes)
            return f"{word}:{each}" if isinstance(each, int) else f"{word}={count}"
    return None


def _each(count: int, nodes: int) -> int | float:
    return count // nodes if nodes and count % nodes == 0 else count / max(nodes, 1)


def _sum(values: Iterable[float | None]) -> float | None:
    values = list(values)
    return None if not values or None in values else round(math.fsum(values), 6)
