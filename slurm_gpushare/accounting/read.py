"""What several reports read from the store."""

import time
from collections.abc import Sequence
from dataclasses import replace

from slurm_gpushare.accounting.report import SLACK
from slurm_gpushare.accounting.rollup import is_rolled
from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.accounting.usage_report import Sums, Tally, lines, pieces, tallies
from slurm_gpushare.slurm.sacct import JobRow
from slurm_gpushare.usage import UsageRecord


def known(store: Store, selection: Selection) -> tuple[list[JobRow], list[UsageRecord]]:
    """Return runs and records of ``selection``, and those around it that may belong together; raises StoreError."""
    wide = replace(selection, start=selection.start - SLACK, end=selection.end + SLACK)
    return store.jobs(wide), store.usage(wide)


def tallied(store: Store, selection: Selection, by: Sequence[str]) -> dict[tuple, Tally]:
    """Return the tally of each group of ``selection`` by ``by``; raises StoreError."""
    if is_rolled(selection, by):
        return store.rollups.tallies(selection, by)
    rows, records = known(store, selection)
    found = [one for one in pieces(rows, records, time.time(), store.followed(rows)) if selection.takes(one)]
    return tallies(found, by, selection.start, selection.end)


def summed(store: Store, selection: Selection, by: Sequence[str]) -> list[Sums]:
    """Return the sums of ``selection`` by ``by``; raises StoreError."""
    return lines(by, tallied(store, selection, by))
