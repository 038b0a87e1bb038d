"""The usage record: what one job used of one GPU on one node.

Standard library only: the agent imports this file and stays small.
"""

import json
from dataclasses import asdict, dataclass, fields

from slurm_gpushare.errors import GrantError

VERSION = 1

MEASURED = "measured"
ESTIMATED = "estimated"
UNKNOWN = "unknown"

# Where a record was measured, from the one that is believed first: by NVML of the node, or of the pool's server, which
# are root's, or inside the pool's allocation, where a user's process measures. Of one run those of one source count:
# they are of the same GPU seconds and are never added up.
SOURCES = ("node", "server", "allocation")

# What holds a job to its share, and how well, the best first (slurm_gpushare/backends/__init__.py).
HELD = ("memory", "compute", "faults")
HOW = ("enforced", "advisory", "none")


@dataclass(frozen=True)
class UsageRecord:
    """One record per job, node and GPU. None means not known; 0 means measured as nothing.

    Per sampled interval of length t: reserved = fraction * t; used = SM share * t;
    idle = max(0, reserved - used); over = max(0, used - reserved).
    """

    cluster: str
    job_id: int
    node: str
    # GPU UUID; for a pool "<backend>:<node>:<index>" until that is known, and with "/N" behind it for allocation N of a
    # job whose tasks have one each: several may be on one GPU.
    gpu: str
    gpu_index: int | None
    gpu_name: str | None
    backend: str  # "gpu" for a whole GPU of the node
    fraction: float  # of this GPU
    uid: int
    user: str
    started: float  # seconds since the epoch: the launch record's time; with job_id it names the run
    ended: float  # seconds since the epoch: the last moment that this record covers
    seconds_sampled: float  # seconds of started..ended that lie between two good samples
    quality: str  # measured | estimated | unknown
    source: str  # one of SOURCES
    gpu_seconds_reserved: float
    gpu_seconds_used: float | None
    gpu_seconds_idle: float | None
    gpu_seconds_over: float | None
    memory_peak_bytes: int | None
    energy_joules: float | None
    processes_seen: int | None
    enforces: str | None = None  # what held the job to its share, as enforces_text writes it

    @property
    def coverage(self) -> float:
        """Share of the run's time that was sampled, 0..1."""
        span = self.ended - self.started
        return 0.0 if span <= 0 else min(1.0, self.seconds_sampled / span)

    @property
    def key(self) -> tuple[str, int, float, str, str]:
        """What makes a record unique in the store."""
        return (self.cluster, self.job_id, self.started, self.node, self.gpu)


def enforces_text(enforces: dict[str, str]) -> str:
    """Return what holds a job to its share as one text, such as ``memory=enforced,compute=advisory,faults=none``."""
    return ",".join(f"{name}={enforces[name]}" for name in HELD)


def enforces_of(texts: list[str | None]) -> str | None:
    """Return the least of several such texts, None where one is not known; raises ValueError when one is none."""
    if not texts or None in texts:
        return None
    parts = [dict(item.partition("=")[::2] for item in text.split(",")) for text in texts]
    if any(tuple(part) != HELD for part in parts):
        raise ValueError(f"{texts!r} are not all of the form {'=…,'.join(HELD)}=…")
    return enforces_text({name: max((part[name] for part in parts), key=HOW.index) for name in HELD})


def usage_to_json(record: UsageRecord) -> str:
    """Return the record as one line of JSON with its version."""
    return json.dumps({"v": VERSION, **asdict(record)}, separators=(",", ":"))


def usage_from_dict(data: dict) -> UsageRecord:
    """Read a record; raises GrantError for another version, a missing or an unknown key.

    One without ``enforces`` is of an agent that did not know it.
    """
    if not isinstance(data, dict) or data.get("v") != VERSION:
        version = data.get("v") if isinstance(data, dict) else data
        raise GrantError(f"usage record: version {version!r} is not known here, only {VERSION}")
    names = {item.name for item in fields(UsageRecord)}
    given = set(data) - {"v"}
    if given | {"enforces"} != names:
        raise GrantError(f"usage record: keys {sorted((given | {'enforces'}) ^ names)} are missing or not known")
    return UsageRecord(**{name: data[name] for name in given})
