"""Runs of jobs as `sacct --json` tells them: the same rows. Seen with data_parser v0.0.42 (24.11) and v0.0.45 (26.05).

JSON has no number of a user, which reports go by: it is looked up by name on this host, as slurmdbd does. A user whom
this host does not know any more has none.
"""

import json
import pwd
from collections.abc import Callable, Iterable, Mapping

from slurm_gpushare.slurm.command import SlurmError, run_slurm
from slurm_gpushare.slurm.jsondata import number, words
from slurm_gpushare.slurm.sacct import TIMEOUT, JobRow, lost_request, period, reason_of
from slurm_gpushare.slurm.tres import parse_tres

# What slurmdbd notes beside a state, and sacct shows instead of it.
_SHOWN_INSTEAD = ("REQUEUED", "RESIZING", "REVOKED")
_NO_VAL = 0xFFFFFFFE  # of 32 bits: "not known" in Slurm's own words


def uid_of(name: str) -> int | None:
    """Return the number of a user of this host, None where there is none of that name."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def sacct_json_argv(start: float, end: float, jobs: Iterable[int] = ()) -> list[str]:
    """Return the argv that asks for all runs between ``start`` and ``end``, or for all runs of ``jobs``."""
    return ["sacct", "-D", "-X", "-a", "--json", *period(start, end, jobs)]


def parse_sacct_json(text: str, uid_of: Callable[[str], int | None] = uid_of) -> list[JobRow]:
    """Read what `sacct --json` printed.

    Raises
    ------
    SlurmError
        It is no such text, or a job lacks what makes it one.
    """
    try:
        said = json.loads(text)
        jobs, errors = said["jobs"], said.get("errors") or []
        if errors:
            raise SlurmError(f"sacct --json: {errors[0].get('description') or errors[0]}")
        return [_row(job, uid_of) for job in jobs]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SlurmError(f"sacct --json: not readable: {type(error).__name__}: {error}") from None


def fetch_jobs(start: float, end: float, jobs: Iterable[int] = ()) -> list[JobRow]:
    """Ask `sacct --json` for all runs of the period (seconds since the epoch), or of ``jobs``; raises SlurmError."""
    return parse_sacct_json(run_slurm(sacct_json_argv(start, end, jobs), TIMEOUT))


def _row(job: Mapping, uid_of: Callable[[str], int | None]) -> JobRow:
    times, array, het = job["time"], job["array"], job["het"]
    alloc, asked = _tres(job["tres"]["allocated"]), _tres(job["tres"]["requested"])
    user = job["association"]["user"] or job["user"]
    array_id, het_id = number(array["job_id"]) or None, number(het["job_id"]) or None
    return JobRow(
        cluster=job["cluster"],
        job_id=job["job_id"],
        submit=_moment(times["submission"]),
        restart=number(job["restart_cnt"]) or 0,
        array_job_id=array_id,
        array_task_id=number(array["task_id"]) if array_id else None,
        start=_moment(times["start"]),
        end=_moment(times["end"]),
        elapsed_seconds=number(times["elapsed"]),
        user=user or None,
        uid=uid_of(user) if user else None,
        account=job["account"] or None,
        partition=job["partition"] or None,
        qos=job["qos"] or None,
        state=_state(words(job["state"]["current"])),
        exit_code=_exit_code(job["exit_code"]),
        # Of a run that has none yet sacct tells how many it asked for.
        nodes=number(job["allocation_nodes"]) or int(parse_tres(asked).get("node", 0)),
        nodelist=None if job["nodes"] in ("", "None assigned") else job["nodes"],
        alloc_tres=alloc,
        req_tres=asked,
        extra=job["extra"],
        reason=reason_of(job["comment"]["system"]),
        lost_request=lost_request(job["submit_line"], alloc, job["extra"]),
        het_job_id=het_id,
        het_offset=number(het["job_offset"]) if het_id else None,
    )


def _moment(value: object) -> int | None:
    """Return a time; 0 and Slurm's NO_VAL are those of what has not come yet."""
    moment = number(value)
    return moment if moment and moment < _NO_VAL else None


def _state(states: tuple[str, ...]) -> str:
    return next((state for state in _SHOWN_INSTEAD if state in states), states[0] if states else "")


def _exit_code(code: Mapping) -> str:
    return f"{number(code['return_code']) or 0}:{number(code['signal']['id']) or 0}"


def _tres(listed: Iterable[Mapping]) -> str:
    """Return a list of TRES as sacct writes it; a count below zero is one that is not known."""
    pairs = []
    for one in listed:
        count = number(one["count"])
        if count is not None and count >= 0:
            name = f"{one['type']}/{one['name']}" if one["name"] else one["type"]
            pairs.append(f"{name}={count}{'M' if name == 'mem' else ''}")
    return ",".join(sorted(pairs))
