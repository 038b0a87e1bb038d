"""The service's answer to `report job`, from the store."""

import time
from collections.abc import Mapping

from slurm_gpushare.accounting.job_report import gpu_part, is_one_gpu, job_runs, sharers
from slurm_gpushare.accounting.read import known
from slurm_gpushare.accounting.reconcile import reconcile
from slurm_gpushare.accounting.selection import JobRef, Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.accounting.usage_report import pieces, tally
from slurm_gpushare.errors import RequestError
from slurm_gpushare.slurm.sacct import JobRow
from slurm_gpushare.usage import UsageRecord

# GPUs of one answer of which the course is told, and who shared them.
MOST_COURSES = 64


def job(store: Store, selection: Selection, given: Mapping[str, str]) -> dict:
    """Return ``{"runs": [object of job_runs with "measured": [object of gpu_part, …], …], "reconciliation": …}``.

    Beyond MOST_COURSES GPUs ``measured`` is null, which a warning says. Times are seconds since the epoch.
    """
    if selection.jobs is None:
        raise RequestError("no job is named: write job=12, 12_3 or 12+1")
    rows, records = known(store, selection)
    found = [
        (run, parts)
        for run, parts in job_runs(rows, records)
        if _is_asked(run, selection) and (run["submit"] is not None or selection.sees(parts[0].uid, None))
    ]
    whole = sum(len(parts) for _, parts in found) <= MOST_COURSES
    runs = [
        {**run, "measured": [_part(store, selection, one) for one in parts] if whole else None} for run, parts in found
    ]
    answer: dict = {"runs": runs}
    if not whole:
        words = f"{len(runs)} runs: sums alone; name one task, such as 12_3, for each GPU and its course"
        answer["warnings"] = [words]
    if runs:
        counted = [part for _, parts in found for part in parts]
        answer["reconciliation"] = reconcile(tally(pieces(rows, counted, time.time())))
    return answer


def _is_asked(run: dict, selection: Selection) -> bool:
    return run["start"] <= selection.end and (run["end"] is None or run["end"] >= selection.start)


def _part(store: Store, selection: Selection, record: UsageRecord) -> dict:
    others = store.on_gpu(record) if is_one_gpu(record) else []
    rows: list[JobRow] = []
    if jobs := {one.job_id for one in others}:
        rows = store.jobs(Selection(record.started, record.ended, jobs=tuple(JobRef(job) for job in sorted(jobs))))
    shared = sharers(record, others, [row for row in rows if row.cluster == record.cluster], selection.sees)
    return gpu_part(record, store.series(record), shared)
