"""Pools, jobs and licences for the tests of this folder: two servers with two GPUs of 10000 MiB each, 100 slices."""

from dataclasses import replace

from slurm_gpushare.policy.schema import Bitfusion, Server
from slurm_gpushare.pool.compare import Look, PoolState, compare
from slurm_gpushare.pool.jobs import PoolJob
from slurm_gpushare.pool.listing import ListedGpu, ListedServer, Listing
from slurm_gpushare.slurm.licences import Licence

SLICES = 100
MIB = 10000
SERVERS = [
    Server(name="s1", address="10.0.0.1:56001", gpus=2, gpu_memory=f"{MIB} MiB"),
    Server(name="s2", address="10.0.0.2:56001", gpus=2, gpu_memory=f"{MIB} MiB"),
]
BY_GPU = Bitfusion(servers=SERVERS, placement="first_fit")
FLAT = Bitfusion(servers=SERVERS, placement="flat")
REMOTE_FLAT = Bitfusion(servers=SERVERS, placement="flat", licence="bitfusion@pool")
GPU_LICENCES = ["gpu0@s1", "gpu1@s1", "gpu0@s2", "gpu1@s2"]


def job(number: int, state: str = "RUNNING", choices: tuple = (), **held: int) -> PoolJob:
    """Return a job; ``s1_0=25`` are 25 slices of GPU 0 of s1, ``bitfusion=25`` of the flat pool."""
    counts = {
        f"gpu{name.partition('_')[2]}@{name.partition('_')[0]}" if "_" in name else name: count
        for name, count in held.items()
    }
    return PoolJob(number, "alice", state, "gpu:0.25", 1000, counts, choices)


def server(number: int, *used: int, tasks: int = 1, total: int = MIB) -> ListedServer:
    """Return server ``number`` (1 or 2) as the client lists it, with so much in use on each of its GPUs (MiB)."""
    gpus = tuple(ListedGpu(index, total - mib, total, "A100") for index, mib in enumerate(used))
    return ListedServer(f"10.0.0.{number}:56001", number == 1, tasks, gpus)


def licences(remote: bool = True, flat: int | None = None, **withheld: int) -> dict[str, Licence]:
    """Return Slurm's licences; ``s1_0=200``: so much is withheld of GPU 0 of s1."""
    if flat is not None:
        return {"bitfusion": Licence("bitfusion", flat, 0, flat, remote)}
    found = {name: Licence(name, SLICES, 0, SLICES, remote) for name in GPU_LICENCES}
    for name, count in withheld.items():
        key = f"gpu{name.partition('_')[2]}@{name.partition('_')[0]}"
        found[key] = replace(found[key], withheld=count)
    return found


def look(
    *servers: ListedServer,
    jobs: tuple = (),
    before: tuple | None = None,
    refused: dict | None = None,
    silent: dict | None = None,
    of: dict | None = None,
) -> Look:
    """Return what was asked; without ``before`` the jobs are the same before and after."""
    after = {one.job_id: one for one in jobs}
    earlier = after if before is None else {one.job_id: one for one in before}
    return Look(Listing(servers, silent or {}), refused or {}, licences() if of is None else of, earlier, after)


def judge(*servers: ListedServer, pool: Bitfusion = BY_GPU, **more: object) -> PoolState:
    """Return the comparison of that look."""
    return compare(pool, SLICES, look(*servers, **more))


def kinds(state: PoolState) -> list[str]:
    """Return the kinds of differences."""
    return [difference.kind for difference in state.differences]
