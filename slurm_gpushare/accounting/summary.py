"""The summary of one ended run in the form of jobstats (JS1), as AdminComment holds it. Pure functions.

``JS1:`` and base64 of gzip of compact JSON, as PrincetonUniversity/jobstats 1.0.0 writes it (``report_job_json``):
``{"nodes": {NODE: {"cpus", "total_memory", "used_memory", "total_time", "gpu_total_memory": {GPU: bytes},
"gpu_used_memory": {GPU: bytes}, "gpu_utilization": {GPU: percent}}}, "total_time": seconds, "gpus": count}``.
Ours has ``"by": "gpushare"`` beside these and ``"gpu_share": {GPU: fraction}`` in each node. What the values mean for a
share, and why: docs/slurm-summary.md.
"""

import base64
import binascii
import gzip
import io
import json
from collections.abc import Sequence

from slurm_gpushare.accounting.report import of_one_source
from slurm_gpushare.slurm.ended import EndedRun
from slurm_gpushare.usage import UsageRecord

PREFIX = "JS1:"
MOST = 64_000  # bytes: slurmdbd keeps it in a column of 65,535
_LONGEST_JSON = 16 << 20  # bytes that are read of another's text


def summarise(run: EndedRun, nodes: Sequence[str], records: Sequence[UsageRecord]) -> dict | None:
    """Return the summary of a run from what Slurm tells of it, its ``nodes`` and what was measured of it.

    None where the run has not ended or nothing is known of any of its GPUs: readers take a missing value for 0.
    """
    if run.start is None or run.end is None or not nodes:
        return None
    records = of_one_source(records)
    # Readers know no nodes but the job's: the GPUs of a pool's server stand below those in turn.
    homes = [record.node if record.node in nodes else nodes[at % len(nodes)] for at, record in enumerate(records)]
    found = {node: _cpu_part(run, at, len(nodes)) for at, node in enumerate(nodes)}
    known = 0
    for node in nodes:
        gpus = _gpu_part([record for record, home in zip(records, homes, strict=True) if home == node])
        known += len(gpus.get("gpu_utilization", ()))
        found[node].update(gpus)
    if not known:
        return None
    return {"nodes": found, "total_time": run.end - run.start, "gpus": len(records), "by": "gpushare"}


def encode(summary: dict) -> str:
    """Return a summary as AdminComment holds it, the same text for the same summary."""
    data = json.dumps(summary, separators=(",", ":")).encode("ascii")
    return PREFIX + base64.b64encode(gzip.compress(data, mtime=0)).decode("ascii")


def decode(text: str) -> dict | None:
    """Return the summary in an AdminComment, None where it is none that can be read."""
    if not text.startswith(PREFIX):
        return None
    try:
        packed = base64.b64decode(text.removeprefix(PREFIX), validate=True)
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
            data = json.loads(stream.read(_LONGEST_JSON))
    except (binascii.Error, OSError, EOFError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def is_ours(text: str) -> bool:
    """Tell whether ``text`` was written by us: only then may it be replaced."""
    summary = decode(text)
    return summary is not None and summary.get("by") == "gpushare"


def _cpu_part(run: EndedRun, at: int, nodes: int) -> dict:
    """Return what was allocated and used beside the GPUs on the node with number ``at``.

    Slurm tells it of the job: where it has several nodes each gets an equal part.
    """
    part: dict = {}
    if run.cpus:
        part["cpus"] = run.cpus // nodes + (at < run.cpus % nodes)
    if run.memory_bytes is not None:
        part["total_memory"] = run.memory_bytes // nodes
    if run.memory_used_bytes is not None:
        part["used_memory"] = run.memory_used_bytes // nodes
    if run.cpu_seconds is not None:
        part["total_time"] = _tenths(run.cpu_seconds / nodes)
    return part


def _gpu_part(records: Sequence[UsageRecord]) -> dict:
    """Return what is known of the GPUs of one node. A GPU stands in all of the tables or in none."""
    tables: dict = {"gpu_total_memory": {}, "gpu_used_memory": {}, "gpu_utilization": {}, "gpu_share": {}}
    taken: set[int] = set()
    for record in sorted(records, key=lambda one: (one.gpu_index is None, one.gpu_index, one.gpu)):
        number = record.gpu_index
        if number is None or number in taken:
            number = next(free for free in range(len(records) + len(taken) + 1) if free not in taken)
        taken.add(number)
        used, share, peak = utilization(record), record.memory_share_bytes, record.memory_peak_bytes
        if used is None or not share or peak is None:
            continue
        for name, value in zip(tables, (share, peak, used, record.fraction), strict=True):
            tables[name][str(number)] = value
    return {name: table for name, table in tables.items() if table}


def utilization(record: UsageRecord) -> float | None:
    """Return how much of its share a job used over the sampled seconds, in percent and at most 100; None: not known.

    Readers compare it with what was allocated, and leave out a job with more than 100. What is more than nothing is not
    rounded down to 0, which readers take for a GPU that was never used.
    """
    if record.gpu_seconds_used is None or record.seconds_sampled <= 0:
        return None
    percent = 100 * record.gpu_seconds_used / (record.fraction * record.seconds_sampled)
    return min(100.0, _tenths(percent))


def _tenths(value: float) -> float:
    return max(round(value, 1), 0.1 if value > 0 else 0.0)
