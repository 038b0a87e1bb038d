"""A year of a large site, the same for the same seed: runs of jobs as sacct tells them, and what agents measured.

300 users in 40 accounts on 460 GPUs: shares of local GPUs, whole ones, and shares of a pool; arrays, requeues, runs
without a record. A GPU is never given out more than once. Standard library and the package alone, since it runs in a
lab too.
"""

import heapq
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from slurm_gpushare.slurm.sacct import JobRow
from slurm_gpushare.usage import MEASURED, UsageRecord

SEED = 7
DAYS = 365
DAY = 86400
JOBS = 2_000_000  # runs in a year, with 1.5 records each
BATCH = 5_000  # runs in one batch
FIRST_JOB = 1_000_000
GIB = 1 << 30

USERS = 300
ACCOUNTS = [f"group{number:02d}" for number in range(1, 41)]
# A user of a lab, who can ask for reports there, and how many have more jobs.
ALICE, ALICE_RANK = ("alice", 1001, "physics"), 40


@dataclass(frozen=True)
class Kind:
    """GPUs that are given out in one way."""

    backend: str
    partition: str
    prefix: str  # of their nodes' names
    nodes: int
    gpus: int  # in each
    model: str
    memory: int  # bytes
    watts: tuple[float, float]  # idle, busy
    enforces: str
    part: float  # of all jobs
    shapes: dict[tuple[int, int], float]  # (per cent of each GPU, GPUs) -> how often
    minutes: float  # of the median job


KINDS = (
    Kind(
        *("shard", "shared", "s", 60, 4, "NVIDIA A100-SXM4-80GB", 80 * GIB, (55.0, 400.0)),
        "memory=advisory,compute=advisory,faults=none",
        0.62,
        {(10, 1): 0.25, (25, 1): 0.4, (50, 1): 0.2, (33, 1): 0.07, (50, 2): 0.08},
        50.0,
    ),
    Kind(
        *("gpu", "whole", "h", 50, 4, "NVIDIA H100 80GB HBM3", 80 * GIB, (70.0, 700.0)),
        "memory=enforced,compute=enforced,faults=enforced",
        0.3,
        {(100, 1): 0.38, (100, 2): 0.15, (100, 4): 0.31, (100, 8): 0.16},
        14.0,
    ),
    Kind(
        *("bitfusion", "pool", "p", 10, 2, "Tesla P100-PCIE-16GB", 16 * GIB, (30.0, 250.0)),
        "memory=enforced,compute=none,faults=none",
        0.08,
        {(25, 1): 0.6, (10, 1): 0.4},
        40.0,
    ),
)
# How many jobs the hours of a day bring, from midnight, and the days of a week.
_HOURS = (3, 2, 2, 2, 2, 2, 3, 4, 6, 8, 9, 9, 8, 8, 9, 9, 9, 8, 7, 6, 6, 5, 5, 4)
_WEEK = (1.1, 1.2, 1.2, 1.2, 1.1, 0.6, 0.6)
_STATES = {"COMPLETED": 0.865, "FAILED": 0.07, "TIMEOUT": 0.03, "CANCELLED": 0.03, "OUT_OF_MEMORY": 0.005}
_REQUEUED = 0.02  # of all runs
_ARRAYS = 0.025  # of all submissions
_WITHOUT_RECORD = 0.015  # of all runs
_SPREAD = 1.4  # sigma of the logarithm of a job's length
_LONGEST = 2 * DAY


@dataclass(frozen=True)
class User:
    """Somebody, and how their jobs are."""

    name: str
    uid: int
    account: str
    weight: float
    use: float  # of their share, at the mean
    memory: float  # of it, at the peak
    longer: float  # than the median job


@dataclass
class Wanted:
    """A run that waits for its GPUs."""

    user: User
    kind: int
    percent: int  # of each GPU
    count: int
    job_id: int
    submit: int
    seconds: int
    restart: int = 0
    array: tuple[int, int] | None = None


def users(seed: int = SEED) -> list[User]:
    """Return everybody, those with most jobs first."""
    chance = random.Random(seed)
    found = []
    for rank in range(USERS):
        account = ACCOUNTS[min(int(chance.expovariate(0.1)), len(ACCOUNTS) - 1)]
        name, uid = f"u{rank:03d}", 20_000 + rank
        use, memory, longer = chance.betavariate(1.6, 1.8), chance.betavariate(2, 2.5), chance.lognormvariate(0, 0.3)
        if rank == ALICE_RANK:
            (name, uid, account), use, memory = ALICE, 0.3, 0.3  # there is something to advise
        found.append(User(name, uid, account, 1 / (rank + 8), use, memory, longer))
    return found


