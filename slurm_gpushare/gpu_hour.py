"""The GPU's hour: what one GPU did in one hour of the clock, and how much of it jobs account for.

It is the device's side of the usage records, by which they can be checked:
jobs + overhead + unattributed = used, for SM time and for energy. Standard library only, as usage.py.
"""

import json
from dataclasses import MISSING, asdict, dataclass, fields

from slurm_gpushare.errors import GrantError

VERSION = 1
KIND = "gpu_hour"
HOUR = 3600.0  # seconds


@dataclass(frozen=True)
class GpuHour:
    """One GPU in one hour. None means not known; sums are over the sampled seconds alone.

    Sent again with more of the same hour, it replaces what was there.
    """

    cluster: str
    node: str  # or the server of a pool
    gpu: str  # UUID
    source: str  # who measured: "node" or "server", as in usage.py
    hour: float  # when it began, seconds since the epoch by the node's clock
    gpu_name: str | None
    seconds_sampled: float  # in which the device's use was known
    quality: str  # of the division among jobs: measured | estimated | unknown
    gpu_seconds_reserved: float
    gpu_seconds_used: float | None  # by the device's own reading
    gpu_seconds_jobs: float | None
    gpu_seconds_overhead: float | None  # of the servers of MPS
    gpu_seconds_unattributed: float | None
    energy_joules: float | None  # of the device
    energy_jobs_joules: float | None
    energy_overhead_joules: float | None
    energy_unattributed_joules: float | None

    @property
    def key(self) -> tuple[str, str, str, str, float]:
        """What makes an hour unique in the store."""
        return (self.cluster, self.node, self.gpu, self.source, self.hour)


def hour_to_json(hour: GpuHour) -> str:
    """Return the hour as one line of JSON with its kind and version."""
    return json.dumps({"kind": KIND, "v": VERSION, **asdict(hour)}, separators=(",", ":"))


def is_hour(data: object) -> bool:
    """Tell whether a line's JSON is meant as an hour, and not as a usage record."""
    return isinstance(data, dict) and data.get("kind") == KIND


def hour_from_dict(data: dict) -> GpuHour:
    """Read an hour; raises GrantError for another version, a missing or an unknown key."""
    if data.get("v") != VERSION:
        raise GrantError(f"GPU hour: version {data.get('v')!r} is not known here, only {VERSION}")
    names = {item.name for item in fields(GpuHour)}
    needed = {item.name for item in fields(GpuHour) if item.default is MISSING}
    given = set(data) - {"v", "kind"}
    if wrong := (given - names) | (needed - given):
        raise GrantError(f"GPU hour: keys {sorted(wrong)} are missing or not known")
    return GpuHour(**{name: data[name] for name in given})
