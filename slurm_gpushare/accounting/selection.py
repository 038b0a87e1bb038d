"""Which runs a report is about: the type, and its form in a URL's query. Standard library only: the client reads it."""

import math
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

from slurm_gpushare.errors import RequestError

_JOB = re.compile(r"([0-9]{1,18})(?:_([0-9]{1,18}))?")
_KEYS = {"start", "end", "user", "job"}
_LATEST = 2**40  # seconds since the epoch: beyond it no database of ours counts microseconds


@dataclass(frozen=True)
class JobRef:
    """A job as users write it: 12 (also an array's id) or 12_3 (one task of an array)."""

    job_id: int
    task_id: int | None = None


@dataclass(frozen=True)
class Selection:
    """Which runs: those that held resources in [start, end] (seconds since the epoch), and whose. None is no limit."""

    start: float
    end: float
    uid: int | None = None  # set by the service from who asks, never from the query
    users: tuple[str, ...] | None = None
    jobs: tuple[JobRef, ...] | None = None


def parse_jobs(text: str) -> tuple[JobRef, ...]:
    """Return the jobs of a list such as ``12,13_4``; raises RequestError, which names what is no job."""
    refs = []
    for word in text.split(","):
        match = _JOB.fullmatch(word.strip())
        if match is None:
            raise RequestError(f"job {word.strip()!r} is no job's number: write 12, or 12_3 for one task of an array")
        refs.append(JobRef(int(match[1]), int(match[2]) if match[2] else None))
    return tuple(refs)


def parse_users(text: str) -> tuple[str, ...]:
    """Return the users of a list such as ``alice,bob``; raises RequestError when one is empty."""
    users = tuple(word.strip() for word in text.split(","))
    if not all(users):
        raise RequestError(f"user {text!r} is not a user's name, or several with a comma between")
    return users


def to_query(selection: Selection) -> str:
    """Return ``selection``, without its uid, as a URL's query."""
    pairs = [("start", repr(float(selection.start))), ("end", repr(float(selection.end)))]
    if selection.users is not None:
        pairs.append(("user", ",".join(selection.users)))
    if selection.jobs is not None:
        words = (str(ref.job_id) + ("" if ref.task_id is None else f"_{ref.task_id}") for ref in selection.jobs)
        pairs.append(("job", ",".join(words)))
    return urllib.parse.urlencode(pairs)


def from_query(query: Mapping[str, str]) -> Selection:
    """Read a URL's query; raises RequestError, which names what is missing, unknown or out of range."""
    if unknown := sorted(set(query) - _KEYS):
        raise RequestError(f"{unknown[0]!r} is not known here: write start, end, user or job")
    start, end = _moment(query, "start"), _moment(query, "end")
    if end < start:
        raise RequestError(f"end {query['end']} lies before start {query['start']}: write the earlier time as start")
    return Selection(
        start,
        end,
        users=parse_users(query["user"]) if "user" in query else None,
        jobs=parse_jobs(query["job"]) if "job" in query else None,
    )


def _moment(query: Mapping[str, str], name: str) -> float:
    try:
        value = float(query[name])
    except (KeyError, ValueError):
        value = math.nan
    if not 0 <= value <= _LATEST:
        raise RequestError(f"{name} is {query.get(name)!r}: write seconds since the epoch")
    return value
