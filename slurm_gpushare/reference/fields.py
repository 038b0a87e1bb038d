"""The fields of what commands print as JSON and CSV, from the dataclasses and their comments: docs/json.md."""

import ast
import inspect
import io
import textwrap
import tokenize
from collections.abc import Collection, Iterable, Mapping

from slurm_gpushare.accounting.advice import Advice
from slurm_gpushare.accounting.chargeback import Charge
from slurm_gpushare.accounting.efficiency import Ranked, Waste
from slurm_gpushare.accounting.export import TABLES, kinds
from slurm_gpushare.accounting.report import RunReport
from slurm_gpushare.accounting.usage_report import Sums
from slurm_gpushare.cli.report.job import GPU_COLUMNS, RUN_COLUMNS
from slurm_gpushare.drain.hold import Hold
from slurm_gpushare.gpu_hour import GpuHour
from slurm_gpushare.grant import Grant
from slurm_gpushare.pool.compare import Difference, GpuState
from slurm_gpushare.pool.jobs import PoolJob
from slurm_gpushare.reference.commands import cell
from slurm_gpushare.slurm.view import Answer
from slurm_gpushare.status.compose import GpuStatus, JobShare, Place, Status
from slurm_gpushare.usage import UsageRecord

HEAD = """\
# JSON and CSV

*Written by `python -m slurm_gpushare.reference docs docs` from the types in the code; do not edit.*

What is not known is null in JSON and an empty field in CSV, never 0. Fields named `…_seconds` are seconds,
`gpu_seconds_…` seconds of whole GPUs, `…_bytes` bytes, `…_joules` joules; reports print `start`, `end`, `submit`,
`started` and `ended` as ISO 8601 with their offset from UTC.
"""
_WORDS = {
    "int": "whole number",
    "float": "number",
    "str": "text",
    "bool": "true, false",
    "None": "null",
    "Decimal": "number",
    "dict": "object",
    "list": "list",
}
# What a name means wherever it has no comment of its own.
_MEANINGS = {
    "account": "Slurm's account",
    "agent": "live or silent; null: not known, or none is needed",
    "amount": "hours times rate, rounded to a hundredth; null: no rate fits",
    "details": "what it rests on, a line each",
    "sooner": "what would make it start sooner, a line each",
    "why": "the reason in plain words, a line each",
    "array_job_id": "the array's number; null: the job is of no array",
    "array_task_id": "the task's number in its array",
    "away": "it takes no job",
    "backend": "what gave the share; gpu: whole GPUs of the node",
    "cluster": "Slurm's ClusterName",
    "currency": "of the policy",
    "end": "when the run ended; null: it runs",
    "energy_joules": "what the GPU took for it",
    "energy_jobs_joules": "of it, that of jobs",
    "energy_overhead_joules": "of it, that of the servers of MPS",
    "energy_unattributed_joules": "of it, that of no job",
    "fraction_advised": "the smallest share in which all of them fit",
    "gpu": "the GPU's number on its node or server",
    "gpu_hours": "reserved, whether used or not",
    "gpu_index": "the GPU's number on its node",
    "gpu_name": "its model",
    "gpu_seconds_idle": "reserved and not used",
    "gpu_seconds_jobs": "used by jobs",
    "gpu_seconds_over": "used beyond the share",
    "gpu_seconds_reserved": "share times time",
    "gpu_seconds_unattributed": "used by no job",
    "gpu_seconds_unmeasured": "reserved while nobody measured the use",
    "gpu_seconds_used": "SM time",
    "gpu_seconds_without_process": "idle without any process on the GPU",
    "gpus": "GPUs",
    "job": "the job as Slurm writes it: 12, 12_3, 12+1",
    "job_id": "the job's number",
    "jobs": "jobs with a share of it, as below",
    "kind": "what it is, in one word",
    "memory_advised_bytes": "of that share",
    "memory_mean_bytes": "mean over the sampled time",
    "memory_p50_bytes": "median over the sampled time",
    "memory_p95_bytes": "95 % of the sampled time had this or less",
    "memory_peak_bytes": "the most that was held at once",
    "memory_total": "bytes of the card",
    "model": "the card's, as NVML says it",
    "name": "its name",
    "node": "the node or server",
    "nodes": "how many nodes it had",
    "partition": "Slurm's partition",
    "partitions": "Slurm's partitions of it",
    "places": "nodes and servers, as below",
    "processes_seen": "processes on the GPU",
    "qos": "Slurm's QOS",
    "quality": "measured, estimated or unknown",
    "rate": "what a GPU-hour costs; null: no rate fits",
    "reason": "why, as the administrator or Slurm wrote it",
    "reason_by": "who wrote that",
    "request": "what was asked for, such as gpu:0.25",
    "restart": "how often the job had been started before",
    "runs": "how many runs of jobs",
    "server": "its name, or its address",
    "address": "HOST:PORT",
    "slices": "slices of it that there are, or that the job has",
    "slices_given": "slices that jobs hold",
    "sm_max": "the most in one sample",
    "sm_mean": "mean share of SM time",
    "sm_p50": "median share of SM time",
    "sm_p95": "95 % of the sampled time had this share of SM time or less",
    "start": "when the run began",
    "state": "Slurm's state",
    "time": "when all this was so, in seconds since the epoch",
    "type": "Slurm's",
    "uid": "the user's number",
    "used_of_reserved": "used / reserved of what was measured",
    "user": "the user's name",
    "uuid": "of the card or its part",
    "warnings": "what could not be asked, a line each",
    "where": "the server; empty: the whole pool",
}
_TIMES = frozenset({"submit", "start", "end", "started", "ended"})
# title: (the type of one object, fields that are left out)
_OBJECTS: tuple[tuple[str, str, type, Collection[str]], ...] = (
    ("`gpushare report jobs`", "A list; of each run:", RunReport, ()),
    ("`gpushare report usage`", "A list; of each line its names of `--by`, and:", Sums, ("group",)),
    ("`gpushare report advice`", "A list; of each line:", Advice, ()),
    ("`gpushare report chargeback`", "A list; of each line:", Charge, ()),
    ("`gpushare report efficiency`: `ranks`", "The object has these four lists. Of each in `ranks`:", Ranked, ()),
    ("`gpushare report efficiency`: `wasters`, `holders`", "Of each run:", Waste, ()),
    ("`gpushare status`", "One object:", Status, ()),
    ("`gpushare status`: `gpus`", "Of each GPU:", GpuStatus, ()),
    ("`gpushare status`: `jobs` of a GPU, `elsewhere`", "Of each job:", JobShare, ()),
    ("`gpushare status`: `places`", "Of each node and server:", Place, ()),
    ("`gpushare pool status`: `gpus`", "Of each GPU:", GpuState, ()),
    ("`gpushare pool status`: `differences`", "Of each:", Difference, ()),
    ("`gpushare pool status`: `jobs`", "Of each job of the pool:", PoolJob, ()),
    ("`gpushare gpu list`", "A list; of each:", Hold, ()),
    ("`gpushare why`", "One object, with `job_id`, `state` and Slurm's `reason`, and:", Answer, ()),
    (
        "`gpushare explain`",
        "One object: `outcome` (granted, untouched or refused), `message`, `rule` and `grant`: null, or its "
        "version `v` and these, which also stand in the job's `extra` (`sacct -o Extra`):",
        Grant,
        (),
    ),
    (
        "Usage record",
        "What agents send and `gpushare export --what usage` is made of ([usage.md](usage.md)):",
        UsageRecord,
        (),
    ),
    ("A GPU's hour", "Likewise, of `--what hours`:", GpuHour, ()),
)


