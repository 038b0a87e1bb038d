"""A made-up month of a small site, by a fixed seed: runs, records with courses, and the GPUs' hours that agree."""

import math
import random
from collections import defaultdict

from slurm_gpushare.gpu_hour import GpuHour
from slurm_gpushare.slurm.sacct import JobRow
from slurm_gpushare.usage import UsageRecord
from tests.unit.accounting.month import GIB, T, grant, run, used

END = 1_795_354_200  # 2026-11-22 20:30 in UTC
DAYS = 30
START = END - DAYS * 86400
ACCOUNTS = {
    "physics": ("alice", "user02", "user03", "user04"),
    "biology": ("bob", "user06", "user07"),
    "chemistry": ("user08", "user09"),
    "linguistics": ("user10", "user11", "user12"),
    "geology": ("user13",),
    "robotics": ("user14", "user15"),
}
GPUS = [(f"n{node}", f"GPU-{node}{index}c4a7e-91", index) for node in (1, 2, 3) for index in (0, 1)]
MODEL = "NVIDIA A100 40GB"
_KINDS = {  # of a user's jobs: fraction, mean use of the share, hours, memory of the share
    "trains": (0.5, 0.9, 9.0, 0.8),
    "waits": (0.5, 0.3, 7.0, 0.3),
    "serves": (0.25, 0.35, 12.0, 0.6),
    "tunes": (0.25, 0.8, 2.5, 0.7),
    "whole": (1.0, 0.75, 6.0, 0.7),
    "notebook": (0.25, 0.04, 8.0, 0.15),
}


def history() -> tuple[list[JobRow], list[UsageRecord], list[GpuHour]]:
    """Return the runs, their records and the GPUs' hours."""
    dice = random.Random(7)
    people = [(user, account) for account, users in ACCOUNTS.items() for user in users]
    kind_of = {user: list(_KINDS)[number % len(_KINDS)] for number, (user, _) in enumerate(people)}
    skill = {user: dice.uniform(0.75, 1.1) for user, _ in people}
    wish = [
        (2.0 if kind_of[user] in ("trains", "tunes", "whole") else 0.8) * dice.uniform(0.4, 1.2) for user, _ in people
    ]
    rows, records, number = [], [], 1000
    for node, gpu, index in GPUS:
        free = [0.0] * 4  # quarters of the GPU: when each is free, in seconds from START
        while min(free) < DAYS * 86400:
            user, account = dice.choices(people, wish)[0]
            fraction, use, hours, memory = _KINDS[kind_of[user]]
            need = round(fraction * 4)
            quarters = sorted(range(4), key=free.__getitem__)[:need]
            begun = max(free[at] for at in quarters) + dice.expovariate(1 / 2500)
            seconds = max(300.0, dice.lognormvariate(math.log(hours * 3600), 0.5))
            for at in quarters:
                free[at] = begun + seconds
            ended = begun + seconds
            if ended > DAYS * 86400:
                continue
            number += 1
            rows.append(_row(number, user, account, fraction, begun, ended, people))
            records.append(
                _record(
                    dice,
                    rows[-1],
                    node,
                    gpu,
                    index,
                    fraction,
                    min(1.0, use * skill[user] * dice.uniform(0.8, 1.15)),
                    memory,
                )
            )
    return rows, records, _hours(records)


def _row(number: int, user: str, account: str, fraction: float, begun: float, ended: float, people: list) -> JobRow:
    uid = 1001 + [name for name, _ in people].index(user)
    whole = fraction == 1.0
    return run(
        number,
        int(START + begun) - T,
        int(START + ended) - T,
        submit=int(START + begun - 60),
        elapsed_seconds=int(ended - begun),
        user=user,
        uid=uid,
        account=account,
        partition="gpu" if whole else "shard",
        alloc_tres="cpu=4,gres/gpu=1,node=1" if whole else f"cpu=4,gres/shard={int(fraction * 100)},node=1",
        req_tres="cpu=4,gres/gpu=1,node=1" if whole else f"cpu=4,gres/shard={int(fraction * 100)},node=1",
        extra="" if whole else grant(fraction=fraction),
    )


def _record(
    dice: random.Random, row: JobRow, node: str, gpu: str, index: int, fraction: float, use: float, memory: float
) -> UsageRecord:
    seconds = float(row.end - row.start)
    points = min(240, max(2, int(seconds // 10)))
    every = seconds / points
    pace, phase = dice.choice((9, 17, 31)), dice.random() * 6
    course = []
    for at in range(points):
        wave = 0.85 + 0.15 * math.sin(phase + at / pace * 2) + dice.gauss(0, 0.03)
        warm = min(1.0, (at + 1) / (points * 0.04 + 1))
        course.append(max(0.0, min(1.0, fraction * use * wave * warm)))
    gap = dice.random() < 0.08
    if gap:
        course[points // 2 : points // 2 + points // 8] = [None] * (points // 8)
    known = [value for value in course if value is not None]
    mean = math.fsum(known) / len(known)
    sampled = every * len(known)
    share = int(40 * GIB * fraction)
    held = [
        None if value is None else int(share * memory * min(1.0, 0.3 + at / points * 3))
        for at, value in enumerate(course)
    ]
    values = vars(used(row.job_id, 0, seconds, mean, fraction=fraction))
    values |= {
        "node": node,
        "gpu": gpu,
        "gpu_index": index,
        "gpu_name": MODEL,
        "backend": "gpu" if fraction == 1.0 else "shard",
        "user": row.user,
        "uid": row.uid,
        "started": float(row.start),
        "ended": float(row.end),
        "seconds_sampled": sampled,
        "gpu_seconds_used": mean * sampled,
        "gpu_seconds_reserved": fraction * seconds,
        "gpu_seconds_idle": math.fsum(max(0.0, fraction - value) * every for value in known),
        "gpu_seconds_over": math.fsum(max(0.0, value - fraction) * every for value in known),
        "gpu_seconds_without_process": (0.8 if mean < 0.03 else 0.02) * max(0.0, fraction - mean) * sampled,
        "memory_share_bytes": share,
        "memory_peak_bytes": max(value for value in held if value is not None),
        "sm_mean": mean,
        "sm_p50": sorted(known)[len(known) // 2],
        "sm_p95": sorted(known)[int(len(known) * 0.95)],
        "sm_max": max(known),
        "energy_joules": (60 * fraction + 300 * mean) * seconds,
        "gaps": [[every * (points // 2), every * (points // 8), "agent was down"]] if gap else [],
        "series": {"every": every, "sm": course, "memory": held},
    }
    return UsageRecord(**values)


def _hours(records: list[UsageRecord]) -> list[GpuHour]:
    sums: dict[tuple, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for record in records:
        for at, value in enumerate(record.series["sm"]):
            every = record.series["every"]
            low = record.started + at * every
            cell = sums[record.node, record.gpu, low // 3600 * 3600]
            cell[0] += (value or 0.0) * every
            cell[1] += record.fraction * every
    return [
        GpuHour(
            cluster="lab",
            node=node,
            gpu=gpu,
            source="node",
            hour=hour,
            gpu_name=MODEL,
            seconds_sampled=3600.0,
            quality="measured",
            gpu_seconds_reserved=min(3600.0, cell[1]),
            gpu_seconds_used=min(3600.0, cell[0]),
            gpu_seconds_jobs=min(3600.0, cell[0]),
            gpu_seconds_overhead=0.0,
            gpu_seconds_unattributed=0.0,
            energy_joules=None,
            energy_jobs_joules=None,
            energy_overhead_joules=None,
            energy_unattributed_joules=None,
        )
        for (node, gpu, hour), cell in sums.items()
    ]
