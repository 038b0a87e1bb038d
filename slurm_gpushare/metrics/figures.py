"""What an agent shows to Prometheus at one moment: its GPUs and its jobs, with what was added up of each.

It is a copy: another thread makes text of it while the agent measures on.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from slurm_gpushare.launch import LaunchRecord
from slurm_gpushare.metrics import accumulate, gpu_hours
from slurm_gpushare.metrics.accumulate import Accumulator
from slurm_gpushare.metrics.attribution import Share
from slurm_gpushare.metrics.live import LiveGpu


@dataclass(frozen=True)
class GpuFigures:
    """One GPU."""

    now: LiveGpu
    name: str  # its UUID, or what stands for it in the records
    reserved: float  # by jobs now, in whole GPUs
    totals: gpu_hours.Sums  # since the agent runs


@dataclass(frozen=True)
class JobFigures:
    """One job on one of its GPUs. None means not known."""

    job_id: int
    user: str
    gpu: int  # the number of the GPU on this node or server; of a pool, measured in the allocation: in the job
    name: str  # as of GpuFigures
    backend: str
    source: str  # who measures (usage.SOURCES)
    fraction: float
    started: float  # seconds since the epoch
    reserved: float  # GPU-seconds since then
    sm: float | None  # share of the whole GPU in the last interval
    memory: int | None  # bytes
    memory_share: int | None  # bytes
    processes: int | None
    totals: accumulate.Sums  # since it began


@dataclass(frozen=True)
class Figures:
    """All that one agent measures."""

    kind: str  # live.NODE | live.SERVER
    name: str  # of the node or server
    sampled: float  # seconds since the epoch: the last sample
    gpus: tuple[GpuFigures, ...]
    jobs: tuple[JobFigures, ...]


def job_figures(
    record: LaunchRecord, number: int, sums: Accumulator, share: Share | None, ran: float, longest: float
) -> JobFigures:
    """Return one job on one GPU.

    Parameters
    ----------
    share
        Its last interval; what ended more than ``longest`` seconds ago is not said again.
    ran
        Seconds since the job began.
    """
    if ran - sums.last > longest:
        share = None
    known = share is not None and share.used is not None and share.seconds > 0
    return JobFigures(
        job_id=record.job_id,
        user=record.user,
        gpu=number,
        name=sums.gpu,
        backend=sums.backend,
        source=sums.source,
        fraction=sums.fraction,
        started=record.started,
        reserved=sums.fraction * max(0.0, ran),
        sm=min(1.0, share.used / share.seconds) if known else None,
        memory=None if share is None else share.memory,
        memory_share=sums.memory_share,
        processes=None if share is None or share.processes is None else len(share.processes),
        totals=sums.totals(),
    )


def newest(jobs: Iterable[JobFigures]) -> tuple[JobFigures, ...]:
    """Return the jobs without earlier runs of the same one: a series has one value."""
    found: dict[tuple[int, int], JobFigures] = {}
    for job in sorted(jobs, key=lambda job: job.started):
        found[job.job_id, job.gpu] = job
    return tuple(found.values())
