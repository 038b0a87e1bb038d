"""What agents measured of each job so far, from one answer of `GET /v1/live` (accounting/live.py). Pure."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from slurm_gpushare.errors import StoreError

# A GPU that is busy by more than this while no job on it shows any use: then the jobs' own zeros are not believed.
# Boards that do not know the use of processes say 0 for all of them, and under MPS the server may have it all.
_NOBODYS = 0.05

Source = tuple[str, str, int | None]  # kind of agent, its name, its number of the GPU; None: of GPUs in a pool


@dataclass(frozen=True)
class Part:
    """What one agent measured of one job's use of one GPU, or of all its GPUs that only the allocation can see."""

    at: float  # when, by our clock
    started: float  # the run's start, seconds since the epoch by the agent's clock
    measured: float  # seconds so far in which the use was known
    used: float  # GPU-seconds in them
    gpus: int
    believed: bool = True  # False: nobody's use on the GPU, which may be the job's


def parts(answer: dict, now: float) -> dict[int, dict[Source, Part]]:
    """Return what was measured of each job, by job id; ``now`` is the moment of the answer.

    Left out is a job's GPU of which nothing is known yet, and all of agents that are silent or of older versions.

    Raises
    ------
    StoreError
        The answer is not of that form.
    """
    found: dict[int, dict[Source, Part]] = defaultdict(dict)
    try:
        for agent in answer["agents"]:
            if agent["silent"]:
                continue
            on: dict[int | None, list[dict]] = defaultdict(list)
            for job in agent["jobs"]:
                on[job["gpu"]].append(job)
            busy = {gpu["number"]: gpu["sm"] or 0.0 for gpu in agent["gpus"]}
            for number, jobs in on.items():
                nobodys = busy.get(number, 0.0) > _NOBODYS and not any(job["sm"] for job in jobs)
                for job in jobs:
                    part = _part(job, now - agent["age"], believed=not nobodys)
                    if part is not None:
                        source = (agent["kind"], agent["name"], number)
                        before = found[job["job_id"]].get(source)
                        found[job["job_id"]][source] = part if before is None else _together(before, part)
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"what is measured now: not readable: {type(error).__name__} {error}") from None
    return dict(found)


def _part(job: Mapping, at: float, believed: bool) -> Part | None:
    amounts = [job.get(name) for name in ("started", "measured", "used")]
    if None in amounts:
        return None
    started, measured, used = amounts
    # A job without a process takes no memory, and so nobody's use is not its own.
    return Part(at, started, measured, used, 1, believed or job["memory"] == 0)


def _together(one: Part, other: Part) -> Part:
    return Part(
        one.at,
        min(one.started, other.started),
        min(one.measured, other.measured),
        one.used + other.used,
        one.gpus + other.gpus,
        one.believed and other.believed,
    )