def batches(
    cluster: str, end: int, jobs: int = JOBS, days: int = DAYS, seed: int = SEED
) -> Iterator[tuple[list[JobRow], list[UsageRecord]]]:
    """Yield about ``jobs`` runs, and their records, of the ``days`` before ``end`` (seconds since the epoch).

    They come in the order in which they began, and all have ended by then.
    """
    chance = random.Random(seed)
    fleets = [_Fleet(kind, chance) for kind in KINDS]
    rows: list[JobRow] = []
    records: list[UsageRecord] = []
    for start, stop, wanted, gpus, state in _placed(chance, fleets, end, jobs, days, seed):
        fleet = fleets[wanted.kind]
        nodes = sorted({fleet.node(gpu) for gpu in gpus})
        rows.append(_row(cluster, start, stop, wanted, nodes, state))
        if chance.random() >= _WITHOUT_RECORD:
            records += _records(chance, cluster, start, stop, wanted, gpus, fleet)
        if len(rows) == BATCH:
            yield rows, records
            rows, records = [], []
    if rows:
        yield rows, records


class _Fleet:
    """The GPUs of one kind, and what of each is free."""

    def __init__(self, kind: Kind, chance: random.Random):
        self.kind = kind
        count = kind.nodes * kind.gpus
        self.uuids = [f"GPU-{chance.getrandbits(32):08x}-0000-4000-8000-{gpu:012d}" for gpu in range(count)]
        self._free = [100] * count
        self._held: list[tuple[int, int, tuple[int, ...]]] = []  # until when, per cent, GPUs

    def node(self, gpu: int) -> str:
        return f"{self.kind.prefix}{gpu // self.kind.gpus + 1:02d}"

    def take(self, now: int, stop: int, percent: int, count: int) -> tuple[int, ...] | None:
        """Give out the first GPUs with so much left of each until ``stop``; None where there are not so many."""
        while self._held and self._held[0][0] <= now:
            _, back, gpus = heapq.heappop(self._held)
            for gpu in gpus:
                self._free[gpu] += back
        gpus = self._room(percent, count)
        if gpus is not None:
            for gpu in gpus:
                self._free[gpu] -= percent
            heapq.heappush(self._held, (stop, percent, gpus))
        return gpus

    def _room(self, percent: int, count: int) -> tuple[int, ...] | None:
        if count == 1:
            return next(((gpu,) for gpu, left in enumerate(self._free) if left >= percent), None)
        each = min(count, self.kind.gpus)  # of one node; a larger job has whole nodes
        found: list[int] = []
        for first in range(0, len(self._free), self.kind.gpus):
            room = [gpu for gpu in range(first, first + self.kind.gpus) if self._free[gpu] >= percent]
            if len(room) >= each:
                found += room[:each]
                if len(found) == count:
                    return tuple(found)
        return None


def _placed(
    chance: random.Random, fleets: list[_Fleet], end: int, jobs: int, days: int, seed: int
) -> Iterator[tuple[int, int, Wanted, tuple[int, ...], str]]:
    """Yield (start, end, run, GPUs, state) in the order of start."""
    everybody = users(seed)
    weights = list(itertools.accumulate(user.weight for user in everybody))
    begin = end - days * DAY
    mean = jobs * (1 - _REQUEUED) / days
    queue: list[tuple[int, int, Wanted]] = []
    job_id, order = FIRST_JOB, 0
    for day in range(days):
        today = begin + day * DAY
        left = round(mean * _WEEK[day % 7])
        while left > 0:
            submit = today + 3600 * chance.choices(range(24), _HOURS)[0] + chance.randrange(3600)
            user = chance.choices(everybody, cum_weights=weights)[0]
            tasks = _submission(chance, user, job_id, submit, left)
            for task in tasks:
                order += 1
                heapq.heappush(queue, (submit + 1 + int(chance.expovariate(1 / 240)), order, task))
            left -= len(tasks)
            job_id += len(tasks)
        while queue and queue[0][0] < today + DAY:
            start, _, wanted = heapq.heappop(queue)
            stop = min(start + wanted.seconds, end - 1)
            if stop <= start:
                continue
            gpus = fleets[wanted.kind].take(start, stop, wanted.percent, wanted.count)
            order += 1
            if gpus is None:
                heapq.heappush(queue, (start + 60 + chance.randrange(600), order, wanted))
                continue
            again = chance.random() < _REQUEUED
            state = "REQUEUED" if again else chance.choices(tuple(_STATES), tuple(_STATES.values()))[0]
            yield start, stop, wanted, gpus, state
            if again:
                seconds = _seconds(chance, wanted.user, wanted.kind)
                later = Wanted(**{**vars(wanted), "submit": stop, "seconds": seconds, "restart": wanted.restart + 1})
                heapq.heappush(queue, (stop + 5 + chance.randrange(600), order, later))


