"""The pool as it says it is, beside the pool as Slurm says it is: what is in use, by whom, and what differs. Pure.

An allocation lies in time within the licences that pay for it: Slurm counts them before the job starts and until its
epilog has ended. So jobs are asked for before and after the pool is: what the pool has in use beyond all that any of
these jobs held is not Slurm's, and what a job held both times should be in use unless it has not asked for it yet.
"""

import math
from dataclasses import dataclass, field

from slurm_gpushare.policy.schema import Bitfusion, Server
from slurm_gpushare.pool.jobs import PoolJob
from slurm_gpushare.pool.listing import ListedGpu, ListedServer, Listing
from slurm_gpushare.slurm.licences import Licence
from slurm_gpushare.units import format_fraction

MIB = 1024 * 1024

UP, AWAY, UNLISTED = "up", "away", "unlisted"


@dataclass(frozen=True)
class Look:
    """What was asked at one moment. Addresses of the listing are written as in the policy where they are the same."""

    listing: Listing
    refused: dict[str, str]  # address of the policy's → why it accepts no connection
    licences: dict[str, Licence]
    before: dict[int, PoolJob]
    after: dict[int, PoolJob]

    @property
    def jobs(self) -> dict[int, PoolJob]:
        """Return all jobs that were there before or after the pool was asked."""
        return {**self.before, **self.after}

    def most_held(self, licence: str) -> int:
        """Return how much of a licence jobs can have held when the pool was asked."""
        return sum(job.held.get(licence, 0) for job in self.jobs.values())

    def least_held(self, licence: str) -> int:
        """Return how much of a licence jobs held before and after the pool was asked."""
        return sum(
            min(job.held.get(licence, 0), self.after[job.job_id].held.get(licence, 0))
            for job in self.before.values()
            if job.job_id in self.after
        )


@dataclass(frozen=True)
class Difference:
    """One thing in which policy, pool and Slurm do not agree."""

    kind: str
    where: str  # the server's name or address, "" for the pool
    text: str  # one line: what differs, and what to do
    fault: bool = True  # False: it passes by itself


@dataclass(frozen=True)
class GpuState:
    """One GPU of the pool; None is what is not known."""

    server: str
    address: str
    state: str  # of its server: up | away | unlisted
    gpu: int
    model: str | None
    memory: int | None  # bytes
    pool_used: float | None  # parts of the GPU in use, as the pool says
    slurm_used: float | None  # … as Slurm's licences say; None where the placement is flat
    withheld: float | None  # … that Slurm gives to nobody; None where the placement is flat
    jobs: tuple[int, ...] = ()


@dataclass
class PoolState:
    """The whole answer."""

    gpus: list[GpuState]
    jobs: list[PoolJob]
    pool_used: float  # GPUs in use on the servers that answer
    slurm_used: float  # GPUs that Slurm's jobs hold
    total: int  # GPUs, by the policy
    differences: list[Difference]
    excess: dict[str, int] = field(default_factory=dict)  # licence → slices in use in the pool beyond Slurm's jobs
    absent: dict[str, str] = field(default_factory=dict)  # label of a server that is away → why
    lost: dict[str, str] = field(default_factory=dict)  # licence of a GPU that is not there → why


def label(server: Server) -> str:
    """Return how a server is called in messages."""
    return server.name or server.address


def licence_of(server: Server, gpu: int) -> str:
    """Return the name of the licence of one GPU."""
    return f"gpu{gpu}@{server.name}"


def licence_names(pool: Bitfusion) -> dict[str, int]:
    """Return the licences that the policy's placement needs, and for how many GPUs each stands."""
    if pool.placement == "flat":
        return {pool.licence: sum(server.gpus for server in pool.servers)}
    return {licence_of(server, gpu): 1 for server in pool.servers for gpu in range(server.gpus)}


def compare(pool: Bitfusion, slices: int, look: Look) -> PoolState:
    """Return what the pool is and what differs; ``slices`` is slices_per_gpu."""
    listed = {server.address: server for server in look.listing.servers}
    found: list[Difference] = []
    state = PoolState([], sorted(look.jobs.values(), key=lambda job: job.job_id), 0.0, 0.0, 0, found)
    for server in pool.servers:
        state.total += server.gpus
        _server(pool, slices, look, server, listed.pop(server.address, None), state)
    for server in listed.values():
        _stranger(server, state)
    names = licence_names(pool)
    if pool.placement == "flat":
        _flat(pool.licence, slices, look, state)
    state.slurm_used = sum(_held(look, name) for name in names) / slices
    for name, gpus in names.items():
        _licence(name, gpus * slices, look, state)
    _jobs(pool, look, state)
    return state


