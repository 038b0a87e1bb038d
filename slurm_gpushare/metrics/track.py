"""From readings of one GPU to intervals between two good ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from slurm_gpushare.metrics.attribution import energy_between
from slurm_gpushare.metrics.readings import GpuReading

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

    def __init__(self, longest: float, powers: Sequence[float | None] = (None, None)):
        self.why: str | None = None  # the last reading ended no interval, though there was one before it
        self._longest = longest
        self._before: GpuReading | None = None
        self._least, self._least_idle = powers

    @property
    def powers(self) -> tuple[float | None, float | None]:
        """The least watts seen, and the least seen with nothing on the GPU; another track of it goes on with them."""
        return self._least, self._least_idle

    def gap(self) -> None:
        """Say that a reading is missing: the next one begins anew."""
        self._before = None

    def step(self, reading: GpuReading) -> Step | None:
        """Take the next reading; return the interval since the last one, None where there was none."""
        before, self._before = self._before, reading
        self.why = None
        if before is None:
            return None
        if before.uuid != reading.uuid:
            self._least = self._least_idle = None
            self.why = "another GPU came in its place"
            return None
        seconds = reading.time - before.time
        if not 0 < seconds <= self._longest:
            self.why = f"no sample for {seconds:.0f} s"
            return None
        energy = energy_between(seconds, (before.energy, before.power), (reading.energy, reading.power))
        if energy is not None and seconds >= _SHORTEST_FOR_POWER:
            watts = energy / seconds
            self._least = watts if self._least is None else min(self._least, watts)
            if reading.sm == 0:
                self._least_idle = watts if self._least_idle is None else min(self._least_idle, watts)
        return Step(seconds, energy, self._least if self._least_idle is None else self._least_idle, reading)