def page() -> str:
    """Return docs/json.md."""
    parts = [HEAD]
    for title, lead, kind, left_out in _OBJECTS:
        rows = [row for row in described(kind) if row[0] not in left_out]
        if "report" in title:
            rows = list(map(_printed, rows))
        parts.append(_section(title, lead, ("field", "type", "meaning"), rows))
    parts.append(_job())
    for what in TABLES:
        lead = "Columns of the file, in Parquet of these types:"
        parts.append(_section(f"`gpushare export --what {what}`", lead, ("column", "type"), list(kinds(what).items())))
    return "\n".join(parts)


def described(kind: type) -> list[tuple[str, str, str]]:
    """Return (name, type, meaning) of each field of a dataclass: its comment, behind it, else in the lines before."""
    source = textwrap.dedent(inspect.getsource(kind))
    comments = {
        token.start[0]: (token.string.lstrip("# "), token.line.lstrip().startswith("#"))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = []
    for node in ast.parse(source).body[0].body:
        if isinstance(node, ast.AnnAssign):
            lines = range(node.lineno, node.end_lineno + 1)
            words = [comments[line][0] for line in lines if line in comments]
            line = node.lineno - 1
            while not any(each in comments for each in lines) and comments.get(line, ("", False))[1]:
                words.insert(0, comments[line][0])
                line -= 1
            meaning = " ".join(words).replace("None", "null") or _MEANINGS.get(node.target.id, "")
            found.append((node.target.id, _type(node.annotation), meaning))
    return found


def _printed(row: tuple[str, str, str]) -> tuple[str, str, str]:
    return (row[0], "time, null" if "null" in row[1] else "time", row[2]) if row[0] in _TIMES else row


def _type(node: ast.expr) -> str:
    if isinstance(node, ast.BinOp):
        return f"{_type(node.left)}, {_type(node.right)}"
    if isinstance(node, ast.Subscript):
        name = ast.unparse(node.value)
        return "object" if name == "dict" else "list"
    return _WORDS.get(ast.unparse(node), "object")


def _job() -> str:
    """Describe ``gpushare report job`` by the fields of the types that its columns come from."""
    known: Mapping[str, tuple] = {row[0]: row for kind in (UsageRecord, RunReport) for row in described(kind)}
    extra = {
        "job": ("job", "text", "as Slurm writes it: 12, 12_3, 12+1"),
        "exit_code": ("exit_code", "text, null", "as sacct prints it: status:signal"),
        "wait_seconds": ("wait_seconds", "whole number, null", "from the submission to the start"),
        "shared_seconds": ("shared_seconds", "number, null", "in which other jobs used this GPU too"),
        "measured": ("measured", "list", "of each GPU, as below"),
    }

    def rows(names: Iterable[str]) -> list[tuple]:
        return [_printed(extra.get(name) or known[name]) for name in names]

    head = ("field", "type", "meaning")
    title = "`gpushare report job`"
    return (
        _section(title, "A list; of each run:", head, rows((*RUN_COLUMNS, "measured")))
        + "\n"
        + _section(f"{title}: `measured`", "Of each GPU, with `course`, the points over time:", head, rows(GPU_COLUMNS))
    )


def _section(title: str, lead: str, head: tuple[str, ...], rows: Iterable[tuple]) -> str:
    lines = [f"## {title}", "", lead, "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += ["| `" + row[0] + "` | " + " | ".join(map(cell, row[1:])) + " |" for row in rows]
    return "\n".join(lines) + "\n"
