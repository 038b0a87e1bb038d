"""A load of short pool jobs that come and go at random, and what the pool's own servers say of it afterwards."""

import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from bench.lab import run_program
from slurm_gpushare.lab import pool
from slurm_gpushare.lab.params import SLICES_PER_GPU, LabParams

DEADLINE = 500.0
_LICENCE = re.compile(r"gpu(\d+)@([\w.-]+):(\d+)")
_ENDPOINT = re.compile(r"^tcp:([\d.]+):\d+:([0-9a-f-]{36}):", re.MULTILINE)


@dataclass(frozen=True)
class Ask:
    """One job: GPUs of one allocation, the share of each, when it comes and how long it works, in seconds."""

    gpus: int
    share: Fraction
    at: float
    seconds: float

    @property
    def gres(self) -> str:
        """Return it as --gres says it."""
        return f"gpu:{self.gpus}" if self.share == 1 else f"gpu:{float(self.share):g}"

    @property
    def slices(self) -> int:
        """Return the slices of each of its GPUs."""
        return int(self.share * SLICES_PER_GPU)


def asks(
    seed: int,
    count: int,
    kinds: Sequence[tuple[int, str]],
    between: float,
    seconds: tuple[float, float],
) -> list[Ask]:
    """Return ``count`` jobs: ``kinds`` are (GPUs, share), ``between`` the mean seconds from one to the next.

    They work for ``seconds`` (least, most), each length as likely as twice it: few jobs take most of the time.
    """
    chance = random.Random(seed)
    at, found = 0.0, []
    for _ in range(count):
        at += chance.expovariate(1 / between)
        gpus, share = chance.choice(kinds)
        works = round(math.exp(chance.uniform(*map(math.log, seconds))), 2)
        found.append(Ask(gpus, Fraction(share), round(at, 3), works))
    return found


@dataclass(frozen=True)
class Verdict:
    """What the servers of the pool and Slurm say of one load."""

    jobs: int
    completed: int
    granted: int  # allocations
    refused: int  # of them, or of those that never came: how many the whole pool refused at first
    misplaced: tuple[str, ...]  # allocations that are not what Slurm gave
    over: tuple[str, ...]  # GPUs that held more than they have
    peak: float  # the most that was held at one time, as a part of the pool
    seconds: float  # from the first grant to the last release
    use: float  # which part of the pool was held, from the first grant to the last job's coming: 0 to 1
    blocked: float  # which part of it in all that time Slurm had lent to jobs that the pool refused until it had room

    @property
    def refusal_rate(self) -> float:
        """Return which part of the requests the pool refused at first."""
        return self.refused / self.jobs


def run(params: LabParams, load: Sequence[Ask]) -> Verdict:
    """Run the load in a lab that is up with these parameters. Raises LabError."""
    jobs = [{"at": ask.at, "seconds": ask.seconds, "ask": ask.gres} for ask in load]
    servers = {server.name: server.config for server in pool.servers(params)}
    outcome = run_program(params.name, "pool_load", {"jobs": jobs, "servers": servers, "deadline": DEADLINE})
    return judge(params, load, outcome)


def judge(params: LabParams, load: Sequence[Ask], outcome: dict) -> Verdict:
    """Compare what Slurm gave with what the servers logged. Raises nothing: what is wrong is in the verdict."""
    logs = {
        server.name: [entry for entry in outcome["servers"][server.name]["log"] if entry["time"] >= outcome["began"]]
        for server in pool.servers(params)
    }
    granted = {
        entry["allocation"]: (name, entry) for name, log in logs.items() for entry in log if entry["event"] == "granted"
    }
    refusals = {
        name: {entry["request"]: entry["time"] for entry in log if entry["event"] == "refused"}
        for name, log in logs.items()
    }
    # Where the client looks for a server itself, it asks one after the other: only the last one's No is the pool's.
    flat = params.pool_placement == "flat"
    since = (
        refusals[pool.servers(params)[-1].name] if flat else {k: v for of in refusals.values() for k, v in of.items()}
    )
    misplaced = [] if flat else list(_misplaced(load, outcome["jobs"], granted))
    over, peak, seconds, use = _replay(outcome["servers"], logs, outcome["began"] + load[-1].at)
    return Verdict(
        jobs=len(load),
        completed=sum(job["state"] == "COMPLETED" for job in outcome["jobs"]),
        granted=len(granted),
        refused=len(since),
        misplaced=tuple(misplaced),
        over=tuple(over),
        peak=peak,
        seconds=seconds,
        use=use,
        blocked=_blocked(outcome["servers"], granted, since) / seconds if seconds else 0.0,
    )


