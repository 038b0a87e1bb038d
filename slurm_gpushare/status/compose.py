"""What Slurm gave, what agents measure and what the pool says, laid together GPU by GPU. Pure."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from slurm_gpushare import backends
from slurm_gpushare.drain.hold import Hold
from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.node_policy import NodePolicy
from slurm_gpushare.pool.compare import AWAY, UNLISTED, PoolState
from slurm_gpushare.slurm.licences import Licence
from slurm_gpushare.slurm.nodes import Node
from slurm_gpushare.status.jobs import HeldJob

LIVE, SILENT = "live", "silent"
GRACE = 30.0  # seconds after its start until the service misses an agent that it has not heard

_LICENCE = re.compile(r"gpu([0-9]{1,4})@(.+)")


@dataclass(frozen=True)
class Look:
    """What was asked at one moment; None is what could not be asked."""

    now: float  # seconds since the epoch
    nodes: Sequence[Node]
    jobs: Sequence[HeldJob]
    policy: NodePolicy | None = None
    live: dict | None = None  # as accounting/live.py has it
    licences: dict[str, Licence] = field(default_factory=dict)
    pools: dict[str, PoolState] = field(default_factory=dict)  # by backend
    warnings: tuple[str, ...] = ()
    held: Sequence[Hold] = ()  # what `gpushare gpu drain` took out of service


@dataclass(frozen=True)
class JobShare:
    """What one job has of one GPU, or of GPUs that nobody can name. None is what is not known."""

    job_id: int
    job: str
    user: str
    state: str
    since: int | None  # seconds since the epoch
    backend: str | None
    request: str | None
    fraction: float | None  # of each GPU
    gpus: int
    slices: int | None
    enforces: dict[str, str] | None  # memory, compute, faults → enforced | advisory | none
    sm: float | None = None  # share of the GPU's time, 0..1; of several GPUs the sum
    memory: int | None = None  # bytes


@dataclass(frozen=True)
class Place:
    """A node, or a server of a pool, and what is the matter with it."""

    name: str
    kind: str  # node | server
    partitions: tuple[str, ...]
    state: str | None
    away: bool  # it takes no job
    reason: str | None
    reason_by: str | None
    reason_at: int | None  # seconds since the epoch
    agent: str | None  # live | silent; None: not known, or none is needed
    agent_age: float | None  # seconds since its last sample


@dataclass(frozen=True)
class GpuStatus:
    """One GPU, or one slice of a GPU that Slurm has as a GPU of its own."""

    node: str
    kind: str  # node | server
    gpu: int
    type: str | None  # Slurm's
    model: str | None
    uuid: str | None
    fraction: float  # of a card: below 1 for a MIG or vGPU profile
    slices: int
    slices_given: int | None
    slices_hidden: int | None  # given to jobs that are not shown to who asks
    jobs: tuple[JobShare, ...]
    pool_used: float | None  # parts in use, as the pool says
    sm: float | None  # 0..1
    memory: int | None  # bytes
    memory_total: int | None
    power: float | None  # watts
    age: float | None  # seconds since these, and those of its jobs, were measured
    state: str | None
    away: bool
    reason: str | None
    agent: str | None


@dataclass(frozen=True)
class Status:
    """The whole answer."""

    time: float
    gpus: tuple[GpuStatus, ...]
    elsewhere: tuple[JobShare, ...]  # jobs with a share of GPUs that cannot be named
    places: tuple[Place, ...]
    warnings: tuple[str, ...]
    out_of_service: tuple[Hold, ...] = ()  # of the places here, each as in `gpushare gpu list`


def compose(look: Look) -> Status:
    """Return every GPU with its jobs, and what is the matter with each node."""
    measured = _Measured(look.live)
    gpus: list[GpuStatus] = []
    places: list[Place] = []
    for node in sorted(look.nodes, key=lambda each: natural(each.name)):
        if node.gpus or _has_pool_gres(node, look.policy):
            place = _place(node, measured)
            places.append(place)
            gpus += _node_gpus(node, place, look, measured)
    for name, settings in (look.policy.backends if look.policy else {}).items():
        servers = {} if settings.placement == "flat" else settings.servers
        state = look.pools.get(name)
        found = _servers(name, servers, state, look, measured)
        places += [place for place, _ in found]
        gpus += [gpu for _, them in found for gpu in them]
    shown = {job.job_id for gpu in gpus for job in gpu.jobs}
    elsewhere = tuple(_elsewhere(job, measured) for job in look.jobs if job.job_id not in shown)
    return Status(look.now, tuple(gpus), elsewhere, tuple(places), look.warnings, tuple(look.held))


def natural(name: str) -> list:
    """Return the key that puts n2 before n10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]


