"""A small made-up history, each of whose figures can be checked by hand. Times count from T."""

from slurm_gpushare.slurm.sacct import JobRow
from slurm_gpushare.usage import UsageRecord

T = 1_795_360_000
GIB = 1024**3


def grant(backend: str = "shard", gpus: int = 1, fraction: float = 0.25, nodes: int = 1) -> str:
    """Return a grant as it stands in Extra."""
    return (
        f'{{"v":1,"backend":"{backend}","gpus":{gpus},"fraction":{fraction},"slices":{int(gpus * fraction * 100)},'
        f'"memory":null,"nodes":{nodes},"rule":"default","request":"gpu:{fraction}","extra":""}}'
    )


def run(job_id: int, start: float | None, end: float | None, **changed: object) -> JobRow:
    """Return one run; ``start`` and ``end`` from T, None for Unknown."""
    values = {
        "cluster": "lab",
        "job_id": job_id,
        "submit": T,
        "restart": 0,
        "array_job_id": None,
        "array_task_id": None,
        "start": None if start is None else T + start,
        "end": None if end is None else T + end,
        "elapsed_seconds": 0 if start is None else (1000 if end is None else end) - start,
        "user": "alice",
        "uid": 1001,
        "account": "physics",
        "partition": "shard",
        "qos": "normal",
        "state": "COMPLETED",
        "exit_code": "0:0",
        "nodes": 1,
        "nodelist": "n1",
        "alloc_tres": "" if start is None else "cpu=1,gres/shard=25,mem=500M,node=1",
        "req_tres": "cpu=1,gres/shard=25,mem=500M,node=1",
        "extra": grant(),
    }
    return JobRow(**{**values, **changed})


def used(job_id: int, started: float, ended: float, share: float | None, **changed: object) -> UsageRecord:
    """Return a record of a job that kept ``share`` of the GPU busy from ``started`` to ``ended``, from T."""
    fraction = changed.get("fraction", 0.25)
    seconds = ended - started
    values = {
        "cluster": "lab",
        "job_id": job_id,
        "node": "n1",
        "gpu": "GPU-1",
        "gpu_index": 0,
        "gpu_name": "Tesla",
        "backend": "shard",
        "fraction": fraction,
        "uid": 1001,
        "user": "alice",
        "started": T + started,
        "ended": T + ended,
        "seconds_sampled": 0.0 if share is None else seconds,
        "quality": "unknown" if share is None else "measured",
        "source": "node",
        "gpu_seconds_reserved": fraction * seconds,
        "gpu_seconds_used": None if share is None else share * seconds,
        "gpu_seconds_idle": None if share is None else max(0.0, fraction - share) * seconds,
        "gpu_seconds_over": None if share is None else max(0.0, share - fraction) * seconds,
        "memory_peak_bytes": None if share is None else GIB,
        "energy_joules": None if share is None else 10.0 * seconds,
        "processes_seen": 1,
    }
    return UsageRecord(**{**values, **changed})


# Requeued: two runs of job 1, the second begins 5 s after the first has ended.
REQUEUED = [
    run(1, 10, 110, state="REQUEUED"),
    run(1, 115, 315, submit=T + 110, restart=1),
]
REQUEUED_USE = [used(1, 10.5, 110.5, 0.1), used(1, 115.5, 315.5, 0.5)]

# Two tasks of array 2; job 4 is bob's, on the same GPU at the same time as task 2_7.
ARRAY = [
    run(3, 400, 500, array_job_id=2, array_task_id=6),
    run(2, 400, 500, array_job_id=2, array_task_id=7),
]
ARRAY_USE = [used(3, 400, 500, 0.2, gpu="GPU-2"), used(2, 400, 500, 0.2)]
SHARER = run(4, 400, 500, user="bob", uid=1002, account="biology")
SHARER_USE = used(4, 400, 500, 0.6, user="bob", uid=1002)

# Two nodes with two GPUs' halves each.
TWO_NODES = run(
    *(5, 600, 700),
    nodes=2,
    nodelist="n[1-2]",
    extra=grant(gpus=2, fraction=0.5, nodes=2),
    alloc_tres="cpu=2,gres/shard=200,node=2",
)
TWO_NODES_USE = [
    used(5, 600, 700, 0.5, node=node, gpu=gpu, fraction=0.5, memory_peak_bytes=peak * GIB)
    for node, gpu, peak in (("n1", "GPU-1", 1), ("n1", "GPU-2", 2), ("n2", "GPU-3", 7), ("n2", "GPU-4", 4))
]

# A whole GPU on each of two nodes, of which nobody measured anything; a running one; one that has not begun.
WHOLE = run(
    6, 800, 860, nodes=2, alloc_tres="cpu=2,gres/gpu=2,node=2", req_tres="cpu=2,gres/gpu=2,node=2", extra="", uid=1002
)
RUNNING = run(7, 900, None, state="RUNNING")
PENDING = run(8, None, None, state="PENDING")
CPU = run(9, 900, 950, alloc_tres="cpu=4,mem=1G,node=1", req_tres="cpu=4,mem=1G,node=1", extra="color=blue")

RUNS = [*REQUEUED, *ARRAY, SHARER, TWO_NODES, WHOLE, RUNNING, PENDING, CPU]
RECORDS = [*REQUEUED_USE, *ARRAY_USE, SHARER_USE, *TWO_NODES_USE]
