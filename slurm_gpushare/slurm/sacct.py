"""Runs of jobs as `sacct` tells them: one row for each run, so that a requeued job has several."""

import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass

from slurm_gpushare.grant import looks_like_grant
from slurm_gpushare.slurm.command import SlurmError, run_slurm

TIMEOUT = 60.0  # seconds: slurmdbd may have to read a long period

# Extra stays empty until the run has ended (24.11.5): what a running job was given is asked of squeue.
FIELDS = (
    "Cluster",
    "JobIDRaw",
    "JobID",
    "Submit",
    "Restarts",
    "Start",
    "End",
    "ElapsedRaw",
    "User",
    "UID",
    "Account",
    "Partition",
    "QOS",
    "State",
    "ExitCode",
    "NNodes",
    "NodeList",
    "AllocTRES",
    "ReqTRES",
    "Extra",
    "SubmitLine",
    "SystemComment",
)
# What memory watcher and idle policy write into the system comment of a job (slurm_gpushare/watch/words.py).
_OURS = "gpushare: "
# A share, in the spelling that Slurm's clients from 23.11 on turn into no GPU at all.
_LOST = re.compile(r"--gpus-per-task[= ](?:[A-Za-z][\w.-]*:)?(?:[0-9]*\.[0-9]+|[0-9]+%|[0-9]+/[0-9]+)(?= |$)")
_ARRAY = re.compile(r"([0-9]+)_(?:([0-9]+)|\[.*\])")
_HET = re.compile(r"([0-9]+)\+([0-9]+)")  # a component of a heterogeneous job


@dataclass(frozen=True)
class JobRow:
    """One run of a job. Times are whole seconds since the epoch; None is what Slurm does not know (yet)."""

    cluster: str
    job_id: int  # Slurm's raw id: every task of an array has one of its own
    submit: int  # of this run: a requeue submits anew
    restart: int  # 0 for the first run
    array_job_id: int | None
    array_task_id: int | None
    start: int | None
    end: int | None
    elapsed_seconds: int | None  # without the time in which the job was suspended
    user: str | None
    uid: int | None
    account: str | None
    partition: str | None
    qos: str | None
    state: str  # one word: "CANCELLED by 1001" is CANCELLED
    exit_code: str | None
    nodes: int
    nodelist: str | None
    alloc_tres: str  # "" until the job has resources
    req_tres: str
    extra: str
    reason: str | None = None  # what we did to the run, and why, where we did: warned, ended or requeued it
    lost_request: str | None = None  # what the client lost: the job asked for it, and ran without a GPU
    het_job_id: int | None = None  # of a component of a heterogeneous job: that of the first, which Slurm writes as ...
    het_offset: int | None = None  # ... het_job_id+het_offset

    @property
    def key(self) -> tuple[str, int, int, int]:
        """What makes a run unique."""
        return (self.cluster, self.job_id, self.submit, self.restart)

    @property
    def job(self) -> str:
        """The job as Slurm writes it: 12, 11_2 for task 2 of array 11, 11+1 for a part of heterogeneous job 11."""
        if self.array_task_id is not None:
            return f"{self.array_job_id}_{self.array_task_id}"
        return str(self.job_id) if self.het_job_id is None else f"{self.het_job_id}+{self.het_offset}"


def sacct_argv(start: float, end: float, delimiter: str, jobs: Iterable[int] = ()) -> list[str]:
    """Return the argv that asks for all runs between ``start`` and ``end``, or for all runs of ``jobs``."""
    return ["sacct", "-D", "-X", "-a", "-p", "--noheader", "--noconvert", f"--delimiter={delimiter}"] + [
        "--format=" + ",".join(FIELDS),
        *period(start, end, jobs),
    ]


def period(start: float, end: float, jobs: Iterable[int]) -> list[str]:
    """Return sacct's options for a time, or for ``jobs``; times in UTC, the time zone that the command is run in."""
    chosen = ",".join(str(int(job)) for job in jobs)
    return ["-j", chosen] if chosen else ["-S", _utc(start), "-E", _utc(end)]


