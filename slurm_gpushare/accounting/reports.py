"""The reports that `gpushare serve` answers by name: what each takes, and how its answer is made from the store.

A new report is an entry of REPORTS here, a module of pure functions beside this one, and a command in cli/report/.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

from slurm_gpushare.accounting.advice import advise
from slurm_gpushare.accounting.dimensions import parse_by
from slurm_gpushare.accounting.report import SLACK, build
from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.accounting.usage_report import pieces, summarise
from slurm_gpushare.slurm.sacct import JobRow
from slurm_gpushare.usage import UsageRecord


@dataclass(frozen=True)
class Report:
    """One report. ``answer`` may raise RequestError for a parameter that it cannot use, and StoreError."""

    # From the store, what who asks may see, and the report's own parameters: an object of JSON. "warnings" in it are
    # lines for the reader, shown on stderr.
    answer: Callable[[Store, Selection, Mapping[str, str]], dict]
    parameters: frozenset[str] = frozenset()  # of the query, beside those of a selection


def known(store: Store, selection: Selection) -> tuple[list[JobRow], list[UsageRecord]]:
    """Return runs and records of ``selection``, and those around it that may belong together."""
    wide = replace(selection, start=selection.start - SLACK, end=selection.end + SLACK)
    return store.jobs(wide), store.usage(wide)


def _jobs(store: Store, selection: Selection, given: Mapping[str, str]) -> dict:
    """``{"runs": [object with the keys of RunReport, …]}``; times are seconds since the epoch."""
    found = build(*known(store, selection), selection.start, selection.end)
    runs = [asdict(one) for one in found if selection.takes(one)]
    return {"runs": runs, "warnings": [_lost(run) for run in runs if run["gpus"] == 0]}


def _lost(run: dict) -> str:
    """Tell of a run whose share Slurm's client lost on its way."""
    return f"job {run['job_id']} asked for {run['request']} by a client without cli_filter, and ran without a GPU"


def _usage(store: Store, selection: Selection, given: Mapping[str, str]) -> dict:
    """``{"lines": [object with the keys of Sums, …]}`` by ``by``; days are those of this host's time zone."""
    by = parse_by(given.get("by", ""))
    found = [one for one in pieces(*known(store, selection), time.time()) if selection.takes(one)]
    return {"lines": [asdict(line) for line in summarise(found, by, selection.start, selection.end)]}


def _advice(store: Store, selection: Selection, given: Mapping[str, str]) -> dict:
    """``{"lines": [object with the keys of Advice, …]}``."""
    rows, records = known(store, selection)
    return {"lines": [asdict(line) for line in advise([row for row in rows if selection.takes(row)], records)]}


REPORTS = {
    "jobs": Report(_jobs),
    "usage": Report(_usage, frozenset({"by"})),
    "advice": Report(_advice),
}
