"""October 2026 of a small cluster in Berlin, each of whose figures can be checked by hand.

What each run reserved and used is in GPU-hours beside it: fraction x hours, and share of the GPU x hours. An hour of
use takes 0.2 kWh on a P100 and 0.3 on an A100; what a V100 of the pool takes nobody knows.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

from slurm_gpushare.gpu_hour import HOUR, GpuHour
from slurm_gpushare.slurm.sacct import JobRow
from slurm_gpushare.usage import UsageRecord
from tests.unit.accounting.month import GIB, grant

BERLIN = ZoneInfo("Europe/Berlin")
OCTOBER = ("-S", "2026-10-01", "-E", "2026-11-01")
UIDS = {"alice": 1001, "bob": 1002, "carol": 1003, "dave": 1004}
ACCOUNTS = {"alice": "physics", "bob": "biology", "carol": "physics"}
KW = {"P100": 0.2, "A100": 0.3}
KWH = 3_600_000  # joules


def at(text: str) -> int:
    """Return the moment of a local time such as 10-01 12:00."""
    return int(datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=BERLIN).timestamp())


def run(job_id: int, user: str, start: str, end: str | None, fraction: float, **changed: object) -> JobRow:
    """Return a run of a job with a share of one GPU by shards, unless ``changed`` says otherwise."""
    begun = at(start)
    values = {
        "cluster": "hand",
        "job_id": job_id,
        "submit": begun - 60,
        "restart": 0,
        "array_job_id": None,
        "array_task_id": None,
        "start": begun,
        "end": None if end is None else at(end),
        "elapsed_seconds": 3600 if end is None else at(end) - begun,
        "user": user,
        "uid": UIDS[user],
        "account": ACCOUNTS[user],
        "partition": "shard",
        "qos": "high" if user == "carol" else "normal",
        "state": "RUNNING" if end is None else "COMPLETED",
        "exit_code": "0:0",
        "nodes": 1,
        "nodelist": "n1",
        "alloc_tres": f"cpu=1,gres/shard={round(100 * fraction)},node=1",
        "req_tres": f"cpu=1,gres/shard={round(100 * fraction)},node=1",
        "extra": grant(fraction=fraction),
    }
    return JobRow(**{**values, **changed})


def used(row: JobRow, share: float | None, ended: str | None = None, **changed: object) -> UsageRecord:
    """Return the record of a run that kept ``share`` of its GPU busy; None: nobody knows."""
    end = row.end if ended is None else at(ended)
    seconds = end - row.start
    fraction = changed.get("fraction", int(row.alloc_tres.split("=")[2].split(",")[0]) / 100)
    watts = KW.get(changed.get("gpu_name", "P100"))
    values = {
        "cluster": row.cluster,
        "job_id": row.job_id,
        "node": row.nodelist,
        "gpu": "GPU-1",
        "gpu_index": 0,
        "gpu_name": "P100",
        "backend": "shard",
        "fraction": fraction,
        "uid": row.uid,
        "user": row.user,
        "started": float(row.start),
        "ended": float(end),
        "seconds_sampled": 0.0 if share is None else float(seconds),
        "quality": "unknown" if share is None else "measured",
        "source": "node",
        "gpu_seconds_reserved": fraction * seconds,
        "gpu_seconds_used": None if share is None else share * seconds,
        "gpu_seconds_idle": None if share is None else max(0.0, fraction - share) * seconds,
        "gpu_seconds_over": None if share is None else max(0.0, share - fraction) * seconds,
        "memory_peak_bytes": None if share is None else GIB,
        "energy_joules": None if None in (share, watts) else watts * KWH * share * seconds / HOUR,
        "processes_seen": 1,
    }
    return UsageRecord(**{**values, **changed})


def hour(
    node: str, gpu: str, name: str, begun: float, jobs: float, nobodys: float | None, **changed: object
) -> GpuHour:
    """Return an hour of a GPU: GPU-hours that jobs used, and that nobody did; None: nothing was measured."""
    unknown = nobodys is None
    overhead = changed.pop("overhead", 0.0)
    device = jobs + overhead + (nobodys or 0.0)
    values = {
        "cluster": "hand",
        "node": node,
        "gpu": gpu,
        "source": "node",
        "hour": float(begun),
        "gpu_name": name,
        "seconds_sampled": 0.0 if unknown else HOUR,
        "quality": "unknown" if unknown else "measured",
        "gpu_seconds_reserved": 0.0,
        "gpu_seconds_used": None if unknown else device * HOUR,
        "gpu_seconds_jobs": None if unknown else jobs * HOUR,
        "gpu_seconds_overhead": None if unknown else overhead * HOUR,
        "gpu_seconds_unattributed": None if unknown else nobodys * HOUR,
        **dict.fromkeys(
            ("energy_joules", "energy_jobs_joules", "energy_overhead_joules", "energy_unattributed_joules")
        ),
    }
    return GpuHour(**{**values, **changed})


PLAIN = run(1, "alice", "10-01 10:00", "10-01 14:00", 0.25)  # reserved 1, used 0.4
REQUEUED = run(2, "alice", "10-02 10:00", "10-02 11:00", 0.25, state="REQUEUED")  # 0.25, 0.05
AGAIN = run(2, "alice", "10-02 12:00", "10-02 15:00", 0.25, restart=1)  # 0.75, 0.75
TASK_1 = run(4, "bob", "10-05 08:00", "10-05 10:00", 0.5, array_job_id=3, array_task_id=1)  # 1, 0.2
TASK_2 = run(3, "bob", "10-05 08:00", "10-05 10:00", 0.5, array_job_id=3, array_task_id=2)  # 1, 0.2
MIDNIGHT = run(5, "bob", "10-07 22:00", "10-08 02:00", 0.5)  # 2, 2: one half on each day
CLOCK = run(6, "carol", "10-25 00:00", "10-25 06:00", 0.25)  # seven hours: 1.75, 1.4
WHOLE = run(  # over the end of the month: 2 of 6 and 1 of 3 in October
    *(7, "alice", "10-31 22:00", "11-01 04:00", 1.0),
    **{"partition": "gpu", "nodelist": "g1", "extra": ""},
    **dict.fromkeys(("alloc_tres", "req_tres"), "cpu=1,gres/gpu=1,node=1"),
)
SHARED = [  # of one GPU: 0.5, 0.5; 0.5, 0.1; 1, 1.2, of which 0.2 is over
    run(8, "alice", "10-12 09:00", "10-12 11:00", 0.25),
    run(9, "bob", "10-12 09:00", "10-12 11:00", 0.25),
    run(10, "carol", "10-12 09:00", "10-12 11:00", 0.5),
]
LOST = run(  # its node is lost after two of six hours, and the record ends: 1, 0.8; Slurm counts 3
    11, "bob", "10-14 10:00", "10-14 16:00", 0.5, state="NODE_FAIL", nodelist="n2"
)
POOL = run(  # 1, 0.6
    *(12, "carol", "10-15 10:00", "10-15 12:00", 0.5),
    **{"partition": "bitfusion", "nodelist": "c1", "extra": grant("bitfusion", fraction=0.5)},
    **dict.fromkeys(("alloc_tres", "req_tres"), "cpu=1,gres/bitfusion=50,node=1"),
)
MIG = run(  # 1, of which nobody knows the use
    *(13, "alice", "10-16 10:00", "10-16 14:00", 0.25),
    **{"partition": "mig", "nodelist": "m1", "extra": grant("mig")},
    **dict.fromkeys(("alloc_tres", "req_tres"), "cpu=1,gres/gpu=1,gres/gpu:2g.20gb=1,node=1"),
)
WITHOUT_RECORD = run(14, "bob", "10-20 10:00", "10-20 14:00", 0.25)  # 1
RUNNING = run(15, "alice", "11-01 10:00", None, 0.25)
_PURGED = run(99, "alice", "10-21 10:00", "10-21 12:00", 0.25)  # Slurm does not know it: 0.5, 0.2

RUNS = [PLAIN, REQUEUED, AGAIN, TASK_1, TASK_2, MIDNIGHT, CLOCK, WHOLE, *SHARED, LOST, POOL, MIG, WITHOUT_RECORD]
RUNS.append(RUNNING)
RECORDS = [
    used(PLAIN, 0.1),
    used(REQUEUED, 0.05),
    used(AGAIN, 0.25),
    used(TASK_1, 0.1),
    used(TASK_2, 0.1, gpu="GPU-2"),
    used(MIDNIGHT, 0.5),
    used(CLOCK, 0.2),
    used(WHOLE, 0.5, gpu="GPU-9", gpu_name="A100", backend="gpu", fraction=1.0),
    *(used(row, share) for row, share in zip(SHARED, (0.25, 0.05, 0.6), strict=True)),
    used(LOST, 0.4, "10-14 12:00", gpu="GPU-7"),
    used(
        *(POOL, 0.3),
        **{"gpu": "bitfusion:c1:0", "gpu_name": "V100", "backend": "bitfusion", "source": "allocation"},
        **{"sm_p95": 0.3, "memory_peak_bytes": 4 * GIB, "memory_share_bytes": 16 * GIB},
    ),
    used(MIG, None, gpu="MIG-1", gpu_name="A100", backend="mig", fraction=0.25),
    used(_PURGED, 0.1, user="dave", uid=UIDS["dave"]),
]
# What no job used, in GPU-hours: 0.2 on the 1st, nothing on the 12th, 0.5 on the 22nd, where nobody had a job, 0.6 in
# the two hours of the 25th that the clock calls 2:00, 0.1 in the last hour of the month. The next one is November's.
HOURS = [
    *(hour("n1", "GPU-1", "P100", at(f"10-01 {number}:00"), 0.1, 0.05) for number in (10, 11, 12, 13)),
    *(hour("n1", "GPU-1", "P100", at(f"10-12 {number:02}:00"), 0.9, 0.0, overhead=0.02) for number in (9, 10)),
    hour("n2", "GPU-7", "P100", at("10-14 12:00"), 0.0, None),
    hour("n1", "GPU-2", "P100", at("10-22 03:00"), 0.0, 0.5),
    *(hour("n1", "GPU-1", "P100", at("10-25 02:00") + later, 0.2, 0.3) for later in (0, HOUR)),
    *(hour("g1", "GPU-9", "A100", at("10-31 23:00") + later, 0.5, 0.1) for later in (0, HOUR)),
]
