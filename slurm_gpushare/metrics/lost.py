"""The GPUs that the agent finds lost, in a file that Slurm's HealthCheckProgram (etc/libexec/gpushare-health) reads.

`/run/gpushare/NODE/lost` has a line for each, such as `GPU 1 is lost`; there is no such file where all are well, nor
while no agent runs. A GPU that does not answer, or a driver that is away, is no lost GPU: both may pass by themselves.
"""

import os
from collections.abc import Callable, Iterable

from slurm_gpushare.metrics.nvml import Nvml
from slurm_gpushare.metrics.readings import GpuReading

LOST = ("GPU is lost", "GPU needs a reset")  # the faults of a reading that only an administrator mends


def lost_file(folder: str) -> str:
    """Return the path of the file in the agent's runtime folder."""
    return os.path.join(folder, "lost")


class LostGpus:
    """Keeps the file; ``say`` gets a line where it cannot be written."""

    def __init__(self, folder: str, say: Callable[[str], None]):
        self._path = lost_file(folder)
        self._say = say
        self._lost: dict[int, str] = {}
        self._written: str | None = None

    def note(self, readings: Iterable[GpuReading]) -> None:
        """Take in what was read of some of the GPUs; the others are as they were."""
        for reading in readings:
            number = reading.index if reading.minor is None else reading.minor
            if reading.fault in LOST:
                self._lost[number] = reading.fault.removeprefix("GPU ")
            elif reading.fault is None:
                self._lost.pop(number, None)
        self._write("".join(f"GPU {number} {what}\n" for number, what in sorted(self._lost.items())))

    def forget(self) -> None:
        """Remove the file: what is so when no agent runs is not known."""
        self._lost.clear()
        self._write("")

    def _write(self, text: str) -> None:
        if text == self._written:
            return
        try:
            if text:
                with open(self._path + ".new", "w", encoding="utf-8") as file:
                    file.write(text)
                os.replace(self._path + ".new", self._path)
            elif os.path.lexists(self._path):
                os.unlink(self._path)
        except OSError as error:
            # Said once: it is tried again when something changes.
            self._say(f"{self._path}: {error.strerror}: HealthCheckProgram does not learn which GPUs are lost")
        self._written = text


class WatchedNvml(Nvml):
    """The door to NVML, which also tells ``lost`` of each reading."""

    def __init__(self, lost: LostGpus, **options: object):
        super().__init__(**options)
        self._lost_gpus = lost

    def read(self, only: set[int] | None = None) -> list[GpuReading]:
        """Read as Nvml does."""
        readings = super().read(only)
        self._lost_gpus.note(readings)
        return readings
