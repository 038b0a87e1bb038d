"""The jobs that hold licences of a pool, or wait for them, as `squeue --json` tells them."""

from collections.abc import Set
from dataclasses import dataclass

from slurm_gpushare.errors import GpushareError
from slurm_gpushare.grant import decode_grant, looks_like_grant
from slurm_gpushare.slurm.command import SlurmError, run_slurm
from slurm_gpushare.slurm.jsondata import number, read_list, words
from slurm_gpushare.slurm.licences import parse_choices

TIMEOUT = 30.0  # seconds
HOLDING = ("RUNNING", "SUSPENDED", "COMPLETING")
STATES = ",".join(("PENDING", *HOLDING))


@dataclass(frozen=True)
class PoolJob:
    """One job that has to do with the pool."""

    job_id: int
    user: str
    state: str
    request: str | None  # what the user wrote; None: it has no grant
    since: int | None  # seconds since the epoch
    held: dict[str, int]  # licence → how many it holds now
    choices: tuple[dict[str, int], ...] = ()  # of a job that waits: any one of these will do


def parse_jobs(text: str, licences: Set[str], backend: str) -> dict[int, PoolJob]:
    """Return, by number, the jobs of `squeue --json` that have a grant of ``backend`` or name one of ``licences``.

    Raises SlurmError when it is not that.
    """
    jobs = (job for job in read_list(text, "jobs", lambda data: _job(data, licences, backend), "squeue --json") if job)
    return {job.job_id: job for job in jobs}


def fetch_jobs(licences: Set[str], backend: str) -> dict[int, PoolJob]:
    """Ask squeue for the jobs that hold something of the pool or wait for it; raises SlurmError."""
    return parse_jobs(run_slurm(["squeue", "--json", "--all", f"--states={STATES}"], TIMEOUT), licences, backend)


def fetch_active() -> set[int]:
    """Ask squeue for the numbers of all jobs that have not ended, epilog included; raises SlurmError."""
    text = run_slurm(["squeue", "--noheader", "--all", "--array", f"--states={STATES}", "--format=%A"], TIMEOUT)
    try:
        return {int(line) for line in text.split()}
    except ValueError as error:
        raise SlurmError(f"squeue: {error}") from None


def _job(data: dict, licences: Set[str], backend: str) -> PoolJob | None:
    extra = data.get("extra")
    grant = None
    try:
        grant = decode_grant(extra) if isinstance(extra, str) and looks_like_grant(extra) else None
    except GpushareError:
        pass  # of another version: its licences can still be told
    choices = parse_choices(data.get("licenses") or "")
    if (grant is None or grant.backend != backend) and not any(licences & choice.keys() for choice in choices):
        return None
    states = words(data.get("job_state")) or ("",)
    holds = not set(HOLDING).isdisjoint(states)
    # Of several choices only this says which it was; older versions know no choices and have no such field.
    given = parse_choices(data.get("licenses_allocated") or "") or choices
    held = given if holds and len(given) == 1 else ()
    return PoolJob(
        job_id=int(data["job_id"]),
        user=str(data.get("user_name") or ""),
        state=states[0],
        request=None if grant is None else grant.request,
        since=(number(data.get("start_time")) or None) if holds else None,
        held=_of_pool(held[0], licences) if held else {},
        choices=() if holds else tuple(_of_pool(choice, licences) for choice in choices),
    )


def _of_pool(counts: dict[str, int], licences: Set[str]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if name in licences}
