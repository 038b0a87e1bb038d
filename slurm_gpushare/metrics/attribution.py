"""Who used a GPU in one interval: pure functions over two readings of it.

Always, for SM seconds and for joules: sum over the jobs + overhead + unattributed = device. Where the device's own
value is not known nothing is made up: used, idle and over are None.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from slurm_gpushare.usage import ESTIMATED, MEASURED, UNKNOWN

# NVML gives whole per cent: each reading may be half a point off without anything being wrong.
_ROUNDING = 0.005


@dataclass(frozen=True)
class Holder:
    """A job that held a share of the GPU in the interval."""

    job: Hashable
    fraction: float  # of the GPU, 0..1
    seconds: float  # of the interval in which it held it


@dataclass(frozen=True)
class Process:
    """A process on the GPU; ``job`` is None where it belongs to none of the holders."""

    identity: Hashable
    job: Hashable | None
    sm: float | None  # share of the GPU's SM time, 0..1
    memory: int | None  # bytes
    overhead: bool = False  # a server of MPS, which works for all of its clients
    ended: bool = False  # it came and went in the interval, of all of which ``sm`` is then a share


@dataclass(frozen=True)
class Share:
    """One job's part of the interval. None: not known.

    The agent's checkpoint has the values in this order (accumulate.py): a new one goes to the end, with a default.
    """

    seconds: float
    reserved: float  # GPU-seconds, fraction * seconds
    used: float | None  # GPU-seconds
    idle: float | None  # max(0, reserved - used)
    over: float | None  # max(0, used - reserved)
    memory: int | None  # bytes of its processes at the interval's end
    energy: float | None  # joules
    processes: tuple[Hashable, ...] | None
    quality: str
    without_process: float | None = None  # GPU-seconds: part of idle in which the job had no process on the GPU
    read: float | None = None  # GPU-seconds: what its processes' own readings add up to, before they were scaled
    why: str | None = None  # the use is not known


@dataclass(frozen=True)
class Interval:
    """One GPU between two readings."""

    seconds: float
    shares: dict[Hashable, Share]
    used: float | None  # GPU-seconds of the device
    overhead_used: float | None  # what servers of MPS took
    unattributed_used: float | None  # what belongs to no holder
    energy: float | None  # joules of the device
    overhead_energy: float | None
    unattributed_energy: float | None
    readings: float | None  # GPU-seconds that the processes' own readings add up to, before they were scaled
    quality: str


@dataclass(frozen=True)
class _Division:
    """GPU-seconds of the device by job. None: not known, and why."""

    used: dict[Hashable, float] | None
    quality: str
    overhead: float = 0.0
    readings: float | None = None
    why: str | None = None


def attribute(
    seconds: float,
    device_sm: float | None,
    holders: Sequence[Holder],
    processes: Sequence[Process] | None,
    energy: float | None = None,
    idle_power: float | None = None,
) -> Interval:
    """Divide one GPU's interval among its holders.

    Parameters
    ----------
    seconds
        Length of the interval, above 0.
    device_sm
        The device's share of time with a kernel on it, 0..1.
    processes
        The processes on the GPU, None where the list is not known.
    energy
        Joules of the whole device in the interval.
    idle_power
        Watts that the device takes with nothing to do; None: take all energy as idle.
    """
    device = None if device_sm is None else device_sm * seconds
    division = _divide(seconds, device, holders, processes)
    overhead = None if device is None else division.overhead
    joules, overhead_joules = _energy(seconds, device, holders, division, energy, idle_power)
    shares = {}
    for holder in holders:
        mine = None if processes is None else [process for process in processes if process.job == holder.job]
        reserved = holder.fraction * holder.seconds
        part = None if division.used is None else division.used[holder.job]
        idle = None if part is None else max(0.0, reserved - part)
        memory = None
        if mine is not None and all(process.memory is not None for process in mine):
            # Those that came and went were not there together.
            ended = max((process.memory for process in mine if process.ended), default=0)
            memory = max(ended, sum(process.memory for process in mine if not process.ended))
        read = None
        if division.readings is not None and mine is not None:
            ran = min(seconds, holder.seconds)
            read = sum(process.sm * (seconds if process.ended else ran) for process in mine)
        shares[holder.job] = Share(
            seconds=holder.seconds,
            reserved=reserved,
            used=part,
            idle=idle,
            over=None if part is None else max(0.0, part - reserved),
            memory=memory,
            energy=None if joules is None else joules[holder.job],
            processes=None if mine is None else tuple(process.identity for process in mine),
            quality=division.quality,
            without_process=None if mine is None or idle is None else (0.0 if mine else idle),
            read=read,
            why=division.why,
        )
    return Interval(
        seconds=seconds,
        shares=shares,
        used=device,
        overhead_used=overhead,
        unattributed_used=None if device is None else device - overhead - sum((division.used or {}).values()),
        energy=energy,
        overhead_energy=overhead_joules,
        unattributed_energy=None if energy is None else energy - overhead_joules - sum((joules or {}).values()),
        readings=division.readings,
        quality=division.quality,
    )


def energy_between(
    seconds: float, before: tuple[float | None, float | None], after: tuple[float | None, float | None]
) -> float | None:
    """Return the joules between two (joules of the counter, watts): by the counter, else by the mean power."""
    if before[0] is not None and after[0] is not None and after[0] >= before[0]:
        return after[0] - before[0]
    if before[1] is not None and after[1] is not None:
        return (before[1] + after[1]) / 2 * seconds
    return None


def _divide(
    seconds: float, device: float | None, holders: Sequence[Holder], processes: Sequence[Process] | None
) -> _Division:
    """Divide the device's GPU-seconds by what the processes' own readings say."""
    if device is None:
        return _Division(None, UNKNOWN, why="GPU tells no utilisation")
    if processes is None or any(process.sm is None for process in processes):
        return _estimate(device, seconds, holders, processes)
    total = sum(process.sm for process in processes) * seconds
    scale = device / total if total > device else 1.0
    used = dict.fromkeys((holder.job for holder in holders), 0.0)
    held = {holder.job: min(1.0, holder.seconds / seconds) for holder in holders}
    overhead = 0.0
    for process in processes:
        part = process.sm * seconds * scale
        if process.job in used:
            used[process.job] += part if process.ended else part * held[process.job]
        elif process.overhead:
            overhead += part
    busy = sum(1 for process in processes if process.sm)
    exceeds = total > device + (busy + 1) * _ROUNDING * seconds
    return _Division(used, ESTIMATED if exceeds else MEASURED, overhead, total)


def _estimate(
    device: float, seconds: float, holders: Sequence[Holder], processes: Sequence[Process] | None
) -> _Division:
    """Divide the device's value by fraction among the jobs with a process on it, whose own readings are not known."""
    used = dict.fromkeys((holder.job for holder in holders), 0.0)
    if device == 0:
        return _Division(used, MEASURED)
    if processes is None:
        # Without a list only a job that has the whole GPU can be meant.
        live = [holder for holder in holders if holder.fraction >= 1.0]
        if holders and not live:
            return _Division(None, UNKNOWN, why="GPU tells no processes")
    else:
        with_process = {process.job for process in processes if process.job in used or not process.overhead}
        if with_process - set(used):
            return _Division(None, UNKNOWN, why="GPU tells no utilisation of processes, and not all are of its jobs")
        live = [holder for holder in holders if holder.job in with_process]
    weight = sum(holder.fraction for holder in live)
    for holder in live:
        used[holder.job] = device * holder.fraction / weight * min(1.0, holder.seconds / seconds)
    return _Division(used, ESTIMATED)


def _energy(
    seconds: float,
    device: float | None,
    holders: Sequence[Holder],
    division: _Division,
    energy: float | None,
    idle_power: float | None,
) -> tuple[dict | None, float | None]:
    """Return joules by job, and those of the overhead: the idle part by reserved share, the active part by SM share."""
    if energy is None:
        return None, None
    if division.used is None:
        return None, 0.0
    idle = energy if not device or idle_power is None else min(energy, idle_power * seconds)
    shares = {holder.job: holder.fraction * min(1.0, holder.seconds / seconds) for holder in holders}
    crowd = max(1.0, sum(shares.values()))
    device = device or math.inf  # where it did nothing all of it is idle
    joules = {
        job: idle * share / crowd + (energy - idle) * (division.used[job] / device) for job, share in shares.items()
    }
    return joules, (energy - idle) * (division.overhead / device)