class _Measured:
    """The service's answer by what it is about."""

    def __init__(self, live: dict | None):
        self._live = live
        self._agents = {(one["kind"], one["name"]): one for one in (live or {"agents": []})["agents"]}

    def agent(self, kind: str, name: str) -> tuple[str | None, float | None]:
        """Return whether the agent speaks, and how long ago it did."""
        one = self._agents.get((kind, name))
        if one is not None:
            return (SILENT if one["silent"] else LIVE), round(one["age"], 1)
        missed = kind == "node" and self._live is not None and self._live["listening"] > GRACE
        return (SILENT if missed else None), None

    def gpu(self, kind: str, name: str, number: int) -> dict:
        found = (one for one in self._of(kind, name, "gpus") if one["number"] == number)
        return next(found, {})

    def job(self, kind: str, name: str, number: int, job_id: int) -> dict:
        found = (one for one in self._of(kind, name, "jobs") if (one["gpu"], one["job_id"]) == (number, job_id))
        return next(found, {})

    def allocations(self, job_id: int) -> list[dict]:
        """Return what is measured inside a job's allocations in a pool."""
        them = (job for agent in self._agents.values() for job in agent["jobs"])
        return [job for job in them if job["job_id"] == job_id and job["gpu"] is None]

    def any_of(self, job_id: int) -> dict:
        """Return what some agent says of the job."""
        them = (job for agent in self._agents.values() for job in agent["jobs"] if job["job_id"] == job_id)
        return next(them, {})

    def _of(self, kind: str, name: str, what: str) -> list[dict]:
        return self._agents.get((kind, name), {what: []})[what]


def _has_pool_gres(node: Node, policy: NodePolicy | None) -> bool:
    names = {settings.gres for settings in policy.backends.values()} if policy else set()
    return not names.isdisjoint(node.total)


def _place(node: Node, measured: _Measured) -> Place:
    agent, age = measured.agent("node", node.name)
    return Place(
        name=node.name,
        kind="node",
        partitions=node.partitions,
        state="+".join(node.state).lower() or None,
        away=node.away,
        reason=node.reason or None,
        reason_by=node.reason_by or None,
        reason_at=node.reason_at if node.reason else None,
        agent=agent,
        agent_age=age,
    )


def _node_gpus(node: Node, place: Place, look: Look, measured: _Measured) -> list[GpuStatus]:
    found = []
    per_gpu = look.policy.slices_per_gpu if look.policy else 100
    shards = "shard" in node.total
    for number, gpu in enumerate(node.gpus):
        kind = node.types[number] if number < len(node.types) else None
        profile = _profile(kind, look.policy)
        fraction = 1.0 if profile is None else float(profile["fraction"])
        total = gpu.total if shards else math.ceil(per_gpu * fraction - 1e-9)
        jobs = []
        for job in look.jobs:
            held = job.gpus.get(node.name, {})
            if number in held:
                taken = held[number]
                part = fraction if taken is None else taken[0] / taken[1]
                live = measured.job("node", node.name, number, job.job_id)
                jobs.append(_share(job, part, total if taken is None else taken[0], live, measured))
        given = total if gpu.whole else gpu.used
        seen = measured.gpu("node", node.name, number)
        found.append(_gpu(place, number, kind, fraction, total, given, jobs, seen, profile))
    return found


def _profile(kind: str | None, policy: NodePolicy | None) -> dict | None:
    """Return what part of a card, of MIG's or vGPU's, the policy says that GPUs of the type are; None: whole ones."""
    return next((each.types[kind] for each in (policy.backends if policy else {}).values() if kind in each.types), None)


