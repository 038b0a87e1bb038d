"""What slurmctld knows of running jobs that slurmdbd learns only at their end: the job's ``extra``."""

import json

from slurm_gpushare.slurm.command import SlurmError, run_slurm

TIMEOUT = 30.0  # seconds

RunKey = tuple[int, int]  # job id, restart


def parse_squeue(text: str) -> dict[RunKey, str]:
    """Read `squeue --json`: ``extra`` of each job that has one; raises SlurmError when it is not that."""
    try:
        return {
            (int(job["job_id"]), _number(job.get("restart_cnt")) or 0): job["extra"]
            for job in json.loads(text)["jobs"]
            if isinstance(job.get("extra"), str) and job["extra"]
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SlurmError(f"squeue --json: not readable: {type(error).__name__} {error}") from None


def running_extras() -> dict[RunKey, str]:
    """Ask squeue for ``extra`` of the jobs that hold resources now; raises SlurmError."""
    return parse_squeue(run_slurm(["squeue", "--json", "--all", "--states=RUNNING,SUSPENDED,COMPLETING"], TIMEOUT))


def _number(value: object) -> int | None:
    # Numbers are {"set":…, "number":…} in some versions of Slurm's data parser.
    if isinstance(value, dict):
        value = value.get("number") if value.get("set") else None
    return value if isinstance(value, int) else None
