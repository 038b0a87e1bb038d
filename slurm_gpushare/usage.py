"""The usage record: what one job used of one GPU on one node.

Standard library only: the agent imports this file and stays small.
"""

import json
from dataclasses import MISSING, dataclass, fields

from slurm_gpushare.errors import GrantError
from slurm_gpushare.launch import LaunchRecord

VERSION = 2
READ = (1, 2)  # versions; what the first does not know is None

MEASURED = "measured"
ESTIMATED = "estimated"
UNKNOWN = "unknown"

# Where a record was measured, from the one that is believed first: by NVML of the node, or of the pool's server, which
# are root's, or inside the pool's allocation, where a user's process measures. Of one run those of one source count:
# they are of the same GPU seconds and are never added up.
SOURCES = ("node", "server", "allocation")

MOST_GAPS = 20
MOST_POINTS = 240

# What holds a job to its share, and how well, the best first (slurm_gpushare/backends/__init__.py).
HELD = ("memory", "compute", "faults")
HOW = ("enforced", "advisory", "none")


@dataclass(frozen=True)
class UsageRecord:
    """One record per job, node and GPU. None means not known; 0 means measured as nothing.

    Per sampled interval of length t: reserved = fraction * t; used = SM share * t;
    idle = max(0, reserved - used); over = max(0, used - reserved). What each figure means, how exact it is and how it
    came about: docs/usage.md.
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
    # From version 2 on. The shares of the SM time are of the whole GPU, 0..1, over the sampled seconds; the memory is
    # that of all processes of the job.
    memory_share_bytes: int | None = None  # of this GPU's memory
    sm_mean: float | None = None
    sm_p50: float | None = None
    sm_p95: float | None = None
    sm_max: float | None = None
    memory_mean_bytes: int | None = None
    memory_p50_bytes: int | None = None
    memory_p95_bytes: int | None = None
    gpu_seconds_without_process: float | None = None  # part of idle; the rest of it had a process, which did nothing
    gpu_seconds_read: float | None = None  # what the processes' own readings add up to, before they were scaled
    image: str | None = None  # of the job's container, as image_text writes it; None without one
    gaps: list[list] | None = None  # [seconds after started, seconds, why]: MOST_GAPS at most, the longest are kept
    # {"every": seconds, "sm": [share or None, ...], "memory": [bytes or None, ...]}, MOST_POINTS at most, from started
    series: dict | None = None

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


def image_text(record: LaunchRecord) -> str | None:
    """Return what the job's container image was when prolog ran, None without one or where its user could not open it.

    ``PATH inode=N size=BYTES mtime=SECONDS`` with the real path (of a folder only the inode), or a source
    (``docker://…``) as it was asked for.
    """
    found = record.options.get("image")
    if found is None:
        asked = record.container.image if record.container is not None else ""
        return asked if "://" in asked else None
    text = " ".join([found["path"], *(f"{name}={found[name]}" for name in ("inode", "size", "mtime") if name in found)])
    return text if text.isprintable() else None


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
    return json.dumps({"v": VERSION, **vars(record)}, separators=(",", ":"))


def usage_from_dict(data: dict) -> UsageRecord:
    """Read a record; raises GrantError for another version, a missing or an unknown key.

    What has a default may be missing: the agent that wrote it did not know it.
    """
    if not isinstance(data, dict) or data.get("v") not in READ:
        version = data.get("v") if isinstance(data, dict) else data
        raise GrantError(f"usage record: version {version!r} is not known here, only {', '.join(map(str, READ))}")
    names = {item.name for item in fields(UsageRecord)}
    needed = {item.name for item in fields(UsageRecord) if item.default is MISSING}
    given = set(data) - {"v"}
    if wrong := (given - names) | (needed - given):
        raise GrantError(f"usage record: keys {sorted(wrong)} are missing or not known")
    return UsageRecord(**{name: data[name] for name in given})
