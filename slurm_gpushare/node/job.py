"""What slurmd tells prolog and epilog of a job, strictly read.

The names are those that Slurm documents for Prolog and Epilog. Standard library only.
"""

from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.record import Record

LARGEST = 2**32 - 1  # job ids, uids and gids are 32 bits wide


class Job(Record):
    """A job on one node, in slurmd's own words."""

    job_id: int
    uid: int
    gid: int
    user: str
    node: str
    cluster: str


def number(environment: dict[str, str], name: str) -> int:
    """Return a number of slurmd's; raises BrokenInstallation when it is missing or none."""
    text = environment.get(name, "")
    if not (text.isascii() and text.isdigit()) or int(text) > LARGEST:
        raise BrokenInstallation(f"{name} is {text!r}, not a number: is this run by slurmd?")
    return int(text)


def plain_name(environment: dict[str, str], name: str) -> str:
    """Return a name of slurmd's that can be part of a path; raises BrokenInstallation when it cannot."""
    text = environment.get(name, "")
    if not text or text in (".", "..") or "/" in text or not text.isprintable():
        raise BrokenInstallation(f"{name} is {text!r}, not a name: is this run by slurmd?")
    return text


def read_job(environment: dict[str, str]) -> Job:
    """Read the job that slurmd starts or has ended; raises BrokenInstallation when slurmd's own words are missing."""
    return Job(
        job_id=number(environment, "SLURM_JOB_ID"),
        uid=number(environment, "SLURM_JOB_UID"),
        gid=number(environment, "SLURM_JOB_GID"),
        user=environment.get("SLURM_JOB_USER", ""),
        node=plain_name(environment, "SLURMD_NODENAME"),
        cluster=environment.get("SLURM_CLUSTER_NAME", ""),
    )
