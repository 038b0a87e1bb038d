"""Everything on one job: its runs, each GPU of each run, and who shared the GPU in that time. Pure functions."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

from slurm_gpushare.accounting.report import concerns_us, groups, match, of_one_source, run_report, without_slurm
from slurm_gpushare.errors import GrantError
from slurm_gpushare.grant import decode_grant, grant_to_dict, looks_like_grant
from slurm_gpushare.slurm.sacct import JobRow
from slurm_gpushare.usage import UsageRecord

MOST_NAMED = 100  # jobs that are named of those which shared one GPU with one run

# What is told of a GPU is its record but for what names the job, and its keys stay those of docs/usage.md.
_OF_THE_JOB = ("cluster", "job_id", "uid", "user", "backend", "series")


def job_runs(rows: Iterable[JobRow], records: Iterable[UsageRecord]) -> list[tuple[dict, list[UsageRecord]]]:
    """Return the runs that concern us, oldest first, and the records that count of each.

    A run is the object of `report jobs` with what is told of one job alone: ``job`` (as Slurm writes it),
    ``wait_seconds`` from its submission to its start, ``exit_code``, ``nodelist``, ``alloc_tres``, ``req_tres`` and
    ``grant`` (None where there is none).
    """
    rows = list(rows)
    of_run, left = match(rows, records)
    found = [
        ({**asdict(run_report(row, of_run[row.key])), **_slurms(row)}, of_one_source(of_run[row.key]))
        for row in rows
        if concerns_us(row, bool(of_run[row.key]))
    ]
    found += [({**asdict(without_slurm(group)), **_nothing(group)}, of_one_source(group)) for group in groups(left)]
    found.sort(key=lambda one: tuple(one[0][name] or 0 for name in ("start", "job_id", "restart")))
    return [(run, sorted(parts, key=lambda part: (part.node, part.gpu_index or 0, part.gpu))) for run, parts in found]


def gpu_part(record: UsageRecord, course: dict | None, sharers: dict) -> dict:
    """Return what is told of one GPU of a run: its record, ``coverage``, its ``course`` and who shared it."""
    own = {name: value for name, value in vars(record).items() if name not in _OF_THE_JOB}
    return {**own, "coverage": round(record.coverage, 4), "course": course, **sharers}


def sharers(
    record: UsageRecord,
    others: Iterable[UsageRecord],
    rows: Iterable[JobRow],
    sees: Callable[[int, str | None], bool],
) -> dict:
    """Return who shared the GPU of ``record`` in its time.

    ``{"shared_seconds": SECONDS, "others": [{"job", "user", "fraction", "seconds", "gpu_seconds_used"}, …],
    "others_unnamed": COUNT}``. ``shared_seconds`` is how much of its time anybody else had a part of it. ``sees`` tells
    of a uid and an account whether who asks may see its runs: other jobs are only counted, as are those beyond
    MOST_NAMED. ``gpu_seconds_used`` is of that job's whole run on the GPU.
    """
    others = [one for one in others if one.started < record.ended and one.ended > record.started]
    of_run, left = match(rows, others)
    row_of = {row.key: row for row in rows}
    runs = [(row_of[key], of_one_source(parts)) for key, parts in of_run.items() if parts]
    runs += [(None, of_one_source(group)) for group in groups(left)]
    named, unnamed = [], 0
    for row, parts in sorted(runs, key=lambda one: (one[1][0].started, one[1][0].job_id)):
        first = parts[0]
        if len(named) == MOST_NAMED or not sees(first.uid, None if row is None else row.account):
            unnamed += 1
            continue
        used = [part.gpu_seconds_used for part in parts]
        named.append(
            {
                "job": str(first.job_id) if row is None else row.job,
                "user": first.user if row is None else row.user or first.user,
                "fraction": round(sum(part.fraction for part in parts), 6),
                "seconds": round(_overlap(record, parts), 6),
                "gpu_seconds_used": None if None in used else round(sum(used), 6),
            }
        )
    return {"shared_seconds": round(_overlap(record, others), 6), "others": named, "others_unnamed": unnamed}


def _overlap(record: UsageRecord, others: Sequence[UsageRecord]) -> float:
    """Return for how many seconds of ``record`` at least one of ``others`` ran."""
    total, reached = 0.0, record.started
    for one in sorted(others, key=lambda other: other.started):
        low, high = max(one.started, reached), min(one.ended, record.ended)
        if high > low:
            total += high - low
            reached = high
    return total


def is_one_gpu(record: UsageRecord) -> bool:
    """Tell whether ``record`` names its GPU: one of a pool has a name of the job's node's until its UUID is known."""
    return ":" not in record.gpu


def _slurms(row: JobRow) -> dict:
    return {
        "job": row.job,
        "wait_seconds": max(0, row.start - row.submit),
        "exit_code": row.exit_code,
        "nodelist": row.nodelist,
        "alloc_tres": row.alloc_tres or None,
        "req_tres": row.req_tres or None,
        "grant": _grant(row.extra),
    }


def _nothing(group: Sequence[UsageRecord]) -> dict:
    nodes = ",".join(sorted({record.node for record in group}))
    slurms = ("wait_seconds", "exit_code", "alloc_tres", "req_tres", "grant")
    return {"job": str(group[0].job_id), "nodelist": nodes, **dict.fromkeys(slurms)}


def _grant(extra: str) -> dict | None:
    try:
        return grant_to_dict(decode_grant(extra)) if looks_like_grant(extra) else None
    except GrantError:
        return None
