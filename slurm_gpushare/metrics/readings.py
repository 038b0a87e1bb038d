"""What NVML said of one moment, and how its lists become one reading for each process. Standard library only. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ProcessReading:
    """One process on one GPU."""

    pid: int
    sm: float | None  # share of the GPU's SM time, 0..1
    memory: int | None  # bytes
    # Of one that came and went between two readings, as accounting mode tells of it: when it ran, seconds since the
    # epoch. Its share is then of the whole time between them.
    ran: tuple[float, float] | None = None


@dataclass(frozen=True)
class GpuReading:
    """One GPU at one moment. None means that NVML did not say."""

    index: int  # NVML's
    minor: int | None  # N of /dev/nvidiaN
    uuid: str | None
    name: str | None
    memory_total: int | None  # bytes
    time: float  # the door's clock, seconds
    sm: float | None  # share of the last sample period with a kernel on the GPU, 0..1
    power: float | None  # watts
    energy: float | None  # joules since the driver was loaded
    processes: tuple[ProcessReading, ...] | None  # None: the process list is not known
    part: bool = False  # a part of a GPU that MIG made, by which its GPU is then replaced; only its UUID names it
    fault: str | None = None  # why nothing is known of it now; the reading then only names the GPU


def slurm_number(gpu: object) -> int:
    """Return Slurm's number of a GPU, which has an ``index``, a ``minor`` and whether it is a ``part``.

    Slurm numbers a node's GPUs in the order of their device files in gres.conf, and AutoDetect sorts them by
    minor number; NVML orders by bus id. So N of /dev/nvidiaN joins the two; NVML's index only where there is no minor.
    A part that MIG made has one of its own there, which its UUID alone leads to: -1.
    """
    if gpu.part:
        return -1
    return gpu.index if gpu.minor is None else gpu.minor


def shares_by_pid(entries: list, cursor: int) -> dict[int, float]:
    """Return the SM share of each pid from utilisation entries newer than ``cursor`` (the mean of several).

    Time stamps are compared with each other alone: some drivers count from boot, others from 1970.
    """
    found: dict[int, list[int]] = {}
    for entry in entries:
        # Dead processes can show absurd values such as 4294967295.
        if int(entry.timeStamp) > cursor and 0 <= entry.smUtil <= 100:
            found.setdefault(int(entry.pid), []).append(int(entry.smUtil))
    return {pid: sum(values) / len(values) / 100 for pid, values in found.items()}


def merge_processes(lists: list, shares: dict[int, float] | None) -> tuple[ProcessReading, ...] | None:
    """Merge the compute, MPS and graphics lists and the shares by pid into one reading per process.

    A process in several lists counts once, with the largest memory seen; one that stands several times in the same
    list (instances of a partitioned GPU) with the sum. One that has a share and is in no list has ended: no memory.
    None when not even the compute list is known.
    """
    if lists[0] is None:
        return None
    memory: dict[int, int | None] = {}
    for entries in lists:
        here: dict[int, int | None] = {}
        for entry in entries or ():
            pid, used = int(entry.pid), entry.usedGpuMemory
            here[pid] = None if used is None or here.get(pid, 0) is None else here.get(pid, 0) + int(used)
        for pid, used in here.items():
            known = [value for value in (memory.get(pid), used) if value is not None]
            memory[pid] = max(known, default=None)
    if shares is None:
        return tuple(ProcessReading(pid, None, used) for pid, used in memory.items())
    return tuple(ProcessReading(pid, shares.get(pid, 0.0), memory.get(pid, 0)) for pid in {**memory, **shares})


def with_ended(
    processes: tuple[ProcessReading, ...], ended: list[ProcessReading], sm: float | None
) -> tuple[tuple[ProcessReading, ...], float | None]:
    """Add processes that have ended to a reading; return it with the share of the GPU that all then are known to use.

    What the GPU tells of itself is its last sample period, in which they may be gone.
    """
    if not ended:
        return processes, sm
    pids = {each.pid for each in ended}
    merged = (*(each for each in processes if each.pid not in pids), *ended)
    if sm is not None and all(each.sm is not None for each in merged):
        sm = min(1.0, max(sm, sum(each.sm for each in merged)))
    return merged, sm