def _submission(chance: random.Random, user: User, job_id: int, submit: int, most: int) -> list[Wanted]:
    """Return a job, or the tasks of an array."""
    kind = chance.choices(range(len(KINDS)), [kind.part for kind in KINDS])[0]
    shapes = KINDS[kind].shapes
    percent, count = chance.choices(tuple(shapes), tuple(shapes.values()))[0]
    tasks = min(most, 2 + int(chance.expovariate(1 / 18))) if count == 1 and chance.random() < _ARRAYS else 1
    return [
        Wanted(
            *(user, kind, percent, count, job_id + task, submit, _seconds(chance, user, kind)),
            array=(job_id, task) if tasks > 1 else None,
        )
        for task in range(tasks)
    ]


def _seconds(chance: random.Random, user: User, kind: int) -> int:
    length = 60 * KINDS[kind].minutes * user.longer * chance.lognormvariate(0, _SPREAD)
    return max(10, min(int(length), _LONGEST))


def _row(cluster: str, start: int, stop: int, wanted: Wanted, nodes: list[str], state: str) -> JobRow:
    kind, count, percent = KINDS[wanted.kind], wanted.count, wanted.percent
    cpus, memory = 4 * count, 16384 * count
    request = f"gpu:{percent / 100:g}" + (f" x{count}" if count > 1 else "")
    if kind.backend == "gpu":
        gres = f"gres/gpu={count}"
    else:
        gres = f"{'gres/shard' if kind.backend == 'shard' else 'license/bitfusion'}={percent * count}"
    tres = f"billing={cpus},cpu={cpus},{gres},mem={memory}M,node={len(nodes)}"
    if kind.prefix == "p":
        nodes = ["c" + node[1:] for node in nodes]  # a pool's clients have no GPUs
    array_job_id, task = wanted.array or (None, None)
    return JobRow(
        cluster=cluster,
        job_id=wanted.job_id,
        submit=wanted.submit,
        restart=wanted.restart,
        array_job_id=array_job_id,
        array_task_id=task,
        start=start,
        end=stop,
        elapsed_seconds=stop - start,
        user=wanted.user.name,
        uid=wanted.user.uid,
        account=wanted.user.account,
        partition=kind.partition,
        qos="normal",
        state=state,
        exit_code="0:0" if state == "COMPLETED" else "1:0",
        nodes=len(nodes),
        nodelist=",".join(nodes),
        alloc_tres=tres,
        req_tres=tres,
        extra=""
        if kind.backend == "gpu"
        else f'{{"v":1,"backend":"{kind.backend}","gpus":{count},"fraction":{percent / 100},"slices":{percent * count},'
        f'"memory":{kind.memory * percent // 100},"nodes":1,"rule":"default","request":"{request}","extra":""}}',
    )


def _records(
    chance: random.Random, cluster: str, start: int, stop: int, wanted: Wanted, gpus: tuple[int, ...], fleet: _Fleet
) -> Iterator[UsageRecord]:
    kind, user, share = fleet.kind, wanted.user, wanted.percent / 100
    dead = chance.random() < 0.04  # it hangs, or was forgotten
    use = 0.0 if dead else min(1.0, max(0.005, chance.gauss(user.use, 0.07))) * share
    peak = min(1.0, max(0.01, chance.gauss(user.memory, 0.07))) * share * kind.memory
    began = start + round(0.1 + 0.8 * chance.random(), 3)
    seconds = stop - began
    sampled = seconds - min(seconds, 5 * chance.random())
    low, high = kind.watts
    for gpu in gpus:
        mean = use * (0.95 + 0.1 * chance.random())
        used = min(mean, 1.0) * sampled
        idle = max(0.0, share * sampled - used)
        yield UsageRecord(
            cluster=cluster,
            job_id=wanted.job_id,
            node=fleet.node(gpu),
            gpu=fleet.uuids[gpu],
            gpu_index=gpu % kind.gpus,
            gpu_name=kind.model,
            backend=kind.backend,
            fraction=share,
            uid=user.uid,
            user=user.name,
            started=began,
            ended=float(stop),
            seconds_sampled=sampled,
            quality=MEASURED,
            source="server" if kind.prefix == "p" else "node",
            gpu_seconds_reserved=share * seconds,
            gpu_seconds_used=used,
            gpu_seconds_idle=idle,
            gpu_seconds_over=max(0.0, used - share * sampled),
            memory_peak_bytes=int(peak),
            energy_joules=(low * share + (high - low) * mean) * sampled,
            processes_seen=0 if dead else 1,
            enforces=kind.enforces,
            memory_share_bytes=kind.memory * wanted.percent // 100,
            sm_mean=mean,
            sm_p50=mean,
            sm_p95=min(1.0, 1.3 * mean),
            sm_max=min(1.0, 1.6 * mean),
            memory_mean_bytes=int(0.8 * peak),
            memory_p50_bytes=int(0.85 * peak),
            memory_p95_bytes=int(0.98 * peak),
            gpu_seconds_without_process=idle if dead else 0.0,
            gpu_seconds_read=used,
            gaps=[],
        )
