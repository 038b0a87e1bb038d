"""What a check is, what it finds, and how all are run: no check raises."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from slurm_gpushare.doctor.facts import Facts, Unseen

STATUSES = ("ok", "warn", "fail", "skip")
ROLES = ("controller", "login", "node", "accounting")


@dataclass(frozen=True)
class Finding:
    """What one check found. ``remedy`` is what to write and where, "" where nothing is to be done."""

    status: str
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """One check: on hosts of which roles, what it means, and what to do when it fails."""

    name: str
    roles: tuple[str, ...]
    meaning: str
    remedy: str
    function: Callable[[Facts], Finding]


CHECKS: list[Check] = []


def check(name: str, meaning: str, remedy: str, roles: tuple[str, ...] = ROLES) -> Callable:
    """Return the decorator that makes a function over Facts a check, in the order of their writing."""

    def add(function: Callable[[Facts], Finding]) -> Callable[[Facts], Finding]:
        CHECKS.append(Check(name, roles, meaning, remedy, function))
        return function

    return add


def ok(found: str) -> Finding:
    """Return a finding with which nothing is wrong."""
    return Finding("ok", found)


def run_check(each: Check, facts: Facts) -> Finding:
    """Run one check; what it cannot see, or cannot read, is ``skip`` with the reason."""
    try:
        finding = each.function(facts)
    except Unseen as error:
        return Finding("skip", str(error))
    except Exception as error:  # a doctor that falls ill over one finding would hide the others
        return Finding("skip", f"cannot be judged: {type(error).__name__}: {error}")
    if finding.status in ("warn", "fail") and not finding.remedy:
        return Finding(finding.status, finding.found, each.remedy)
    return finding


def run_checks(checks: Iterable[Check], facts: Facts) -> list[tuple[Check, Finding]]:
    """Run those of ``checks`` that concern a role of this host."""
    return [(each, run_check(each, facts)) for each in checks if facts.roles & set(each.roles)]


def exit_status(findings: Iterable[Finding]) -> int:
    """Return 1 where anything fails, else 0: a warning is for reading."""
    return int(any(finding.status == "fail" for finding in findings))
