"""Which runs a report is about: the type, and its form in a URL's query. Standard library only: the client reads it."""

import math
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

from slurm_gpushare.errors import RequestError

_JOB = re.compile(r"([0-9]{1,18})(?:([_+])([0-9]{1,18}))?")
_LISTS = {"user": "users", "account": "accounts", "partition": "partitions", "state": "states"}
_KEYS = {"start", "end", "job", *_LISTS}
# Slurm's states of jobs that have or had resources, by their short names (sacct(1), JOB STATE CODES).
STATES = {
    "BF": "BOOT_FAIL",
    "CA": "CANCELLED",
    "CD": "COMPLETED",
    "DL": "DEADLINE",
    "F": "FAILED",
    "NF": "NODE_FAIL",
    "OOM": "OUT_OF_MEMORY",
    "PR": "PREEMPTED",
    "R": "RUNNING",
    "RQ": "REQUEUED",
    "S": "SUSPENDED",
    "TO": "TIMEOUT",
}
_LATEST = 2**40  # seconds since the epoch: beyond it no database of ours counts microseconds


@dataclass(frozen=True)
class JobRef:
    """A job as users write it: 12 (also all of an array), 12_3 (a task of it) or 12+1 (part of a heterogeneous job)."""

    job_id: int
    task_id: int | None = None
    het_offset: int | None = None

    def __str__(self) -> str:
        """Return it as users write it."""
        if self.task_id is not None:
            return f"{self.job_id}_{self.task_id}"
        return str(self.job_id) if self.het_offset is None else f"{self.job_id}+{self.het_offset}"


@dataclass(frozen=True)
class Selection:
    """Which runs: those that held resources in [start, end] (seconds since the epoch), and whose. None is no limit."""

    start: float
    end: float
    uid: int | None = None  # set by the service from who asks, never from the query
    users: tuple[str, ...] | None = None
    jobs: tuple[JobRef, ...] | None = None
    accounts: tuple[str, ...] | None = None
    partitions: tuple[str, ...] | None = None
    states: tuple[str, ...] | None = None
    # Set by the service beside uid: the runs of these accounts are seen too, whoever's they are.
    accounts_seen: tuple[str, ...] | None = None

    def sees(self, uid: int | None, account: str | None) -> bool:
        """Tell whether who asks may see a run of that user and account."""
        return self.uid is None or uid == self.uid or (account is not None and account in (self.accounts_seen or ()))

    def takes(self, run: object) -> bool:
        """Tell whether an object with a run's account, partition and state is of those asked for."""
        wanted = ((self.accounts, run.account), (self.partitions, run.partition), (self.states, run.state))
        return all(names is None or value in names for names, value in wanted)


def parse_jobs(text: str) -> tuple[JobRef, ...]:
    """Return the jobs of a list such as ``12,13_4``; raises RequestError, which names what is no job."""
    refs = []
    for word in text.split(","):
        match = _JOB.fullmatch(word.strip())
        if match is None:
            raise RequestError(
                f"job {word.strip()!r} is no job's number: write 12, 12_3 for one task of an array, or 12+1 for one "
                "part of a heterogeneous job"
            )
        number, kind, part = match.groups()
        refs.append(JobRef(int(number), *({"_": (int(part),), "+": (None, int(part))}[kind] if kind else ())))
    return tuple(refs)


def parse_names(text: str, what: str) -> tuple[str, ...]:
    """Return the names of a list such as ``alice,bob``; raises RequestError when one is empty."""
    names = tuple(word.strip() for word in text.split(","))
    if not all(names):
        raise RequestError(f"{what} {text!r} is not the name of one, or several with a comma between")
    return names


def parse_users(text: str) -> tuple[str, ...]:
    """Return the users of a list."""
    return parse_names(text, "user")


def parse_accounts(text: str) -> tuple[str, ...]:
    """Return the accounts of a list."""
    return parse_names(text, "account")


def parse_partitions(text: str) -> tuple[str, ...]:
    """Return the partitions of a list."""
    return parse_names(text, "partition")


def parse_states(text: str) -> tuple[str, ...]:
    """Return the states of a list such as ``failed,TO``, as Slurm writes them; raises RequestError for others."""
    states = tuple(STATES.get(name.upper(), name.upper()) for name in parse_names(text, "state"))
    for name in states:
        if name not in STATES.values():
            raise RequestError(f"state {name!r} is none of a job that had a GPU: write {', '.join(STATES.values())}")
    return states


def to_query(selection: Selection) -> str:
    """Return ``selection``, without its uid, as a URL's query."""
    pairs = [("start", repr(float(selection.start))), ("end", repr(float(selection.end)))]
    for key, name in _LISTS.items():
        names = getattr(selection, name)
        if names is not None:
            pairs.append((key, ",".join(names)))
    if selection.jobs is not None:
        pairs.append(("job", ",".join(map(str, selection.jobs))))
    return urllib.parse.urlencode(pairs)


def from_query(query: Mapping[str, str]) -> Selection:
    """Read a URL's query; raises RequestError, which names what is missing, unknown or out of range."""
    if unknown := sorted(set(query) - _KEYS):
        raise RequestError(f"{unknown[0]!r} is not known here: write {', '.join(sorted(_KEYS))}")
    start, end = _moment(query, "start"), _moment(query, "end")
    if end < start:
        raise RequestError(f"end {query['end']} lies before start {query['start']}: write the earlier time as start")
    return Selection(
        start,
        end,
        jobs=parse_jobs(query["job"]) if "job" in query else None,
        **{name: _PARSERS[name](query[key]) for key, name in _LISTS.items() if key in query},
    )


def _moment(query: Mapping[str, str], name: str) -> float:
    try:
        value = float(query[name])
    except (KeyError, ValueError):
        value = math.nan
    if not 0 <= value <= _LATEST:
        raise RequestError(f"{name} is {query.get(name)!r}: write seconds since the epoch")
    return value


_PARSERS = {
    "users": parse_users,
    "accounts": parse_accounts,
    "partitions": parse_partitions,
    "states": parse_states,
}
