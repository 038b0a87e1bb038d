"""What is out of service: how it is named, and how who, when and why stand in a comment that Slurm keeps. Pure."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from slurm_gpushare.errors import RequestError

LONGEST_REASON = 300  # characters; Slurm keeps 1024 of a job's comment

_TARGET = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?::([0-9]{1,4}))?")
_COMMENT = re.compile(r"gpushare: (\S+) is out of service since (\S+) by (\S+): (.+)")


@dataclass(frozen=True)
class Hold:
    """One GPU of a node, or one server of a pool, that takes no jobs."""

    target: str  # NODE:GPU, or the server's name
    kind: str  # node | server
    since: int  # seconds since the epoch
    by: str  # who took it out of service
    reason: str  # as that one wrote it
    held_by: str  # what of Slurm's keeps jobs away: "job 12" or "reservation NAME"
    jobs: tuple[int, ...] = ()  # that still have a share of it


def parse_target(text: str) -> tuple[str, int | None]:
    """Return the name of a node or server, and the GPU's number; raises RequestError."""
    match = _TARGET.fullmatch(text)
    if match is None:
        raise RequestError(f"{text!r} is neither NODE:GPU nor a server of the pool: write one such as n1:0 or server1")
    return match[1], None if match[2] is None else int(match[2])


def check_reason(text: str) -> str:
    """Return the reason without blanks at its ends; raises RequestError where Slurm cannot keep it on one line."""
    reason = text.strip()
    if not reason or not reason.isprintable() or len(reason) > LONGEST_REASON:
        raise RequestError(
            f"--reason {text[:40]!r}: write one line of 1 to {LONGEST_REASON} characters, such as 'ECC errors'"
        )
    return reason


def write_comment(target: str, by: str, at: float, reason: str) -> str:
    """Return the comment of the job or reservation that keeps jobs away; ``at`` is seconds since the epoch."""
    since = datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"gpushare: {target} is out of service since {since} by {by}: {reason}"


def read_comment(text: str, kind: str, held_by: str) -> Hold | None:
    """Return what such a comment says; None where it is none of ours."""
    match = _COMMENT.fullmatch(text.strip())
    if match is None:
        return None
    try:
        since = int(datetime.fromisoformat(match[2]).timestamp())
    except ValueError:
        return None
    return Hold(match[1], kind, since, match[3], match[4], held_by)
