"""What one job used of one GPU, added up over its intervals."""

from collections.abc import Hashable

from slurm_gpushare import backends
from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.launch import LaunchRecord
from slurm_gpushare.metrics.attribution import Share
from slurm_gpushare.usage import ESTIMATED, MEASURED, UNKNOWN, UsageRecord, enforces_text

# A few intervals in which readings did not agree do not make a long job's figures an estimate.
_ESTIMATED_SHARE = 0.01
_MOST_PROCESSES = 100_000  # are told apart; in a pool their numbers are the user's word


class Accumulator:
    """Sums of one job on one GPU, from its first interval to its record."""

    def __init__(self, job: LaunchRecord, gpu: str, index: int | None, backend: str, fraction: float, source: str):
        self.gpu = gpu
        self.gpu_name: str | None = None
        self._job = job
        self._index = index
        self._backend = backend
        self._fraction = fraction
        self._source = source
        self._sampled = 0.0
        self._estimated = 0.0
        self._used = self._idle = self._over = 0.0
        self._energy: float | None = None
        self._memory: int | None = None
        self._processes: set[Hashable] | None = None

    def add(self, share: Share) -> None:
        """Add one interval. One without a known use counts neither as sampled nor as idle."""
        if share.used is not None:
            self._sampled += share.seconds
            self._used += share.used
            self._idle += share.idle
            self._over += share.over
            if share.quality == ESTIMATED:
                self._estimated += share.seconds
        if share.energy is not None:
            self._energy = (self._energy or 0.0) + share.energy
        if share.memory is not None:
            self._memory = max(self._memory or 0, share.memory)
        if share.processes is not None:
            if self._processes is None:
                self._processes = set()
            if len(self._processes) < _MOST_PROCESSES:
                self._processes.update(share.processes)

    def record(self, ended: float) -> UsageRecord:
        """Return the record of the job's time up to ``ended`` (seconds since the epoch).

        What was reserved is known for the whole time, sampled or not; used, idle and over are of the sampled seconds.
        """
        span = max(0.0, ended - self._job.started)
        known = self._sampled > 0
        quality = UNKNOWN
        if known:
            quality = ESTIMATED if self._estimated > self._sampled * _ESTIMATED_SHARE else MEASURED
        return UsageRecord(
            cluster=self._job.cluster,
            job_id=self._job.job_id,
            node=self._job.node,
            gpu=self.gpu,
            gpu_index=self._index,
            gpu_name=self.gpu_name,
            backend=self._backend,
            fraction=self._fraction,
            uid=self._job.uid,
            user=self._job.user,
            started=self._job.started,
            ended=self._job.started + span,
            seconds_sampled=_round(min(self._sampled, span)),
            quality=quality,
            source=self._source,
            gpu_seconds_reserved=_round(self._fraction * span),
            gpu_seconds_used=_round(self._used) if known else None,
            gpu_seconds_idle=_round(self._idle) if known else None,
            gpu_seconds_over=_round(self._over) if known else None,
            memory_peak_bytes=self._memory,
            energy_joules=None if self._energy is None else _round(self._energy),
            processes_seen=None if self._processes is None else len(self._processes),
            enforces=self._enforces(),
        )

    def _enforces(self) -> str | None:
        try:
            return enforces_text(self._job.options.get("enforces") or backends.find(self._backend).ENFORCES)
        except BrokenInstallation:
            return None  # a backend of a newer version


def _round(value: float) -> float:
    """Drop what lies below the microsecond: sums of floats would otherwise fill the record with digits."""
    return round(value, 6)
