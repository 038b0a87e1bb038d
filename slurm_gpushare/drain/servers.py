"""A pool's server out of service: a reservation of all its licences, in which no job can run but root's.

Seen on Slurm 24.11.5 and 26.05.5: a reservation of licences alone needs ``Flags=ANY_NODES``; it is made at once also
while jobs hold the licences, which keep them; other jobs wait for what is reserved (Reason=Licenses), and a choice of
licences (first_fit) takes another. The flag IGNORE_JOBS changes nothing of it. ``Duration=infinite`` is a year.
"""

import re
from collections.abc import Iterable
from dataclasses import replace

from slurm_gpushare.drain.hold import Hold, read_comment
from slurm_gpushare.errors import RefusedError, RequestError
from slurm_gpushare.slurm.command import SlurmError, run_slurm
from slurm_gpushare.slurm.licences import Licence
from slurm_gpushare.status.jobs import HeldJob

TIMEOUT = 30.0  # seconds
PREFIX = "gpushare-drain-"

_LICENCE = re.compile(r"gpu[0-9]{1,4}@(.+)")
_RESERVATION = re.compile(r"ReservationName=(\S+) .*?\bComment=(.*)")
_FORBIDDEN = ("Invalid user id", "Access/permission denied")


def licences_of(server: str, licences: Iterable[Licence]) -> dict[str, int]:
    """Return the licences of a server's GPUs with their counts; raises RequestError where Slurm has none of it."""
    found: dict[str, dict[str, int]] = {}
    for licence in licences:
        if match := _LICENCE.fullmatch(licence.name):
            found.setdefault(match[1], {})[licence.name] = licence.total
    if server in found:
        return found[server]
    known = ", ".join(sorted(found)) or "none"
    raise RequestError(
        f"{server}: Slurm has no licences gpuN@{server} (servers that it has licences of: {known}): write the name of "
        "one of these, or NODE:GPU; with placement flat Slurm cannot keep jobs from a server: stop the server, then "
        "`gpushare pool sync`"
    )


def parse_holds(text: str) -> dict[str, Hold]:
    """Read `scontrol -o show reservation`: the servers that are out of service, by name."""
    found = {}
    for line in text.splitlines():
        match = _RESERVATION.fullmatch(line.rstrip())
        if match and match[1].startswith(PREFIX):
            hold = read_comment(match[2], "server", f"reservation {match[1]}")
            if hold is not None and match[1] == PREFIX + hold.target:
                found[hold.target] = hold
    return found


def fetch_holds() -> dict[str, Hold]:
    """Ask slurmctld for the servers that are out of service; raises SlurmError."""
    return parse_holds(run_slurm(["scontrol", "-o", "show", "reservation"], TIMEOUT))


def with_jobs(hold: Hold, jobs: Iterable[HeldJob]) -> Hold:
    """Return the hold with the jobs that have licences of the server."""
    here = (job.job_id for job in jobs if any(name.endswith(f"@{hold.target}") for name in job.licences))
    return replace(hold, jobs=tuple(sorted(here)))


def drain(server: str, licences: dict[str, int], comment: str) -> str:
    """Keep all licences of the server from jobs; return the reservation's name.

    Raises
    ------
    RefusedError
        Slurm does not let this user make reservations.
    SlurmError
        It failed otherwise, such as where another reservation has some of the licences.
    """
    listed = ",".join(f"{name}:{count}" for name, count in licences.items())
    when = ("starttime=now", "duration=infinite")
    argv = ["scontrol", "create", "reservation", f"reservationname={PREFIX}{server}", f"licenses={listed}", *when]
    _change([*argv, "users=root", "flags=ANY_NODES", f"comment={comment}"])
    return PREFIX + server


def resume(server: str) -> None:
    """Give the licences back to jobs; raises as ``drain``."""
    _change(["scontrol", "delete", f"reservationname={PREFIX}{server}"])


def _change(argv: list[str]) -> None:
    try:
        run_slurm(argv, TIMEOUT)
    except SlurmError as error:
        if any(words in str(error) for words in _FORBIDDEN):
            raise RefusedError("only root, SlurmUser and Slurm's operators take servers out of service") from None
        raise
