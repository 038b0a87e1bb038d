"""Jobs whose load on a GPU is known, what the GPU itself counted of them, and what the store keeps of them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.lab.cluster import Cluster, until

GIB = 1 << 30
PYTHON = "/opt/gpushare/bin/python3"
NODES = ("n1", "n2", "m1", "g1", "h1")

# What the service keeps, read as it is: reports leave out most of it.
_READ = """
import json, sqlite3, sys
store = sqlite3.connect("/var/lib/gpushare/usage.sqlite")
store.row_factory = sqlite3.Row
print(json.dumps([dict(row) for row in store.execute(sys.argv[1])]))
"""


@dataclass(frozen=True)
class Load:
    """One job: its request, the percentage of the SMs that it keeps busy, and the GiB that it holds."""

    request: str
    percent: int
    gib: int

    def command(self, seconds: int) -> str:
        """Return the command of the job."""
        return f"exec gpu-workload --gpu 0 --sm {self.percent} --memory {self.gib}G --seconds {seconds}"


# Together the whole of one GPU, so that all four are on it once the node's other one is taken.
SHARES = (Load("gpu:0.4", 40, 4), Load("gpu:0.3", 20, 3), Load("gpu:0.2", 10, 2), Load("gpu:0.1", 0, 1))
PARTS = (
    Load("gpu:a100_3g.20gb:1", 40, 4),
    Load("gpu:a100_2g.10gb:1", 20, 3),
    Load("gpu:a100_1g.5gb:1", 10, 2),
    Load("gpu:a100_1g.5gb:1", 0, 1),
)


def control(lab: Cluster, node: str, *words: str, check: bool = True) -> str:
    """Give the node's stand-in GPUs a command of its control program's."""
    return lab.out(PYTHON, "-m", "slurm_gpushare.lab.standins.gpu.control", *words, node=node, check=check)


def truth(lab: Cluster, node: str) -> dict[str, float]:
    """Return what the GPUs of a node did since they are there, by their own count: SM seconds and joules."""
    state = json.loads(control(lab, node, "snapshot"))
    return {
        "used": sum(gpu["sm_us"] for gpu in state) / 1e6,
        "energy": sum(gpu["energy_mj"] for gpu in state) / 1e3,
    }


def read_store(lab: Cluster, query: str) -> list[dict]:
    """Return the rows of a query."""
    return json.loads(lab.out(PYTHON, "-c", _READ, query))


def records(lab: Cluster, jobs: Iterable[int]) -> list[dict]:
    """Return the usage records of jobs, with their series, times in seconds."""
    rows = read_store(
        lab,
        "select usage.*, course.series from gpushare_usage as usage left join gpushare_series as course"
        " using (cluster, job_id, started, node, gpu)"
        f" where usage.job_id in ({','.join(map(str, jobs))})",
    )
    for row in rows:
        row["started"], row["ended"] = row["started"] / 1e6, row["ended"] / 1e6
        row["gaps"] = json.loads(row["gaps"] or "null")
        row["series"] = json.loads(row["series"] or "null")
    return rows


def record_of(lab: Cluster, job: int, seconds: float = 30) -> dict:
    """Wait until a job with one GPU has its record in the store, and return it: there is no other."""
    until(f"the record of job {job}", lambda: records(lab, [job]), seconds)
    (row,) = records(lab, [job])
    return row


def hours(lab: Cluster, node: str) -> dict[str, float]:
    """Return the sums of all that is amounts in the node's GPU hours."""
    rows = read_store(lab, f"select * from gpushare_gpu_hours where node = '{node}'")
    names = [name for name in (rows[0] if rows else ()) if name.startswith(("gpu_seconds_", "energy_", "seconds_"))]
    return {name: sum(row[name] or 0.0 for row in rows) for name in names}


def submit(
    lab: Cluster, node: str, partition: str, loads: Sequence[Load], seconds: int, blocked: bool = True
) -> tuple[list[int], list[int]]:
    """Submit the loads, after a job that takes the node's other GPU whole and does nothing with it.

    Returns the jobs of the loads, and that other one.
    """
    begin = f"sbatch --parsable --no-requeue -t10 -o/dev/null -p {partition} -w {node}"
    lines = [f"{begin} --gres=gpu:1 --wrap='exec sleep 600'"] if blocked else []
    lines += [f"{begin} --gres={load.request} --wrap='{load.command(seconds)}'" for load in loads]
    jobs = [int(word) for word in lab.out("sh", "-ec", "\n".join(lines), user="alice").split()]
    return jobs[blocked:], jobs[:blocked]


def unsent(lab: Cluster, node: str) -> str:
    """Return the records of a node that wait to be sent."""
    return lab.read(f"/var/spool/gpushare/{node}/usage.jsonl")
