"""What an agent measures just now: its GPUs, and what the jobs on them take. Sent to the service, kept nowhere.

Standard library only.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields

from slurm_gpushare.errors import GrantError
from slurm_gpushare.metrics.readings import GpuReading

VERSION = 1

NODE, SERVER = "node", "server"  # where the agent runs
LONGEST = 1 << 20  # bytes of one sample

_LEVELS = {"enforced", "advisory", "none"}
_HOLDS = {"memory", "compute", "faults"}


@dataclass(frozen=True)
class LiveGpu:
    """One GPU at one moment. None means not known."""

    number: int  # Slurm's number of it, on a server of a pool the server's
    uuid: str | None
    model: str | None
    memory_total: int | None  # bytes
    sm: float | None  # share of the time with a kernel on it, 0..1
    memory: int | None  # bytes that the processes on it have
    power: float | None  # watts


@dataclass(frozen=True)
class LiveJob:
    """What one job takes of one GPU."""

    job_id: int
    uid: int
    gpu: int | None  # the number of a GPU of this node or server; None: of one in a pool, measured in the allocation
    sm: float | None
    memory: int | None  # bytes
    enforces: dict[str, str] | None = None  # what holds it to its share in fact, where prolog found out
    started: float | None = None  # seconds since the epoch: with job_id it names the run
    measured: float | None = None  # seconds of its time so far in which its use was known ...
    used: float | None = None  # ... and the GPU-seconds that it used in them


@dataclass(frozen=True)
class LiveSample:
    """All of one node, or of one server of a pool."""

    kind: str  # NODE | SERVER
    name: str
    age: float  # seconds since it was measured
    gpus: tuple[LiveGpu, ...]
    jobs: tuple[LiveJob, ...]


def live_gpu(number: int, reading: GpuReading) -> LiveGpu:
    """Return a reading as it is sent."""
    return LiveGpu(
        number, reading.uuid, reading.name, reading.memory_total, reading.sm, memory_of(reading), reading.power
    )


def memory_of(reading: GpuReading) -> int | None:
    """Return the bytes that the processes on the GPU have; None where that of one is not known."""
    if reading.processes is None or any(each.memory is None for each in reading.processes):
        return None
    return sum(each.memory for each in reading.processes if each.ran is None)


def sample_to_json(sample: LiveSample) -> bytes:
    """Return the sample as JSON with its version."""
    return json.dumps({"v": VERSION, **asdict(sample)}, separators=(",", ":")).encode()


def sample_from_json(text: bytes) -> LiveSample:
    """Read a sample; raises GrantError when it is of another version, or a value in it cannot be one."""
    try:
        data = json.loads(text)
        if data.pop("v") != VERSION:
            raise GrantError(f"live sample: not of version {VERSION}: upgrade slurm-gpushare there or here")
        gpus = tuple(_read(LiveGpu, item, _check_gpu) for item in data.pop("gpus"))
        jobs = tuple(_read(LiveJob, item, _check_job) for item in data.pop("jobs"))
        sample = LiveSample(gpus=gpus, jobs=jobs, **data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise GrantError(f"live sample: not readable: {type(error).__name__} {error}") from None
    if sample.kind not in (NODE, SERVER) or not _is_text(sample.name) or not _is_amount(sample.age):
        raise GrantError(f"live sample: of {sample.kind!r} {sample.name!r}, {sample.age!r} s old")
    return sample


def _read(kind: type, data: dict, check: Callable[[object], bool]) -> object:
    value = kind(**data)
    if not check(value):
        raise GrantError(
            f"live sample: {[getattr(value, each.name) for each in fields(kind)]!r:.200} is no {kind.__name__}"
        )
    return value


def _check_gpu(gpu: LiveGpu) -> bool:
    texts = all(text is None or _is_text(text) for text in (gpu.uuid, gpu.model))
    amounts = (gpu.memory_total, gpu.sm, gpu.memory, gpu.power)
    return texts and _is_count(gpu.number) and all(each is None or _is_amount(each) for each in amounts)


def _check_job(job: LiveJob) -> bool:
    counts = _is_count(job.job_id) and _is_count(job.uid) and (job.gpu is None or _is_count(job.gpu))
    held = job.enforces is None or (set(job.enforces) == _HOLDS and _LEVELS.issuperset(job.enforces.values()))
    amounts = (job.sm, job.memory, job.started, job.measured, job.used)
    return counts and held and all(each is None or _is_amount(each) for each in amounts)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 128 and value.isprintable()


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_amount(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**63
