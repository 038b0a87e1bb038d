"""What the GPUs of a node did, hour by hour: adds up intervals into GpuHour records. No clock of its own."""

from dataclasses import dataclass, replace

from slurm_gpushare.gpu_hour import HOUR, GpuHour
from slurm_gpushare.metrics.attribution import Interval
from slurm_gpushare.usage import ESTIMATED, MEASURED, UNKNOWN

# An hour is kept for so long after it was told of, should the clock be set back ...
_KEPT = 2 * HOUR
# ... and waits for so long for the cluster's name, which the node learns of its first job.
_UNTOLD = 48 * HOUR
_NOT_MEASURED_SHARE = 0.01


@dataclass
class Sums:
    """One GPU in one hour, or since the agent runs."""

    name: str | None = None
    sampled: float = 0.0
    estimated: float = 0.0
    unknown: float = 0.0
    reserved: float = 0.0
    used: float | None = None
    jobs: float | None = None
    overhead: float | None = None
    unattributed: float | None = None
    energy: float | None = None
    energy_jobs: float | None = None
    energy_overhead: float | None = None
    energy_unattributed: float | None = None
    told: bool = True  # a record has all of it

    def add(self, name: str | None, interval: Interval, part: float = 1.0) -> None:
        """Add so large a part of an interval."""
        self.name, self.told = name or self.name, False
        if interval.used is not None:
            shares = interval.shares.values()
            seconds = interval.seconds * part
            self.sampled += seconds
            self.estimated += seconds * (interval.quality == ESTIMATED)
            self.unknown += seconds * (interval.quality == UNKNOWN)
            self.reserved += part * sum(share.reserved for share in shares)
            self.used = _plus(self.used, part, interval.used)
            self.jobs = _plus(self.jobs, part, sum(share.used or 0.0 for share in shares))
            self.overhead = _plus(self.overhead, part, interval.overhead_used)
            self.unattributed = _plus(self.unattributed, part, interval.unattributed_used)
        if interval.energy is not None:
            self.energy = _plus(self.energy, part, interval.energy)
            jobs = sum(share.energy or 0.0 for share in interval.shares.values())
            self.energy_jobs = _plus(self.energy_jobs, part, jobs)
            self.energy_overhead = _plus(self.energy_overhead, part, interval.overhead_energy)
            self.energy_unattributed = _plus(self.energy_unattributed, part, interval.unattributed_energy)


class GpuHours:
    """The hours of all GPUs of one node or server."""

    def __init__(self, node: str, source: str):
        self._node = node
        self._source = source
        self._hours: dict[tuple[str, float], Sums] = {}  # by GPU and when the hour began
        self._news: set[tuple[str, float]] = set()
        self._totals: dict[str, Sums] = {}

    def add(self, gpu: str, name: str | None, end: float, interval: Interval) -> None:
        """Add an interval of ``gpu`` that ended at ``end``, seconds since the epoch; hours share it by time."""
        self._totals.setdefault(gpu, Sums()).add(name, interval)
        begin, told = end - interval.seconds, 0.0
        hour = begin // HOUR * HOUR
        while hour + HOUR < end:
            part = (hour + HOUR - begin) / interval.seconds - told
            self._add(gpu, name, hour, interval, part)
            told += part
            hour += HOUR
        # All that is left: times of day are too coarse to reckon an interval's length from.
        self._add(gpu, name, hour, interval, 1.0 - told)

    def totals(self, gpu: str) -> Sums:
        """Return a copy of what was added of a GPU since the agent runs."""
        return replace(self._totals.get(gpu) or Sums())

    def records(self, cluster: str | None, now: float, open_too: bool = False) -> list[GpuHour]:
        """Return the hours that are over at ``now`` and were not told of, or have more since; ``open_too``: all such.

        While the cluster's name is not known there are none.
        """
        for key, sums in list(self._hours.items()):
            if abs(now - key[1]) > (_KEPT if sums.told else _UNTOLD):
                del self._hours[key]
                self._news.discard(key)
        if cluster is None:
            return []
        found = []
        for (gpu, hour), sums in self._hours.items():
            if not sums.told and (open_too or hour + HOUR <= now):
                sums.told = True
                self._news.add((gpu, hour))
                found.append(self._record(cluster, gpu, hour, sums))
        return found

    def news(self) -> list[list]:
        """Return the hours that changed since the last call, as ``restore`` takes them."""
        news, self._news = self._news, set()
        return [[*key, dict(vars(self._hours[key]))] for key in news]

    def state(self) -> list[list]:
        """Return all hours, as ``restore`` takes them."""
        return [[*key, dict(vars(sums))] for key, sums in self._hours.items()]

    def restore(self, state: list[list]) -> None:
        """Put the hours of ``state`` in the place of ours; raises TypeError or ValueError where it is none."""
        for gpu, hour, sums in state:
            self._hours[str(gpu), float(hour)] = Sums(**sums)

    def _add(self, gpu: str, name: str | None, hour: float, interval: Interval, part: float) -> None:
        self._hours.setdefault((gpu, hour), Sums()).add(name, interval, part)
        self._news.add((gpu, hour))

    def _record(self, cluster: str, gpu: str, hour: float, sums: Sums) -> GpuHour:
        few = sums.sampled * _NOT_MEASURED_SHARE
        quality = UNKNOWN if sums.sampled == 0 or sums.unknown > few else MEASURED
        if quality == MEASURED and sums.estimated > few:
            quality = ESTIMATED
        return GpuHour(
            cluster=cluster,
            node=self._node,
            gpu=gpu,
            source=self._source,
            hour=hour,
            gpu_name=sums.name,
            seconds_sampled=round(sums.sampled, 6),
            quality=quality,
            gpu_seconds_reserved=round(sums.reserved, 6),
            gpu_seconds_used=_round(sums.used),
            gpu_seconds_jobs=_round(sums.jobs),
            gpu_seconds_overhead=_round(sums.overhead),
            gpu_seconds_unattributed=_round(sums.unattributed),
            energy_joules=_round(sums.energy),
            energy_jobs_joules=_round(sums.energy_jobs),
            energy_overhead_joules=_round(sums.energy_overhead),
            energy_unattributed_joules=_round(sums.energy_unattributed),
        )


def _plus(total: float | None, part: float, whole: float) -> float:
    return (total or 0.0) + part * whole


def _round(value: float | None) -> float | None:
    """Round; what is left of a difference of floats is no negative amount."""
    return None if value is None else round(max(0.0, value), 6)
