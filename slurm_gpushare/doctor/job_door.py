"""The door to what is known of one job: slurmctld, slurmdbd, this node's launch record, the service."""

import socket
import time

from slurm_gpushare.accounting.client import ask
from slurm_gpushare.accounting.selection import Selection, parse_jobs
from slurm_gpushare.doctor.host import node_names
from slurm_gpushare.doctor.job import Trace
from slurm_gpushare.errors import GpushareError
from slurm_gpushare.launch import LaunchRecord, read_record
from slurm_gpushare.node_policy import read_node_policy
from slurm_gpushare.paths import launch_record
from slurm_gpushare.slurm.command import SlurmError, run_slurm
from slurm_gpushare.slurm.ended import node_names as expand
from slurm_gpushare.slurm.jsondata import read_list, words
from slurm_gpushare.slurm.sacct import JobRow, fetch_jobs

TIMEOUT = 10.0  # seconds


def look(job: str) -> Trace:
    """Return what can be seen of ``job``, 12 or 12_3; nothing that cannot be seen is an error."""
    live = _live(job)
    row = _row(job)
    number = live["job_id"] if isinstance(live, dict) else row.job_id if isinstance(row, JobRow) else None
    nodes = node_names(socket.gethostname())
    here = next(
        (name for name in nodes if isinstance(live, dict) and name in live["nodes"]), nodes[0] if nodes else None
    )
    return Trace(
        job=job,
        live=live,
        row=row,
        record=None if here is None or number is None else _record(here, number),
        here=here,
        run=_run(job),
        prolog_alloc=_prolog_alloc(),
    )


def _live(job: str) -> dict | str:
    try:
        jobs = read_list(run_slurm(["scontrol", "show", "job", job, "--json"], TIMEOUT), "jobs", _of_slurm, "scontrol")
    except SlurmError as error:
        return f"slurmctld does not know job {job}" if "Invalid job id" in str(error) else str(error)
    return jobs[0] if jobs else f"slurmctld does not know job {job}"


def _of_slurm(data: dict) -> dict:
    reason = str(data.get("state_reason") or "")
    nodes = str(data.get("nodes") or "")
    return {
        "job_id": int(data["job_id"]),
        "state": (words(data.get("job_state")) or ("",))[0],
        "reason": "" if reason == "None" else reason,
        "extra": str(data.get("extra") or ""),
        "nodes": expand(nodes) if nodes else [],
    }


def _row(job: str) -> JobRow | str | None:
    number, _, task = job.partition("_")
    try:
        rows = fetch_jobs(0.0, time.time(), [int(number)])
    except SlurmError as error:
        return str(error)
    return next((row for row in reversed(rows) if job in (row.job, str(row.job_id)) or not task), None)


def _record(node: str, job_id: int) -> LaunchRecord | str | None:
    path = launch_record(node, job_id)
    try:
        return read_record(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{path}: {error.strerror}: its owner and root may read it"
    except GpushareError as error:
        return str(error)


def _run(job: str) -> dict | str | None:
    try:
        service = read_node_policy().service
        if service is None:
            return "the policy names no service: agent.service"
        runs = ask(service, "job", Selection(0.0, time.time(), jobs=parse_jobs(job))).data["runs"]
    except GpushareError as error:
        return str(error)
    return runs[-1] if runs else None


def _prolog_alloc() -> bool | None:
    try:
        text = run_slurm(["scontrol", "show", "config"], TIMEOUT)
    except SlurmError:
        return None
    line = next((line for line in text.splitlines() if line.startswith("PrologFlags")), "")
    return "alloc" in line.lower() or "x11" in line.lower() or "contain" in line.lower()
