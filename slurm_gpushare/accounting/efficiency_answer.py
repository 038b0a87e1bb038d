"""The service's answer to `report efficiency`, from the store."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, replace

from slurm_gpushare.accounting.calendar_units import beginnings
from slurm_gpushare.accounting.efficiency import (
    BY,
    IDLE,
    WITHOUT_PROCESS,
    Waste,
    distribution,
    rank,
    runs,
    waste,
    worst,
)
from slurm_gpushare.accounting.read import summed, tallied
from slurm_gpushare.accounting.reconcile import reconcile
from slurm_gpushare.accounting.report import SLACK
from slurm_gpushare.accounting.rollup import is_rolled
from slurm_gpushare.accounting.rollup_schema import DAY
from slurm_gpushare.accounting.selection import JobRef, Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.accounting.usage_report import Sums, Tally
from slurm_gpushare.accounting.usage_report import lines as lines_of
from slurm_gpushare.errors import RequestError
from slurm_gpushare.usage import UsageRecord

_MOST = 10  # of the worst runs, unless the query says otherwise
_LIMIT = 1000


def efficiency(store: Store, selection: Selection, given: Mapping[str, str]) -> dict:
    """Return who used what was reserved, by ``by`` (BY), and the ``most`` worst runs.

    ``{"lines": [object with the keys of Ranked, …], "distribution": [object of distribution(), …], "wasters": [object
    with the keys of Waste, …], "holders": [likewise], "reconciliation": {…}}``. Who may not see all has a rank among
    all, and their own line alone has one: of others they may not see everything.
    """
    by = given.get("by", BY[0])
    if by not in BY:
        raise RequestError(f"{by!r} is nothing to rank: write {' or '.join(BY)}")
    most = _count(given.get("most", str(_MOST)))
    groups = tallied(store, selection, (by,))
    lines = lines_of((by,), groups)
    everybody = lines
    if selection.uid is not None or selection.users is not None:
        everybody = _everybody(store, selection, by)
    whole = _whole(store, selection, by, lines)
    return {
        "lines": [asdict(one) for one in rank(lines, everybody, by, lambda name: whole is None or name in whole)],
        "distribution": distribution(groups.values()),
        "wasters": _worst(store, selection, IDLE, most),
        "holders": _worst(store, selection, WITHOUT_PROCESS, most),
        "reconciliation": reconcile(sum(groups.values(), Tally())),
    }


def _everybody(store: Store, selection: Selection, by: str) -> list[Sums]:
    """Return the sums of all, of the whole days of a longer time: these are there, and all the rank needs."""
    whole = replace(selection, uid=None, users=None, accounts_seen=None)
    days = replace(whole, end=float(next(beginnings(whole.end, whole.end, DAY))))
    return summed(store, days if is_rolled(days, (by,)) else whole, (by,))


def _whole(store: Store, selection: Selection, by: str, lines: list[Sums]) -> set[str | None] | None:
    """Return the names of which who asks sees everything; None: of all."""
    if selection.uid is None and (by == "user" or selection.users is None):
        return None
    if by == "account":
        return set(selection.accounts_seen or ()) if selection.users is None else set()
    if selection.accounts_seen:
        lines = summed(store, replace(selection, accounts_seen=None), ("user",))
    return {line.group["user"] for line in lines}


def _worst(store: Store, selection: Selection, name: str, most: int) -> list[dict]:
    def look(jobs: list[tuple[str, int]]) -> list[Waste]:
        numbers: dict[str, list[int]] = defaultdict(list)
        for cluster, job_id in jobs:
            numbers[cluster].append(job_id)
        refs = tuple(JobRef(job_id) for _, job_id in jobs)
        # Records are matched with all runs of these jobs, and the runs are chosen then: a number may be used again.
        whole = Selection(selection.start - SLACK, selection.end + SLACK, jobs=refs)
        rows = [row for row in store.jobs(whole) if (row.cluster, row.job_id) in jobs]
        chosen = {row.key for row in store.jobs(replace(selection, jobs=refs)) if selection.takes(row)}
        records = [one for cluster, ids in numbers.items() for one in store.usage_of(cluster, ids)]
        found = [
            waste(row, parts, selection.start, selection.end)
            for row, parts in runs(rows, records)
            if (row.key in chosen if row is not None else _takes(selection, parts[0]))
        ]
        return [one for one in found if one is not None]

    return [asdict(one) for one in worst(store.largest(selection, name), look, name, most)]


def _takes(selection: Selection, record: UsageRecord) -> bool:
    """Tell whether use that Slurm tells of no run is of ``selection``."""
    named = (selection.jobs, selection.accounts, selection.partitions, selection.states)
    theirs = selection.users is None or record.user in selection.users
    return theirs and not any(named) and selection.sees(record.uid, None)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _LIMIT):
        raise RequestError(f"most is {text!r}: write a number from 1 to {_LIMIT}")
    return int(text)
