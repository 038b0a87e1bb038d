"""From readings of one GPU to intervals between two good ones."""

from dataclasses import dataclass

from slurm_gpushare.metrics.attribution import energy_between
from slurm_gpushare.metrics.nvml import GpuReading

# The energy counter moves in steps of up to 100 ms, so that a shorter interval says nothing about the idle power.
_SHORTEST_FOR_POWER = 0.5


@dataclass(frozen=True)
class Step:
    """An interval that ends with ``reading``."""

    seconds: float
    energy: float | None  # joules of the device
    idle_power: float | None  # watts: the least seen with nothing on the GPU, or else the least seen
    reading: GpuReading


class Track:
    """One GPU through time. Two readings more than ``longest`` seconds apart have a gap between them, no interval."""

    def __init__(self, longest: float):
        self._longest = longest
        self._before: GpuReading | None = None
        self._least: float | None = None
        self._least_idle: float | None = None

    def gap(self) -> None:
        """Say that a reading is missing: the next one begins anew."""
        self._before = None

    def step(self, reading: GpuReading) -> Step | None:
        """Take the next reading; return the interval since the last one, None where there was none."""
        before, self._before = self._before, reading
        if before is None or before.uuid != reading.uuid:
            return None
        seconds = reading.time - before.time
        if not 0 < seconds <= self._longest:
            return None
        energy = energy_between(seconds, (before.energy, before.power), (reading.energy, reading.power))
        if energy is not None and seconds >= _SHORTEST_FOR_POWER:
            watts = energy / seconds
            self._least = watts if self._least is None else min(self._least, watts)
            if reading.sm == 0:
                self._least_idle = watts if self._least_idle is None else min(self._least_idle, watts)
        return Step(seconds, energy, self._least if self._least_idle is None else self._least_idle, reading)
