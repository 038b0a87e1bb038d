"""What MPS limits: a client's share of the threads (percent) and its memory by device. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from slurm_gpushare.errors import LabError

UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
EVERY_DEVICE = "*"


def parse_size(text: str, units: str) -> int:
    """Return the bytes of ``8G``; ``units`` are the letters that may end it. Raises LabError."""
    found = re.fullmatch(rf"([1-9][0-9]{{0,9}})([{units}])B?", text)
    if not found:
        raise LabError(f"{text!r} is no memory limit: it must be a whole number followed by one of {', '.join(units)}")
    return int(found[1]) * UNITS[found[2]]


def format_size(size: int) -> str:
    """Return bytes in the largest unit that divides them."""
    unit = next((unit for unit in "GMK" if size % UNITS[unit] == 0), None)
    return f"{size // UNITS[unit]}{unit}" if unit else str(size)


def parse_percentage(text: str) -> float:
    """Return the percentage of threads. Raises LabError."""
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", text) or not 0 < float(text) <= 100:
        raise LabError(f"{text!r} is no percentage of the threads: it must be above 0 and at most 100")
    return float(text)


def parse_memory_variable(text: str) -> dict[str, int]:
    """Return {device: bytes} of CUDA_MPS_PINNED_DEVICE_MEM_LIMIT, ``0=1G,GPU-…=512MB``. Raises LabError."""
    limits = {}
    for limit in text.split(","):
        device, _, size = limit.strip().partition("=")
        limits[device] = parse_size(size, "MG")
    return limits


@dataclass
class Limits:
    """``threads`` None: not set. ``memory`` has devices as they were named, the one set last at its end."""

    threads: float | None = None
    memory: dict[str, int] = field(default_factory=dict)

    def copy(self) -> "Limits":
        """Return limits of the same values."""
        return Limits(self.threads, dict(self.memory))

    def set_memory(self, device: str, size: int) -> None:
        """Limit a device's memory (bytes), whatever its other names say."""
        self.memory.pop(device, None)
        self.memory[device] = size

    def on(self, devices: Sequence[str]) -> dict[str, int]:
        """Return {UUID: bytes}, of each of a server's devices the limit set last; unknown devices do not count."""
        limits = {}
        for name, size in self.memory.items():
            for device in devices if name == EVERY_DEVICE else find_device(name, devices):
                limits[device] = size
        return limits


def find_device(name: str, devices: Sequence[str]) -> list[str]:
    """Return the device of that ordinal, UUID or unique beginning of a UUID; nothing where there is none."""
    if re.fullmatch(r"[0-9]{1,4}", name):
        return list(devices[int(name) : int(name) + 1])
    found = [device for device in devices if name.startswith("GPU-") and device.startswith(name)]
    return found if len(found) == 1 else []


def visible(text: str | None, devices: Sequence[str]) -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES leaves of devices: the first entry that names none hides all that follow."""
    if text is None:
        return list(devices)
    left: list[str] = []
    for name in text.split(","):
        found = find_device(name, devices)
        if not found:
            break
        left += found
    return left


def constrain(
    of_server: Limits, devices: Sequence[str], threads: float | None, memory: dict[str, int], overrides: bool
) -> tuple[float, dict[str, int]]:
    """Return (percent, {UUID: bytes}) that hold for a client whose environment says ``threads`` and ``memory``.

    They can only be tightened there; ``overrides``: a percentage of the server's stands whatever the client says (v3).
    """
    shares = [share for share in (of_server.threads, threads) if share is not None]
    share = of_server.threads if overrides and of_server.threads is not None else min(shares, default=100.0)
    limits = of_server.on(devices)
    for device, size in Limits(memory=memory).on(devices).items():
        limits[device] = min(size, limits.get(device, size))
    return share, limits