def _servers(
    backend: str, servers: dict, pool: PoolState | None, look: Look, measured: _Measured
) -> list[tuple[Place, list[GpuStatus]]]:
    """Return the GPUs of a pool: by Slurm's licences where these place jobs, else as the pool lists them."""
    listed = {(gpu.server, gpu.gpu): gpu for gpu in (pool.gpus if pool else ())}
    numbers: dict[str, dict[int, Licence | None]] = {}
    for name, licence in look.licences.items():
        if (match := _LICENCE.fullmatch(name)) and match[2] in servers:
            numbers.setdefault(match[2], {})[int(match[1])] = licence
    for server, number in listed:
        numbers.setdefault(server, {}).setdefault(number, None)
    slices = look.policy.slices_per_gpu
    found = []
    for server in sorted(numbers, key=natural):
        states = {gpu.state for (name, _), gpu in listed.items() if name == server}
        why = (pool.absent if pool else {}).get(server)
        agent, age = measured.agent("server", server)
        state = next((one for one in states if one != UNLISTED), None)
        place = Place(server, "server", (), state, state == AWAY, why, None, None, agent, age)
        gpus = []
        for number, licence in sorted(numbers[server].items()):
            jobs = []
            for job in look.jobs:
                if licence is not None and licence.name in job.licences:
                    taken = job.licences[licence.name]
                    live = measured.job("server", server, number, job.job_id)
                    jobs.append(_share(job, min(1.0, taken / slices), taken, live, measured))
            gpu = listed.get((server, number))
            seen = dict(measured.gpu("server", server, number))
            if gpu is not None:
                seen["model"], seen["memory_total"] = gpu.model or seen.get("model"), gpu.memory
            given = None if licence is None else min(slices, licence.used)
            used = None if gpu is None else gpu.pool_used
            gpus.append(_gpu(place, number, backend, 1.0, slices, given, jobs, seen, None, used))
        found.append((place, gpus))
    return found


def _gpu(
    place: Place,
    number: int,
    kind: str | None,
    fraction: float,
    total: int,
    given: int | None,
    jobs: list[JobShare],
    seen: dict,
    profile: dict | None,
    pool_used: float | None = None,
) -> GpuStatus:
    told = sum(job.slices for job in jobs if job.slices is not None)
    values = [
        *(seen.get(name) for name in ("sm", "memory", "power")),
        *(job.sm for job in jobs),
        *(job.memory for job in jobs),
    ]
    measured = any(value is not None for value in values)
    return GpuStatus(
        node=place.name,
        kind=place.kind,
        gpu=number,
        type=kind,
        model=seen.get("model"),
        uuid=seen.get("uuid"),
        fraction=fraction,
        slices=total,
        slices_given=given,
        slices_hidden=None if given is None else max(0, given - told),
        jobs=tuple(sorted(jobs, key=lambda job: job.job_id)),
        pool_used=pool_used,
        sm=seen.get("sm"),
        memory=seen.get("memory"),
        memory_total=seen.get("memory_total") or (profile or {}).get("memory"),
        power=seen.get("power"),
        age=place.agent_age if measured else None,
        state=place.state,
        away=place.away,
        reason=place.reason,
        agent=place.agent,
    )


def _share(job: HeldJob, fraction: float, slices: int, live: dict, measured: _Measured) -> JobShare:
    return _row(job, fraction, 1, slices, live.get("sm"), live.get("memory"), measured)


def _elsewhere(job: HeldJob, measured: _Measured) -> JobShare:
    them = measured.allocations(job.job_id)
    sums = []
    for name in ("sm", "memory"):
        values = [one[name] for one in them]
        sums.append(sum(values) if values and None not in values else None)
    grant = job.grant
    if grant is None:
        return _row(job, None, sum(map(len, job.gpus.values())), None, *sums, measured)
    nodes = max(1, len(job.nodes))
    return _row(job, grant.fraction, grant.gpus * grant.tasks * nodes, grant.slices * nodes, *sums, measured)


def _row(
    job: HeldJob,
    fraction: float | None,
    gpus: int,
    slices: int | None,
    sm: float | None,
    memory: int | None,
    measured: _Measured,
) -> JobShare:
    return JobShare(
        job_id=job.job_id,
        job=job.name,
        user=job.user,
        state=job.state,
        since=job.since,
        backend=job.backend,
        request=job.grant.request if job.grant else None,
        fraction=fraction,
        gpus=gpus,
        slices=slices,
        # What prolog found on the node is more than what the backend promises everywhere.
        enforces=measured.any_of(job.job_id).get("enforces") or _promised(job.backend),
        sm=sm,
        memory=memory,
    )


def _promised(backend: str | None) -> dict[str, str] | None:
    try:
        return None if backend is None else dict(backends.find(backend).ENFORCES)
    except BrokenInstallation:
        return None  # of a newer version
