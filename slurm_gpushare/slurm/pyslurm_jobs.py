"""Runs of jobs by pyslurm's ``db`` interface, as documented for pyslurm 25.11: the same rows as sacct's.

pyslurm is loaded in a process of its own (``python -m slurm_gpushare.slurm.pyslurm_jobs``): libslurm ends the process
where it has no configuration, and nothing else bounds its time. What its interface does not tell is asked of sacct:

- of several runs of a requeued job it has the last one alone;
- text that is not UTF-8 cannot be read; a user whom this host does not know has a number for a name.
"""

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib import metadata
from types import ModuleType

from slurm_gpushare.slurm import sacct
from slurm_gpushare.slurm.command import SlurmError, run_slurm
from slurm_gpushare.slurm.sacct import TIMEOUT, JobRow, lost_request, reason_of

CHILD = (sys.executable, "-I", "-m", "slurm_gpushare.slurm.pyslurm_jobs")
_AT_ONCE = 500  # jobs in one question to sacct
_BUILT_IN = ("billing", "cpu", "energy", "mem", "node", "pages", "vmem")
_GROUPS = ("fs", "gres", "interconnect", "license", "other")


def installed() -> str | None:
    """Return the version of the pyslurm that is installed beside this package, without loading it; None for none."""
    try:
        return metadata.version("pyslurm")
    except metadata.PackageNotFoundError:
        return None


def unfit(pyslurm: str | None, slurm: str) -> str | None:
    """Return why a pyslurm of that version cannot be used with what `sacct -V` says; None where it can."""
    if pyslurm is None:
        return "pyslurm is not installed: install it beside gpushare"
    wanted = ".".join(slurm.split()[-1].split(".")[:2]) if slurm.split() else ""
    if pyslurm.split(".")[:2] != wanted.split("."):
        return f"pyslurm {pyslurm} is not of Slurm {wanted}: install pyslurm {wanted}"
    return None


def fetch_jobs(
    start: float,
    end: float,
    jobs: Iterable[int] = (),
    child: Iterable[str] = CHILD,
    fetch: Callable[[float, float, Iterable[int]], list[JobRow]] = sacct.fetch_jobs,
) -> list[JobRow]:
    """Ask slurmdbd for all runs of the period (seconds since the epoch), or of ``jobs``; raises SlurmError."""
    argv = [*child, str(int(start)), str(int(end)), *(str(int(job)) for job in jobs)]
    try:
        said = json.loads(run_slurm(argv, TIMEOUT))
        rows = [JobRow(**row) for row in said["rows"]]
        left = sorted(map(int, said["ask"]))
    except (ValueError, KeyError, TypeError) as error:
        raise SlurmError(f"pyslurm: not readable: {error}") from None
    for at in range(0, len(left), _AT_ONCE):
        rows += fetch(start, end, left[at : at + _AT_ONCE])
    return list({row.key: row for row in rows}.values())


def told(pyslurm: ModuleType, start: int, end: int, jobs: list[int]) -> tuple[list[JobRow], list[int]]:
    """Return the runs that ``pyslurm`` tells whole, and the jobs that sacct must be asked about."""
    chosen = {"ids": jobs} if jobs else {"start_time": start, "end_time": end}
    rows, left = [], []
    for job in pyslurm.db.Jobs.load(pyslurm.db.JobFilter(**chosen)).values():
        try:
            row = _row(job)
        except UnicodeDecodeError:
            row = None
        (left if row is None else rows).append(job.id if row is None else row)
    return rows, left


def _row(job: object) -> JobRow | None:
    user, uid = job.user_name, job.user_id
    if job.requeue_count or user == str(uid):
        return None
    alloc, extra, array_id, het_id = _tres(job.allocated_tres), job.extra or "", job.array_id, job.heterogeneous_id
    nodes = next((tres.node.count for tres in (job.allocated_tres, job.requested_tres) if tres and tres.node), 0)
    # pyslurm reads 0 as nothing: task 0 is one without a number that waits for no tasks.
    task_id = job.array_task_id
    if array_id is not None and task_id is None and not job.array_tasks_waiting:
        task_id = 0
    return JobRow(
        cluster=job.cluster,
        job_id=job.id,
        submit=job.submit_time,
        restart=0,
        array_job_id=array_id,
        array_task_id=task_id,
        start=job.start_time,
        end=job.end_time,
        elapsed_seconds=job.elapsed_time or 0,
        user=user,
        uid=uid,
        account=job.account,
        partition=job.partition,
        qos=job.qos,
        state=(job.state.split() or [""])[0],
        exit_code=f"{job.exit_code}:{job.exit_code_signal}",
        nodes=nodes,
        nodelist=None if job.nodelist in (None, "", "None assigned") else job.nodelist,
        alloc_tres=alloc,
        req_tres=_tres(job.requested_tres),
        extra=extra,
        reason=reason_of(job.system_comment or ""),
        lost_request=lost_request(job.submit_command or "", alloc, extra),
        het_job_id=het_id,
        het_offset=None if het_id is None else job.heterogeneous_offset or 0,
    )


def _tres(tres: object) -> str:
    """Return TRES as sacct writes them."""
    if tres is None:
        return ""
    found = [each for each in (getattr(tres, name) for name in _BUILT_IN) if each is not None]
    found += [each for name in _GROUPS for each in getattr(tres, name).values()]
    counts = {each.type_and_name: each.count for each in found if 0 <= each.count < 1 << 63}  # beyond: not known
    return ",".join(f"{name}={count}{'M' if name == 'mem' else ''}" for name, count in sorted(counts.items()))


def main(arguments: list[str], load: Callable[[], ModuleType] = lambda: importlib.import_module("pyslurm")) -> None:
    """Print ``{"rows": [object of JobRow, …], "ask": [job, …]}`` for the arguments START END [JOB …]."""
    start, end, *jobs = map(int, arguments)
    with contextlib.redirect_stdout(sys.stderr):  # pyslurm prints TRES that it does not know
        try:
            pyslurm = load()
            rows, left = told(pyslurm, start, end, jobs)
        except Exception as error:
            sys.exit(f"pyslurm: {type(error).__name__}: {error}")
    json.dump({"rows": [asdict(row) for row in rows], "ask": left}, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # what libslurm does at the end of a process is of no use here, and can fail


if __name__ == "__main__":
    main(sys.argv[1:])
