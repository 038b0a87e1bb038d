"""Slurm's limits: the reasons that name one (QOSMaxGRESPerUser, AssocGrpGRES ...), and what sacctmgr says it is."""

import re
from dataclasses import dataclass

from slurm_gpushare.slurm.command import run_slurm
from slurm_gpushare.slurm.tres import parse_tres

TIMEOUT = 10.0  # seconds

# Of all reasons that slurmctld 24.11 and 26.05 know, those that name a limit match.
_REASON = re.compile(
    "(?P<of>QOS|Assoc)?(?P<kind>Grp|Max|Min)"
    "(?P<what>GRES|License|Cpu|CPU|Mem|Memory|Node|Jobs?|SubmitJobs?|Wall(?:Duration)?|Billing|BB|Energy|Unknown)"
    "(?P<time>(?:Run)?(?:Minutes|Mins))?(?:Per(?P<per>User|Account|Job|Node))?(?:Limit|NotSatisfied)?"
)
_WITHOUT_PREFIX = re.compile("Max[A-Za-z]+PerAccount|Max[A-Za-z]+RunMinsPer(?:Account|User)")  # the QOS's
_OTHERS = re.compile("(?P<of>QOS|Association)(?P<what>Job|Resource|Time)Limit")
_WHAT = {
    "GRES": "shares of GPUs",
    "License": "shares of the pool",
    "Cpu": "processors",
    "CPU": "processors",
    "Mem": "memory",
    "Memory": "memory",
    "Node": "nodes",
    "Job": "jobs",
    "Jobs": "jobs",
    "SubmitJob": "waiting and running jobs",
    "SubmitJobs": "waiting and running jobs",
    "Wall": "run time",
    "WallDuration": "run time",
    "BB": "burst buffers",
    "Billing": "billed resources",
    "Energy": "energy",
    "Resource": "resources",
    "Time": "run time",
}


@dataclass(frozen=True)
class Limit:
    """What a limit's reason says."""

    of: str  # "qos" | "account": whose limit
    per: str  # "user" | "account" | "job" | "node" | "group": what is counted together
    tres: str | None  # "GRES" | "License", None for all else
    per_minute: bool  # time is counted, not how much at once
    least: bool  # asked for too little
    what: str = ""  # in the user's words

    @property
    def of_one_job(self) -> bool:
        """Whether the job itself is over the limit, so that no other job's end helps."""
        return self.least or self.per in ("job", "node")


def parse_limit(reason: str) -> Limit | None:
    """Return what ``reason`` says, None when it is not that of a limit.

    Names as in slurm.h's ``job_state_reason``: QOSMaxGRESPerUser, MaxGRESPerAccount, AssocGrpGRESRunMinutes.
    """
    if others := _OTHERS.fullmatch(reason):
        of = "qos" if others["of"] == "QOS" else "account"
        return Limit(of, "job" if others["what"] == "Time" else "user", None, False, False, _WHAT[others["what"]])
    match = _REASON.fullmatch(reason)
    if match is None or not (match["of"] or _WITHOUT_PREFIX.fullmatch(reason)):
        return None
    least, word = match["kind"] == "Min", match["what"]
    if match["kind"] == "Grp":
        per = "group"
    elif match["per"]:
        per = match["per"].lower()
    else:
        per = "job" if least else "user"
    return Limit(
        of="account" if match["of"] == "Assoc" else "qos",
        per=per,
        tres=word if word in ("GRES", "License") else None,
        per_minute=bool(match["time"]),
        least=least,
        what=_WHAT.get(word, "resources"),
    )


def limit_argv(limit: Limit, qos: str, account: str) -> list[str]:
    """Return the argv that asks sacctmgr for the limits of that QOS, or of that account and its users."""
    if limit.of == "qos":
        return ["sacctmgr", "-nP", "show", "qos", "where", f"name={qos}", f"format=Name,{_column(limit)}"]
    return ["sacctmgr", "-nP", "show", "assoc", "where", f"account={account}", f"format=User,{_column(limit)}"]


def _column(limit: Limit) -> str:
    columns = {
        "group": "GrpTRES",
        "job": "MaxTRES",
        "node": "MaxTRESPerNode",
        "user": "MaxTRESPU",
        "account": "MaxTRESPA",
    }
    return columns[limit.per]


def parse_limit_value(text: str, limit: Limit, user: str) -> dict[str, int]:
    """Read what :func:`limit_argv` printed; return what the limit allows, of GPUs and licences, by TRES.

    >>> parse_limit_value("normal|cpu=9,gres/shard=50", Limit("qos", "user", "GRES", False, False), "alice")
    {'gres/shard': 50}
    """
    prefix = "license/" if limit.tres == "License" else "gres/"
    found: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition("|")
        if limit.of == "qos" or name in ("", user):
            for tres, amount in parse_tres(value).items():
                if tres.startswith(prefix) and amount.isascii() and amount.isdigit():
                    found[tres] = min(int(amount), found.get(tres, int(amount)))
    return found


def fetch_limit_value(limit: Limit, qos: str, account: str, user: str) -> dict[str, int]:
    """Ask sacctmgr what the limit is; empty where it does not say. Raises SlurmError."""
    if limit.per_minute or limit.tres is None:
        return {}
    return parse_limit_value(run_slurm(limit_argv(limit, qos, account), TIMEOUT), limit, user)
