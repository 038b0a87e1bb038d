"""Ended runs as the summary of a job needs them: what was allocated, what CPUs and memory were used, AdminComment."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace

from slurm_gpushare.slurm.command import SlurmError, run_slurm
from slurm_gpushare.slurm.tres import gres_count, parse_tres

TIMEOUT = 60.0  # seconds

FIELDS = (
    "Cluster",
    "JobIDRaw",
    "JobID",
    "Submit",
    "Restarts",
    "Start",
    "End",
    "NNodes",
    "NodeList",
    "AllocTRES",
    "TotalCPU",
    "TRESUsageInTot",
    "AdminComment",
)
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4, "P": 1024**5}


@dataclass(frozen=True)
class EndedRun:
    """One run of a job, ended or not. Times are seconds since the epoch; None is what Slurm does not know."""

    cluster: str
    job_id: int  # Slurm's raw id
    name: str  # what sacctmgr calls this job alone: 12, or 12_3 for a task of an array
    submit: int
    restart: int
    start: int | None
    end: int | None
    nodes: int
    nodelist: str
    cpus: int
    gpus: int  # whole ones and parts that are GPUs to Slurm
    memory_bytes: int | None  # allocated
    cpu_seconds: float | None
    memory_used_bytes: int | None  # the largest that one step used, on all nodes together
    admin_comment: str

    @property
    def key(self) -> tuple[str, int, int, int]:
        """What makes a run unique."""
        return (self.cluster, self.job_id, self.submit, self.restart)


def sacct_argv(cluster: str, jobs: Iterable[int], delimiter: str) -> list[str]:
    """Return the argv that asks for all runs of ``jobs`` with their steps."""
    chosen = ",".join(str(int(job)) for job in jobs)
    return ["sacct", "-D", "-a", "-p", "--noheader", "--noconvert", f"--delimiter={delimiter}", f"-M{cluster}"] + [
        "--format=" + ",".join(FIELDS),
        "-j",
        chosen,
    ]


def parse_ended(text: str, delimiter: str) -> list[EndedRun]:
    """Read what ``sacct_argv`` printed: a row of each run, and behind it one of each of its steps.

    Raises
    ------
    SlurmError
        The number of fields does not fit, or a number is none.
    """
    fields = text.split(delimiter)
    if fields.pop().strip("\n") or len(fields) % len(FIELDS):
        raise SlurmError(f"sacct: {len(fields)} fields are not rows of {len(FIELDS)}")
    runs: list[EndedRun] = []
    for at in range(0, len(fields), len(FIELDS)):
        row = dict(zip(FIELDS, fields[at : at + len(FIELDS)], strict=True))
        row["Cluster"] = row["Cluster"].lstrip("\n")
        job, _, step = row["JobIDRaw"].partition(".")
        try:
            if not step:
                runs.append(_run(row))
            elif runs and runs[-1].job_id == int(job):
                runs[-1] = _with_step(runs[-1], row["TRESUsageInTot"])
        except ValueError as error:
            raise SlurmError(f"sacct: job {row['JobIDRaw']!r}: {error}") from None
    # Where nothing gathers accounting, Slurm prints 00:00:00 for a time that it does not know.
    return [run if run.memory_used_bytes is not None else replace(run, cpu_seconds=None) for run in runs]


def fetch_ended(cluster: str, jobs: Iterable[int]) -> list[EndedRun]:
    """Ask sacct for all runs of ``jobs`` with their steps; raises SlurmError."""
    # A delimiter that nobody can guess keeps a text from posing as a row.
    delimiter = f"\x1f{secrets.token_hex(8)}\x1f"
    return parse_ended(run_slurm(sacct_argv(cluster, jobs, delimiter), TIMEOUT), delimiter)


def node_names(nodelist: str) -> list[str]:
    """Return the nodes of a list such as ``n[1-3],m7``, of which scontrol knows the grammar; raises SlurmError."""
    if "[" not in nodelist and "," not in nodelist:
        return [nodelist] if nodelist else []
    return run_slurm(["scontrol", "show", "hostnames", nodelist], TIMEOUT).split()


def parse_size(text: str) -> int:
    """Return the bytes of an amount such as ``500M`` or ``1234``; raises ValueError."""
    unit = text[-1:].upper() if text[-1:].isalpha() else ""
    if unit not in _UNITS:
        raise ValueError(f"{text!r} is no amount of memory")
    return round(float(text[: len(text) - len(unit)]) * _UNITS[unit])


def parse_cpu_time(text: str) -> float:
    """Return the seconds of a time such as ``1-02:03:04``, ``02:03:04`` or ``03:04.567``; raises ValueError."""
    days, dash, clock = text.rpartition("-")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds + (int(days) * 86400 if dash else 0)


def _run(row: dict[str, str]) -> EndedRun:
    tres = parse_tres(row["AllocTRES"])
    whole = row["JobID"]
    return EndedRun(
        cluster=row["Cluster"],
        job_id=int(row["JobIDRaw"]),
        name=whole if "_" in whole and "[" not in whole else row["JobIDRaw"],
        submit=int(row["Submit"]),
        restart=int(row["Restarts"] or 0),
        start=_number(row["Start"]),
        end=_number(row["End"]),
        nodes=_number(row["NNodes"]) or 0,
        nodelist="" if row["NodeList"] == "None assigned" else row["NodeList"],
        cpus=_number(tres.get("cpu", "")) or 0,
        gpus=gres_count(tres, "gpu"),
        memory_bytes=parse_size(tres["mem"]) if "mem" in tres else None,
        cpu_seconds=parse_cpu_time(row["TotalCPU"]) if row["TotalCPU"] else None,
        memory_used_bytes=None,
        admin_comment=row["AdminComment"],
    )


def _with_step(run: EndedRun, usage: str) -> EndedRun:
    used = parse_tres(usage).get("mem")
    if not used:
        return run
    return replace(run, memory_used_bytes=max(run.memory_used_bytes or 0, parse_size(used)))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None
