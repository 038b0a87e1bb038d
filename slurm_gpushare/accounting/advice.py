"""With how much less of a GPU a user's jobs would have done: from what their recent ones used. Pure functions.

Jobs that asked for the same, of the same backend on the same model, are taken together; the advice is the smallest
share in which each of them would have fitted: its use in 95 % of the time, and the most memory that it held. What was
not measured for most of its time gives no advice.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from slurm_gpushare.accounting.report import match, of_one_source, share_of
from slurm_gpushare.slurm.sacct import JobRow
from slurm_gpushare.usage import UNKNOWN, UsageRecord

STEP = 0.01  # of a GPU: a share is advised in whole per cent, rounded up
_LEAST_COVERAGE = 0.5  # of a run's time that must have been sampled
_UNIT = 1 << 20  # bytes: memory is advised in whole MiB, rounded up


@dataclass(frozen=True)
class Advice:
    """What one user could ask for instead of ``request``. None: not known."""

    user: str | None
    account: str | None
    backend: str | None
    gpu: str | None  # the model
    request: str | None
    fraction: float  # of each GPU, as it was given
    jobs: int  # runs that the advice rests on
    jobs_unknown: int  # runs that asked for the same and of which too little is known
    sm_p95: float  # the largest of the runs', of the whole GPU
    memory_peak_bytes: int  # the largest of the runs'
    fraction_advised: float
    memory_advised_bytes: int
    gpu_seconds_reserved: float
    gpu_seconds_freed: float  # had all of them asked for that


def advise(rows: Iterable[JobRow], records: Iterable[UsageRecord]) -> list[Advice]:
    """Return the advice on each kind of job that could have asked for less, where most would be freed first."""
    rows = list(rows)
    of_run, _ = match(rows, records)
    kinds: dict[tuple, list[list[UsageRecord]]] = defaultdict(list)
    for row in rows:
        parts = of_one_source(of_run[row.key])
        if row.end is None or not parts or len({part.fraction for part in parts}) != 1:
            continue
        share = share_of(row, parts)
        models = {part.gpu_name for part in parts}
        model = models.pop() if len(models) == 1 else None
        kinds[row.user, row.account, share.backend, model, share.request, parts[0].fraction].append(parts)
    found = [_advice(kind, runs) for kind, runs in kinds.items()]
    chosen = [one for one in found if one is not None and one.fraction_advised < one.fraction]
    return sorted(chosen, key=lambda one: (-one.gpu_seconds_freed, one.user or "", one.request or ""))


def _advice(kind: tuple, runs: Sequence[Sequence[UsageRecord]]) -> Advice | None:
    user, account, backend, model, request, fraction = kind
    known = [parts for parts in runs if all(_is_known(part) for part in parts)]
    if not known:
        return None
    parts = [part for each in known for part in each]
    busiest = max(part.sm_p95 for part in parts)
    # A share of memory is counted as Slurm gives it: with the same share of the GPU.
    fullest = max(part.memory_peak_bytes / (part.memory_share_bytes / part.fraction) for part in parts)
    advised = max(STEP, math.ceil(max(busiest, fullest) / STEP - 1e-6) * STEP)
    peak = max(part.memory_peak_bytes for part in parts)
    reserved = math.fsum(part.gpu_seconds_reserved for part in parts)
    return Advice(
        user=user,
        account=account,
        backend=backend,
        gpu=model,
        request=request,
        fraction=fraction,
        jobs=len(known),
        jobs_unknown=len(runs) - len(known),
        sm_p95=busiest,
        memory_peak_bytes=peak,
        fraction_advised=round(advised, 4),
        memory_advised_bytes=math.ceil(peak / _UNIT) * _UNIT,
        gpu_seconds_reserved=round(reserved, 6),
        gpu_seconds_freed=round(max(0.0, reserved * (1 - advised / fraction)), 6),
    )


def _is_known(part: UsageRecord) -> bool:
    amounts = (part.sm_p95, part.memory_peak_bytes, part.memory_share_bytes)
    return None not in amounts and part.quality != UNKNOWN and part.coverage >= _LEAST_COVERAGE
