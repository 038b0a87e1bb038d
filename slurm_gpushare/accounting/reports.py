"""The reports that `gpushare serve` answers by name: what each takes, and how its answer is made from the store.

A new report is an entry of REPORTS here, a module of pure functions beside this one, and a command in cli/report/.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal

from slurm_gpushare.accounting.advice import advise
from slurm_gpushare.accounting.chargeback import BY as CHARGED_BY
from slurm_gpushare.accounting.chargeback import Prices, charge, total, warnings
from slurm_gpushare.accounting.dimensions import parse_by
from slurm_gpushare.accounting.efficiency_answer import efficiency
from slurm_gpushare.accounting.job_answer import job
from slurm_gpushare.accounting.page_report import page
from slurm_gpushare.accounting.privacy import JOBS, SUMS
from slurm_gpushare.accounting.read import known, summed, tallied
from slurm_gpushare.accounting.reconcile import reconcile
from slurm_gpushare.accounting.report import build
from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.accounting.unattributed import unattributed
from slurm_gpushare.accounting.usage_report import Tally, lines


@dataclass(frozen=True)
class Report:
    """One report. ``answer`` may raise RequestError for a parameter that it cannot use, and StoreError."""

    # From the store, what who asks may see, and the report's own parameters: an object of JSON. "warnings" in it are
    # lines for the reader, shown on stderr.
    answer: Callable[[Store, Selection, Mapping[str, str]], dict]
    parameters: frozenset[str] = frozenset()  # of the query, beside those of a selection
    hidden_by: frozenset[str] = JOBS  # words of Slurm's PrivateData that keep others from it (privacy.py)
    is_reconciled: bool = True

    def answered(self, store: Store, selection: Selection, given: Mapping[str, str]) -> dict:
        """Return the answer, with ``"reconciliation"`` (reconcile.py) of the same runs."""
        found = self.answer(store, selection, given)
        if self.is_reconciled and "reconciliation" not in found:
            found["reconciliation"] = reconcile(sum(tallied(store, selection, ()).values(), Tally()))
        return found


def _jobs(store: Store, selection: Selection, given: Mapping[str, str]) -> dict:
    """``{"runs": [object with the keys of RunReport, …]}``; times are seconds since the epoch."""
    found = build(*known(store, selection), selection.start, selection.end)
    runs = [asdict(one) for one in found if selection.takes(one)]
    return {"runs": runs, "warnings": [_lost(run) for run in runs if run["gpus"] == 0]}


def _lost(run: dict) -> str:
    """Tell of a run whose share Slurm's client lost on its way."""
    return f"job {run['job_id']} asked for {run['request']} by a client without cli_filter, and ran without a GPU"


def _usage(store: Store, selection: Selection, given: Mapping[str, str]) -> dict:
    """``{"lines": [object with the keys of Sums, …], …}`` by ``by``; days are those of this host's time zone."""
    by = parse_by(given.get("by", ""))
    found, nobodys = tallied(store, selection, by), unattributed(store, selection, by)
    groups = {**{key: Tally() for key, seconds in nobodys.items() if seconds}, **found}
    told = [asdict(line) for line in lines(by, groups)]
    for line in told:
        seconds = nobodys.get(tuple(line["group"].values()))
        line["gpu_seconds_unattributed"] = None if seconds is None else round(seconds, 6)
    return {"lines": told, "reconciliation": reconcile(sum(found.values(), Tally()))}


def _advice(store: Store, selection: Selection, given: Mapping[str, str]) -> dict:
    """``{"lines": [object with the keys of Advice, …]}``."""
    rows, records = known(store, selection)
    return {"lines": [asdict(line) for line in advise([row for row in rows if selection.takes(row)], records)]}


def chargeback(prices: Prices) -> Report:
    """Return the report of what was reserved at ``prices``."""

    def answer(store: Store, selection: Selection, given: Mapping[str, str]) -> dict:
        """``{"lines": [object with the keys of Charge, …], "total": TEXT, "currency": TEXT}``; decimals are texts."""
        charges = charge(summed(store, selection, CHARGED_BY), prices, selection.start, selection.end)
        lines = [
            {name: str(value) if isinstance(value, Decimal) else value for name, value in vars(one).items()}
            for one in charges
        ]
        return {
            "lines": lines,
            "total": str(total(charges)),
            "currency": prices.currency,
            "warnings": warnings(charges, prices),
        }

    return Report(answer, hidden_by=SUMS)


REPORTS = {
    "jobs": Report(_jobs),
    "usage": Report(_usage, frozenset({"by"}), SUMS),
    "advice": Report(_advice),
    "job": Report(job, is_reconciled=False),
    "chargeback": chargeback(Prices()),
    "efficiency": Report(efficiency, frozenset({"by", "most"}), SUMS),
    "page": Report(page, frozenset({"parts"}), SUMS, is_reconciled=False),  # beside a report, which is
}