def _held(look: Look, licence: str) -> int:
    return sum(job.held.get(licence, 0) for job in look.after.values())


def _server(
    pool: Bitfusion, slices: int, look: Look, server: Server, listed: ListedServer | None, state: PoolState
) -> None:
    name, condition = label(server), UP
    if listed is None:
        why = look.refused.get(server.address) or look.listing.silent.get(server.address)
        condition = UNLISTED if why is None else AWAY
        if why is None:
            text = (
                f"{_called(server)} accepts connections, but this host's client does not list it: see that "
                "servers.conf names it and that root's token is valid here; its licences stay as they are"
            )
            state.differences.append(Difference("server_unlisted", name, text))
        else:
            state.absent[name] = why
            text = f"{_called(server)} does not answer ({why}): {_away_remedy(pool, slices, look, server)}"
            state.differences.append(Difference("server_away", name, text))
    gpus = {gpu.index: gpu for gpu in listed.gpus} if listed else {}
    slack = listed.tasks + 1 if listed else 0  # MiB: sizes are rounded for each allocation
    for index in range(server.gpus):
        gpu = gpus.pop(index, None)
        state.gpus.append(_gpu(pool, slices, look, server, condition, index, gpu))
        if gpu is not None:
            state.pool_used += gpu.used_mib / gpu.total_mib
            _memory(server, gpu, state)
            if pool.placement != "flat":
                what, licence = f"GPU {index} of {name}", licence_of(server, index)
                _judge(licence, what, name, gpu.used_mib, gpu.total_mib, slack, slices, look, state)
        elif condition == UP:
            why = f"{name} has no GPU {index} now"
            state.lost[licence_of(server, index)] = why
            text = f"{why}, the policy says that it has {server.gpus}: mend it, or correct gpus in the policy"
            state.differences.append(Difference("gpu_missing", name, text))
    for index in gpus:
        text = f"{name} has a GPU {index}, the policy knows {server.gpus} there: correct gpus and compile the policy"
        state.differences.append(Difference("gpu_unknown", name, text))


def _called(server: Server) -> str:
    return f"{server.name} ({server.address})" if server.name else server.address


def _away_remedy(pool: Bitfusion, slices: int, look: Look, server: Server) -> str:
    if pool.placement == "flat":
        known = look.licences.get(pool.licence)
        if known is not None and known.withheld >= server.gpus * slices:
            return "Slurm gives as much to nobody until it is back"
        return "Slurm still gives its share to jobs: see `gpushare pool sync`"
    names = [licence_of(server, gpu) for gpu in range(server.gpus)]
    if all(name in look.licences and look.licences[name].withheld >= slices for name in names):
        return "Slurm gives its licences to nobody until it is back"
    return "Slurm still gives its licences to jobs until `gpushare pool sync` takes them out of use"


def _gpu(
    pool: Bitfusion, slices: int, look: Look, server: Server, condition: str, index: int, gpu: ListedGpu | None
) -> GpuState:
    used = withheld = None
    jobs: tuple[int, ...] = ()
    if pool.placement != "flat":
        licence = licence_of(server, index)
        used = _held(look, licence) / slices
        jobs = tuple(job.job_id for job in look.after.values() if job.held.get(licence))
        withheld = min(slices, look.licences[licence].withheld) / slices if licence in look.licences else None
    return GpuState(
        server=label(server),
        address=server.address,
        state=condition,
        gpu=index,
        model=None if gpu is None else gpu.name,
        memory=None if gpu is None else gpu.total_mib * MIB,
        pool_used=None if gpu is None else gpu.used_mib / gpu.total_mib,
        slurm_used=used,
        withheld=withheld,
        jobs=jobs,
    )


def _memory(server: Server, gpu: ListedGpu, state: PoolState) -> None:
    if server.gpu_memory is not None and server.gpu_memory != gpu.total_mib * MIB:
        text = (
            f"GPU {gpu.index} of {label(server)} has {gpu.total_mib} MiB, the policy says "
            f"{server.gpu_memory / MIB:.10g} MiB: correct gpu_memory and compile the policy"
        )
        state.differences.append(Difference("memory", label(server), text))


