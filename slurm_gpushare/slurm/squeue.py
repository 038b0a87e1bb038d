"""What slurmctld knows of the jobs in its queue: ``extra`` of those that run, what they hold, who is before whom."""

from slurm_gpushare.slurm.command import run_slurm
from slurm_gpushare.slurm.jsondata import number, read_list
from slurm_gpushare.slurm.tres import parse_tres

TIMEOUT = 30.0  # seconds

RunKey = tuple[int, int]  # job id, restart


def parse_squeue(text: str) -> dict[RunKey, str]:
    """Read `squeue --json`: ``extra`` of each job that has one; raises SlurmError when it is not that."""
    jobs = read_list(
        text,
        "jobs",
        lambda job: ((int(job["job_id"]), number(job.get("restart_cnt")) or 0), job.get("extra")),
        "squeue --json",
    )
    return {key: extra for key, extra in jobs if isinstance(extra, str) and extra}


def running_extras() -> dict[RunKey, str]:
    """Ask squeue for ``extra`` of the jobs that hold resources now; raises SlurmError."""
    return parse_squeue(run_slurm(["squeue", "--json", "--all", "--states=RUNNING,SUSPENDED,COMPLETING"], TIMEOUT))


def parse_holding(text: str) -> dict[int, dict[str, str]]:
    """Read `squeue --json`: job id → the GPU resources that it holds, of the jobs that hold any; raises SlurmError."""
    jobs = read_list(
        text, "jobs", lambda job: (int(job["job_id"]), parse_tres(job.get("tres_alloc_str") or "")), "squeue --json"
    )
    held = {job: {name: n for name, n in tres.items() if name.startswith(("gres/", "license/"))} for job, tres in jobs}
    return {job: tres for job, tres in held.items() if tres}


def fetch_holding(*selection: str) -> dict[int, dict[str, str]]:
    """Ask squeue what jobs hold now; ``selection`` is squeue's own, such as ``--user=alice``. Raises SlurmError."""
    states = "--states=RUNNING,SUSPENDED,COMPLETING"
    return parse_holding(run_slurm(["squeue", "--json", "--all", states, *selection], TIMEOUT))


def parse_ahead(text: str, job: int, priority: int) -> int:
    """Count the jobs of `squeue --format="%i %Q"` that come before ``job``: by priority, then by id; raises ValueError.

    A held job has no priority and is before nobody; an array that waits is one.
    """
    ahead = 0
    for line in text.splitlines():
        name, _, other = line.strip().rpartition(" ")
        number_of = int(name.partition("_")[0].partition("+")[0])
        if number_of != job and (int(other) > priority or (int(other) == priority and number_of < job)):
            ahead += 1
    return ahead


def fetch_ahead(partitions: str, job: int, priority: int) -> int:
    """Ask squeue how many pending jobs of ``partitions`` come before ``job``; raises SlurmError."""
    argv = ["squeue", "--noheader", "--all", "--states=PENDING", f"--partition={partitions}", "--format=%i %Q"]
    return parse_ahead(run_slurm(argv, TIMEOUT), job, priority)
