"""Static SM partitions (``-S``): SMs of a GPU that belong to some clients alone. Pure."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.mps.assumed import CHUNKS, SMS_PER_CHUNK
from slurm_gpushare.lab.standins.mps.limits import find_device

SHORT_UUID = 12  # GPU- and eight digits, as in NVIDIA's examples


@dataclass(frozen=True)
class Partition:
    """So many chunks of one device (a UUID)."""

    device: str
    id: str
    chunks: int

    @property
    def name(self) -> str:
        """Return the value of CUDA_MPS_SM_PARTITION for its clients."""
        return f"{self.device}/{self.id}"

    @property
    def percentage(self) -> float:
        """Return its part of the device's SMs."""
        return 100 * self.chunks / CHUNKS


class Partitions:
    """All partitions of a daemon's devices."""

    def __init__(self, devices: Sequence[str]) -> None:
        self._devices = devices
        self._partitions: list[Partition] = []
        self._made = 0

    def _device(self, word: str) -> str:
        found = find_device(word, self._devices) if word.startswith("GPU-") else []
        if not found:
            raise LabError(f"sm_partition: {word!r} is no UUID of a device of this daemon")
        return found[0]

    def free(self, device: str) -> int:
        """Return the chunks of the device that no partition has."""
        return CHUNKS - sum(partition.chunks for partition in self._partitions if partition.device == device)

    def add(self, word: str, chunks: str) -> Partition:
        """Make a partition. Raises LabError."""
        device = self._device(word)
        if not re.fullmatch(r"[1-9][0-9]?", chunks) or int(chunks) > self.free(device):
            raise LabError(f"sm_partition: {chunks} chunks: {device} has {self.free(device)} free")
        self._made += 1
        number = base64.b64encode(self._made.to_bytes(2, "little") + bytes(25)).decode()
        self._partitions.append(Partition(device, number, int(chunks)))
        return self._partitions[-1]

    def find(self, name: str) -> Partition:
        """Return the partition ``UUID/ID``, where the UUID may be a unique beginning. Raises LabError."""
        word, _, number = name.partition("/")
        device = self._device(word)
        for partition in self._partitions:
            if (partition.device, partition.id) == (device, number):
                return partition
        raise LabError(f"there is no SM partition {name}")

    def remove(self, partition: Partition) -> None:
        """Give the partition's SMs back."""
        self._partitions.remove(partition)

    def table(self, used: set[Partition]) -> str:
        """Return what ``lspart`` prints; ``used`` have clients."""
        rows = [("GPU", "Partition", "free chunk", "used chunk", "free SM", "used SM", "clients")]
        for device in self._devices:
            free = self.free(device)
            numbers = free, CHUNKS - free, free * SMS_PER_CHUNK, (CHUNKS - free) * SMS_PER_CHUNK
            rows.append((device[:SHORT_UUID], "-", *map(str, numbers), "-"))
            for partition in self._partitions:
                if partition.device == device:
                    sizes = "-", str(partition.chunks), "-", str(partition.chunks * SMS_PER_CHUNK)
                    rows.append((device[:SHORT_UUID], partition.id, *sizes, "Yes" if partition in used else "-"))
        widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
        return "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)