def _blocked(states: dict, granted: dict[str, tuple[str, dict]], since: dict[str, float]) -> float:
    """Return for how many seconds the whole pool was as good as lent to jobs that it refused and granted later."""
    total = sum(gpu["total_mib"] for state in states.values() for gpu in state["gpus"])
    waits = (
        (entry["time"] - since[entry["request"]]) * entry["mib"] * len(entry["gpus"])
        for _, entry in granted.values()
        if entry["request"] in since
    )
    return sum(waits) / total


def _misplaced(load: Sequence[Ask], jobs: Sequence[dict], granted: dict[str, tuple[str, dict]]) -> Iterator[str]:
    for number, (ask, job) in enumerate(zip(load, jobs, strict=True)):
        what = f"job {number}, {ask.gres}"
        found = _ENDPOINT.search(job["output"])
        if not found or found[2] not in granted:
            yield f"{what}: {job['state']}, and no allocation that the pool knows: {job['output'][:200]!r}"
            continue
        server, entry = granted[found[2]]
        had = sorted((server, gpu) for gpu in entry["gpus"])
        given = [(name, int(gpu), int(slices)) for gpu, name, slices in _LICENCE.findall(_licences(job))]
        if sorted((name, gpu) for name, gpu, _ in given) != had:
            yield f"{what}: Slurm gave {_licences(job)}, the pool {had}"
        elif {slices for _, _, slices in given} != {ask.slices} or len(given) != ask.gpus:
            yield f"{what}: Slurm gave {_licences(job)}"


def _licences(job: dict) -> str:
    return job["licences"] or job["wanted"] or ""


def _replay(states: dict, logs: dict, until: float) -> tuple[list[str], float, float, float]:
    """Return the GPUs that held too much, the most that was held at once, the seconds it took, and the mean use.

    The use is that of the time ``until`` no more jobs came: afterwards the pool empties, however it is placed.
    """
    held: dict[tuple[str, int], int] = {}
    total = {(name, gpu["index"]): gpu["total_mib"] for name, state in states.items() for gpu in state["gpus"]}
    events = sorted(
        ((entry["time"], entry["event"] == "granted", name, entry) for name, log in logs.items() for entry in log),
        key=lambda event: event[:2],
    )
    events = [event for event in events if event[3]["event"] in ("granted", "released")]
    sizes = {entry["allocation"]: entry for _, granted, _, entry in events if granted}
    over, peak, area, last = [], 0, 0.0, events[0][0] if events else 0.0
    for when, granted, name, entry in events:
        area += sum(held.values()) * max(0.0, min(when, until) - last)
        last = when
        if entry["allocation"] not in sizes:  # of before the load
            continue
        made = sizes[entry["allocation"]]
        for gpu in made["gpus"]:
            held[name, gpu] = held.get((name, gpu), 0) + (made["mib"] if granted else -made["mib"])
            if held[name, gpu] > total[name, gpu]:
                over.append(f"{name} GPU {gpu}: {held[name, gpu]} of {total[name, gpu]} MiB")
        peak = max(peak, sum(held.values()))
    first = events[0][0] if events else last
    whole = sum(total.values())
    return over, peak / whole, last - first, area / (whole * (until - first)) if until > first else 0.0