def reason_of(comment: str) -> str | None:
    """Return what we did to a run, and why, from its system comment; None where that is none of ours."""
    return comment.removeprefix(_OURS) if comment.startswith(_OURS) else None


def lost_request(submit_line: str, alloc_tres: str, extra: str) -> str | None:
    """Return the share that a client without cli_filter lost, None where none was.

    Only what stands on the command line can be found, not what an #SBATCH line asked for; nothing else of the line is
    kept, since it may hold secrets.
    """
    found = _LOST.search(submit_line)
    return found[0] if found and "gres/" not in alloc_tres and not looks_like_grant(extra) else None


def parse_sacct(text: str, delimiter: str) -> list[JobRow]:
    """Read what `sacct -p --noheader` printed: each field is followed by ``delimiter``, each row by a line end.

    A row is counted by its fields, not by lines: Extra may hold line ends.

    Raises
    ------
    SlurmError
        The number of fields does not fit, or a number is none.
    """
    fields = text.split(delimiter)
    if fields.pop().strip("\n") or len(fields) % len(FIELDS):
        raise SlurmError(f"sacct: {len(fields)} fields are not rows of {len(FIELDS)}: is this sacct older than 21.08?")
    return [_row(fields[at : at + len(FIELDS)]) for at in range(0, len(fields), len(FIELDS))]


def fetch_jobs(start: float, end: float, jobs: Iterable[int] = ()) -> list[JobRow]:
    """Ask sacct for all runs of the period (seconds since the epoch), or of ``jobs``; raises SlurmError."""
    # A user chooses the bytes of Extra. A delimiter that nobody can guess keeps a text from posing as a row.
    delimiter = f"\x1f{secrets.token_hex(8)}\x1f"
    return parse_sacct(run_slurm(sacct_argv(start, end, delimiter, jobs), TIMEOUT), delimiter)


def _row(values: list[str]) -> JobRow:
    field = dict(zip(FIELDS, values, strict=True))
    field["Cluster"] = field["Cluster"].lstrip("\n")
    array, het = _ARRAY.fullmatch(field["JobID"]), _HET.fullmatch(field["JobID"])
    try:
        return JobRow(
            cluster=field["Cluster"],
            job_id=int(field["JobIDRaw"]),
            submit=int(field["Submit"]),
            restart=int(field["Restarts"] or 0),
            array_job_id=int(array[1]) if array else None,
            array_task_id=int(array[2]) if array and array[2] else None,
            start=_number(field["Start"]),
            end=_number(field["End"]),
            elapsed_seconds=_number(field["ElapsedRaw"]),
            user=field["User"] or None,
            uid=_number(field["UID"]),
            account=field["Account"] or None,
            partition=field["Partition"] or None,
            qos=field["QOS"] or None,
            state=(field["State"].split() or [""])[0],
            exit_code=field["ExitCode"] or None,
            nodes=_number(field["NNodes"]) or 0,
            nodelist=None if field["NodeList"] in ("", "None assigned") else field["NodeList"],
            alloc_tres=field["AllocTRES"],
            req_tres=field["ReqTRES"],
            extra=field["Extra"],
            reason=reason_of(field["SystemComment"]),
            lost_request=lost_request(field["SubmitLine"], field["AllocTRES"], field["Extra"]),
            het_job_id=int(het[1]) if het else None,
            het_offset=int(het[2]) if het else None,
        )
    except ValueError as error:
        raise SlurmError(f"sacct: job {field['JobIDRaw']!r}: {error}") from None


def _number(text: str) -> int | None:
    """Return a number; None for Unknown, None, INVALID and all that Slurm writes where it has none."""
    return int(text) if text.isascii() and text.isdigit() else None


def _utc(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(max(0, int(moment))))