def _judge(
    licence: str, what: str, where: str, used: int, total: int, slack: int, slices: int, look: Look, state: PoolState
) -> None:
    """Compare what the pool has in use (MiB, of GPUs that have ``total``) with what Slurm's jobs hold of a licence."""
    each = total / slices
    most, least = look.most_held(licence), look.least_held(licence)
    excess = math.ceil((used - most * each - slack) / each)
    known = look.licences.get(licence)
    if excess > 0:
        state.excess[licence] = excess
        kept = known is not None and known.withheld == excess
        text = (
            f"{what}: the pool has {_amount(used / each, slices)} in use, Slurm's jobs hold {_amount(most, slices)}: "
            "an allocation outlived its job or was made past Slurm; it ends by the pool's auto_release_timeout, "
            + ("and Slurm gives that much to nobody" if kept else "`gpushare pool sync` keeps that much from jobs")
        )
        state.differences.append(Difference("pool_has_more", where, text))
    elif used + slack < least * each:
        jobs = ", ".join(str(job.job_id) for job in look.after.values() if job.held.get(licence))
        text = (
            f"{what}: Slurm's jobs hold {_amount(least, slices)}, the pool has {_amount(used / each, slices)} in use: "
            f"job {jobs} has not asked for its GPUs yet, or lost them: its next step asks for them"
        )
        state.differences.append(Difference("pool_has_less", where, text, fault=False))
    if known is not None and known.withheld > max(0, excess):
        text = f"{what} is there, but Slurm keeps it from jobs: `gpushare pool sync` gives it back"
        state.differences.append(Difference("withheld", where, text))


def _amount(slices: float, size: int) -> str:
    return f"{format_fraction(round(slices / size, 4))} GPU"


def _stranger(server: ListedServer, state: PoolState) -> None:
    state.pool_used += sum(gpu.used_mib / gpu.total_mib for gpu in server.gpus)
    text = (
        f"the pool has a server {server.address} with {len(server.gpus)} GPUs that the policy does not know: add it to "
        "backends.bitfusion.servers, compile the policy, then `gpushare pool sync`"
    )
    state.differences.append(Difference("server_unknown", server.address, text))


def _flat(licence: str, slices: int, look: Look, state: PoolState) -> None:
    """Compare the sums: no licence says on which GPU a job is."""
    if any(gpu.pool_used is None for gpu in state.gpus):
        return  # what the jobs have in use there is not known
    gpus = [gpu for server in look.listing.servers for gpu in server.gpus]
    if not gpus:
        return
    # In parts of a GPU, as if each had as much memory as the smallest.
    least = min(gpu.total_mib for gpu in gpus)
    used = round(sum(gpu.used_mib * least / gpu.total_mib for gpu in gpus))
    slack = sum(server.tasks + 1 for server in look.listing.servers)
    _judge(licence, "the pool", "", used, least, slack, slices, look, state)


def _licence(name: str, count: int, look: Look, state: PoolState) -> None:
    where = name.partition("@")[2]
    licence = look.licences.get(name)
    if licence is None:
        text = f"Slurm has no licence {name}: `gpushare pool sync` adds it, with a count of {count}"
        if "@" not in name:
            text = f"Slurm has no licence {name}: write Licenses={name}:{count} in slurm.conf"
        state.differences.append(Difference("licence_missing", where, text))
    elif licence.total != count:
        how = "`gpushare pool sync` sets it" if licence.remote else f"write Licenses={name}:{count} in slurm.conf"
        text = f"Slurm counts {licence.total} licences {name}, the policy {count}: {how}"
        state.differences.append(Difference("licence_count", where, text))


def _jobs(pool: Bitfusion, look: Look, state: PoolState) -> None:
    """Name the jobs that hold or need GPUs of servers that are away."""
    if pool.placement == "flat":
        return
    for job in look.after.values():
        if gone := _away_servers(job.held, state):
            text = (
                f"job {job.job_id} of {job.user} has GPUs of {gone}, which does not answer: its commands fail with "
                "status 69 or end by errors of CUDA"
            )
            state.differences.append(Difference("job_on_absent", gone, text))
        elif job.choices and all(_away_servers(choice, state) for choice in job.choices):
            gone = _away_servers(job.choices[0], state)
            text = (
                f"job {job.job_id} of {job.user} waits for GPUs of {gone}, which does not answer: it starts when that "
                f"is back; to have it placed anew: `scancel {job.job_id}` and submit it again"
            )
            state.differences.append(Difference("job_tied", gone, text, fault=False))


def _away_servers(counts: dict[str, int], state: PoolState) -> str:
    return ", ".join(sorted({name.partition("@")[2] for name in counts} & state.absent.keys()))
