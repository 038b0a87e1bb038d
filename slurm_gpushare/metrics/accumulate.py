"""What one job used of one GPU, added up over its intervals."""

from collections.abc import Hashable
from dataclasses import asdict, dataclass, replace

from slurm_gpushare import backends
from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.launch import LaunchRecord
from slurm_gpushare.metrics.attribution import Share
from slurm_gpushare.metrics.gaps import Gaps
from slurm_gpushare.metrics.histogram import Histogram, bytes_bin, bytes_of, share_bin, share_of
from slurm_gpushare.metrics.readings import GpuReading
from slurm_gpushare.metrics.series import Series
from slurm_gpushare.usage import ESTIMATED, MEASURED, UNKNOWN, UsageRecord, enforces_text, image_text

# A few intervals in which readings did not agree do not make a long job's figures an estimate.
_ESTIMATED_SHARE = 0.01
# An agent's first sample, and the first by another function, have no readings of processes.
_READ_SHARE = 0.9
_MOST_PROCESSES = 100_000  # are told apart; in a pool their numbers are the user's word


@dataclass
class Sums:
    """Over the intervals so far; None where no interval knew it."""

    sampled: float = 0.0  # seconds of known use
    estimated: float = 0.0  # of these
    used: float = 0.0
    idle: float = 0.0
    over: float = 0.0
    without_process: float | None = None
    read: float | None = None
    read_seconds: float = 0.0  # in which the processes' own readings were known
    energy: float | None = None
    sm_max: float | None = None
    memory_max: int | None = None
    memory_seconds: float = 0.0  # in which the memory was known
    byte_seconds: float = 0.0


