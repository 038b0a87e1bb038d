"""Which of Slurm's ways tells the runs of jobs: pyslurm, `sacct` as a table, `sacct --json`. The rows are the same."""

from collections.abc import Callable, Iterable

from slurm_gpushare.slurm import pyslurm_jobs, sacct, sacct_json
from slurm_gpushare.slurm.command import SlurmError, run_slurm
from slurm_gpushare.slurm.sacct import JobRow

Fetch = Callable[[float, float, Iterable[int]], list[JobRow]]

WAYS = ("auto", "sacct", "sacct_json", "pyslurm")
_TIMEOUT = 10.0  # seconds


def version() -> str:
    """Return what `sacct -V` says, such as "slurm 25.11.2"; raises SlurmError."""
    return run_slurm(["sacct", "-V"], _TIMEOUT).strip()


def chosen(
    way: str,
    installed: Callable[[], str | None] = pyslurm_jobs.installed,
    version: Callable[[], str] = version,
    by_pyslurm: Fetch = pyslurm_jobs.fetch_jobs,
    by_sacct: Fetch = sacct.fetch_jobs,
) -> tuple[str, Fetch]:
    """Return the name of a way of WAYS, and how it asks; ``auto`` is pyslurm where it fits, else sacct.

    Raises
    ------
    SlurmError
        ``pyslurm`` was asked for, and is not installed or not of Slurm's version.
    """
    if way == "sacct":
        return way, by_sacct
    if way == "sacct_json":
        return way, sacct_json.fetch_jobs
    if installed() is None and way == "auto":
        return "sacct", by_sacct
    try:
        why = pyslurm_jobs.unfit(installed(), version())
    except SlurmError as error:
        why = str(error)
    if why is None:
        return ("pyslurm", by_pyslurm) if way == "pyslurm" else ("pyslurm", _either(by_pyslurm, by_sacct))
    if way == "auto":
        return "sacct", by_sacct
    raise SlurmError(f"service.slurm is pyslurm: {why}, or write auto")


def _either(first: Fetch, second: Fetch) -> Fetch:
    def fetch(start: float, end: float, jobs: Iterable[int] = ()) -> list[JobRow]:
        jobs = list(jobs)
        try:
            return first(start, end, jobs)
        except SlurmError:
            return second(start, end, jobs)

    return fetch
