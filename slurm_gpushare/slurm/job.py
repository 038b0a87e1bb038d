"""One job as `scontrol show job --json` tells it, pending or not."""

import re
from dataclasses import dataclass

from slurm_gpushare.errors import GpushareError
from slurm_gpushare.grant import Grant, decode_grant, looks_like_grant
from slurm_gpushare.slurm.command import SlurmError, run_slurm
from slurm_gpushare.slurm.jsondata import number, read_list, words
from slurm_gpushare.slurm.licences import parse_choices
from slurm_gpushare.slurm.tres import gres_count, parse_tres

TIMEOUT = 10.0  # seconds


@dataclass(frozen=True)
class Job:
    """One job. Times are seconds since the epoch, None where Slurm has none."""

    job_id: int
    array_job_id: int | None
    state: str
    reason: str  # Slurm's word, "" for None
    user: str
    account: str
    qos: str
    partitions: tuple[str, ...]  # a job may be submitted to several
    priority: int | None
    nodes: int
    cpus_per_node: int
    memory_per_node: int  # MiB
    gpus_per_node: int  # whole ones
    grant: Grant | None
    licences: dict[str, int]  # of one kind or another where Slurm may choose
    dependency: str
    array_limit: int | None  # tasks of the array that may run at one time
    eligible: int | None
    expected_start: int | None
    choices: tuple[dict[str, int], ...] = ()  # licences: all of any one of these


def parse_jobs(text: str) -> list[Job]:
    """Read `scontrol show job --json`; raises SlurmError when it is not that."""
    return read_list(text, "jobs", _job, "scontrol show job --json")


def fetch_job(job: str) -> Job:
    """Ask slurmctld for a job: ``123``, or ``123_4`` for a task of an array; of an array's tasks one that waits.

    Raises
    ------
    SlurmError
        Slurm does not know it (any more), or cannot be asked.
    """
    try:
        jobs = parse_jobs(run_slurm(["scontrol", "show", "job", job, "--json"], TIMEOUT))
    except SlurmError as error:
        if "Invalid job id" not in str(error):
            raise
        jobs = []
    if not jobs:
        raise SlurmError(f"job {job}: Slurm does not know it, or no longer: `sacct -j {job}` tells how it ended")
    return next((one for one in jobs if one.state == "PENDING"), jobs[0])


def _job(data: dict) -> Job:
    tres = parse_tres(data.get("tres_req_str") or "")
    nodes = max(1, number(data.get("node_count")) or 1)
    cpus = number(data.get("cpus")) or 1
    reason = str(data.get("state_reason") or "")
    choices = _choices(data.get("licenses"))
    return Job(
        job_id=int(data["job_id"]),
        array_job_id=number(data.get("array_job_id")) or None,
        state=(words(data.get("job_state")) or ("",))[0],
        reason="" if reason == "None" else reason,
        user=str(data.get("user_name") or ""),
        account=str(data.get("account") or ""),
        qos=str(data.get("qos") or ""),
        partitions=tuple(part for part in str(data.get("partition") or "").split(",") if part),
        priority=number(data.get("priority")),
        nodes=nodes,
        cpus_per_node=max(-(-cpus // nodes), number(data.get("minimum_cpus_per_node")) or 1),
        memory_per_node=_mebibytes(tres.get("mem", "")) // nodes,
        gpus_per_node=gres_count(tres, "gpu") // nodes,
        grant=_grant(data.get("extra")),
        licences={name: count for choice in choices for name, count in choice.items()},
        choices=choices,
        dependency=str(data.get("dependency") or ""),
        array_limit=number(data.get("array_max_tasks")) or None,
        eligible=number(data.get("eligible_time")) or None,
        expected_start=number(data.get("start_time")) or None,
    )


def _grant(extra: object) -> Grant | None:
    try:
        return decode_grant(extra) if isinstance(extra, str) and looks_like_grant(extra) else None
    except GpushareError:
        return None  # of another version, or forged: the rest can still be told


def _choices(text: object) -> tuple[dict[str, int], ...]:
    try:
        return parse_choices(text) if isinstance(text, str) else ()
    except ValueError:
        return ()  # of a form that a later version may have: the rest can still be told


def _mebibytes(text: str) -> int:
    """Read an amount of a TRES string: ``500M``, ``1.50G``; without a unit it is MiB."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KMGTP]?)", text)
    scale = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2, "P": 1024**3}
    return int(float(match[1]) * scale[match[2]]) if match else 0