class Accumulator:
    """Sums of one job on one GPU, from its first interval to its record."""

    def __init__(self, job: LaunchRecord, gpu: str, index: int | None, backend: str, fraction: float, source: str):
        self.gpu = gpu
        self.gpu_name: str | None = None
        self.memory_share = None if job.grant is None else job.grant.memory
        self.backend = backend
        self.fraction = fraction
        self._job = job
        self._index = index
        self.source = source
        self._last = 0.0  # the end of the last interval, seconds since the job began
        self._sums = Sums()
        self._processes: set[Hashable] | None = None
        self._sm = Histogram()
        self._memory = Histogram()
        self._series = Series()
        self._gaps = Gaps()
        self._news: list[list | str] = []

    def describe(self, reading: GpuReading, suffix: str = "") -> None:
        """Say which device it is; ``suffix`` goes behind its UUID."""
        self.gpu = reading.uuid + suffix if reading.uuid else self.gpu
        self.gpu_name = reading.name or self.gpu_name
        if self.memory_share is None and reading.memory_total is not None:
            # A part that MIG made is what the job was given, whole.
            self.memory_share = round(reading.memory_total * (1.0 if reading.part else self.fraction))

    def add(self, share: Share, at: float | None = None) -> None:
        """Add one interval that ended ``at`` seconds after the job began; None: it follows on the last one.

        One without a known use counts neither as sampled nor as idle.
        """
        at = self._last + share.seconds if at is None else at
        self._news.append([at, *vars(share).values()])
        start, self._last = at - share.seconds, max(self._last, at)
        sums, sm = self._sums, None
        if share.used is None:
            self._gaps.because(share.why or "use is not known")
        elif share.seconds > 0:
            self._gaps.known(start, at)
            sums.sampled += share.seconds
            sums.used += share.used
            sums.idle += share.idle
            sums.over += share.over
            sums.without_process = _plus(sums.without_process, share.without_process)
            sums.read = _plus(sums.read, share.read)
            sums.read_seconds += 0.0 if share.read is None else share.seconds
            if share.quality == ESTIMATED:
                sums.estimated += share.seconds
            sm = min(1.0, share.used / share.seconds)
            sums.sm_max = max(sums.sm_max or 0.0, sm)
            self._sm.add(share_bin(sm), share.seconds)
        sums.energy = _plus(sums.energy, share.energy)
        if share.memory is not None:
            sums.memory_max = max(sums.memory_max or 0, share.memory)
            sums.memory_seconds += share.seconds
            sums.byte_seconds += share.memory * share.seconds
            self._memory.add(bytes_bin(share.memory), share.seconds)
        self._series.add(start, at, sm, share.memory)
        if share.processes is not None:
            self._processes = set() if self._processes is None else self._processes
            if len(self._processes) < _MOST_PROCESSES:
                self._processes.update(share.processes)

    def because(self, why: str) -> None:
        """Say why nothing is known of the job's use from now on, until the next interval of known use."""
        if self._gaps.because(why):
            self._news.append(why)

    @property
    def so_far(self) -> tuple[float, float | None]:
        """Return the seconds in which the use was known, and the GPU-seconds that were used in them."""
        return self._sums.sampled, self._sums.used if self._sums.sampled else None

    @property
    def last(self) -> float:
        """Return the end of the last interval, seconds since the job began."""
        return self._last

    def totals(self) -> Sums:
        """Return a copy of what was added up."""
        return replace(self._sums)

    def record(self, ended: float) -> UsageRecord:
        """Return the record of the job's time up to ``ended`` (seconds since the epoch).

        What was reserved is known for the whole time, sampled or not; used, idle and over are of the sampled seconds.
        """
        span = max(0.0, ended - self._job.started)
        sums = self._sums
        known = sums.sampled > 0
        quality = UNKNOWN
        if known:
            quality = ESTIMATED if sums.estimated > sums.sampled * _ESTIMATED_SHARE else MEASURED
        # That the GPU did nothing for a while is read everywhere: by itself it is no sum of readings.
        read = sums.read if sums.read_seconds >= sums.sampled * _READ_SHARE else None
        mean = sums.byte_seconds / sums.memory_seconds if sums.memory_seconds > 0 else None
        return UsageRecord(
            cluster=self._job.cluster,
            job_id=self._job.job_id,
            node=self._job.node,
            gpu=self.gpu,
            gpu_index=self._index,
            gpu_name=self.gpu_name,
            backend=self.backend,
            fraction=self.fraction,
            uid=self._job.uid,
            user=self._job.user,
            started=self._job.started,
            ended=self._job.started + span,
            seconds_sampled=_round(min(sums.sampled, span)),
            quality=quality,
            source=self.source,
            gpu_seconds_reserved=_round(self.fraction * span),
            gpu_seconds_used=_round(sums.used) if known else None,
            gpu_seconds_idle=_round(sums.idle) if known else None,
            gpu_seconds_over=_round(sums.over) if known else None,
            memory_peak_bytes=sums.memory_max,
            energy_joules=_round(sums.energy),
            processes_seen=None if self._processes is None else len(self._processes),
            enforces=self._enforces(),
            image=image_text(self._job),
            memory_share_bytes=self.memory_share,
            sm_mean=_round(min(1.0, sums.used / sums.sampled)) if known else None,
            sm_p50=self._sm_percentile(0.50),
            sm_p95=self._sm_percentile(0.95),
            sm_max=_round(sums.sm_max),
            memory_mean_bytes=None if mean is None else round(mean),
            memory_p50_bytes=self._memory_percentile(0.50),
            memory_p95_bytes=self._memory_percentile(0.95),
            gpu_seconds_without_process=_round(sums.without_process),
            gpu_seconds_read=_round(read),
            gaps=self._gaps.until(span),
            series=self._series.points(),
        )

    def news(self) -> list:
        """Return what came since the last call, as ``replay`` takes it: intervals, and reasons of gaps."""
        news, self._news = self._news, []
        return news

    def replay(self, news: list) -> None:
        """Take what ``news`` returned of another accumulator; raises TypeError or ValueError where it is none."""
        for each in news:
            if isinstance(each, str):
                self.because(each)
                continue
            at, *values = each
            share = Share(*values)
            if share.processes is not None:
                share = replace(share, processes=_identities(share.processes))
            self.add(share, at)
        self._news.clear()

    def state(self) -> dict:
        """Return the sums as JSON has them."""
        return {
            "gpu": self.gpu,
            "gpu_name": self.gpu_name,
            "memory_share": self.memory_share,
            "last": self._last,
            "sums": asdict(self._sums),
            "processes": None if self._processes is None else sorted(self._processes),
            "sm": self._sm.state(),
            "memory": self._memory.state(),
            "series": self._series.state(),
            "gaps": self._gaps.state(),
        }

    def restore(self, state: dict) -> None:
        """Go on from ``state``; raises KeyError, TypeError or ValueError where it is none."""
        self.gpu, self.gpu_name = str(state["gpu"]), state["gpu_name"]
        self.memory_share, self._last = state["memory_share"], float(state["last"])
        self._sums = Sums(**state["sums"])
        self._processes = None if state["processes"] is None else set(_identities(state["processes"]))
        self._sm, self._memory = Histogram.of_state(state["sm"]), Histogram.of_state(state["memory"])
        self._series, self._gaps = Series.of_state(state["series"]), Gaps.of_state(state["gaps"])

    def _sm_percentile(self, share: float) -> float | None:
        bin_ = self._sm.percentile(share)
        return None if bin_ is None else _round(min(share_of(bin_), self._sums.sm_max))

    def _memory_percentile(self, share: float) -> int | None:
        bin_ = self._memory.percentile(share)
        return None if bin_ is None else min(bytes_of(bin_), self._sums.memory_max)

    def _enforces(self) -> str | None:
        try:
            return enforces_text(self._job.options.get("enforces") or backends.find(self.backend).ENFORCES)
        except BrokenInstallation:
            return None  # a backend of a newer version


def _plus(total: float | None, more: float | None) -> float | None:
    return total if more is None else (total or 0.0) + more


def _identities(listed: list) -> tuple[Hashable, ...]:
    return tuple(tuple(each) if isinstance(each, list) else each for each in listed)


def _round(value: float | None) -> float | None:
    """Drop what lies below the microsecond: sums of floats would otherwise fill the record with digits."""
    return None if value is None else round(value, 6)
