"""What reports print as ``--format html``: one file that has its table, and charts of the same runs."""

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from slurm_gpushare.cli.output import local_time
from slurm_gpushare.cli.report.options import answered
from slurm_gpushare.page import compose, figures
from slurm_gpushare.page.render import Column, Page, Row, Table, render

if TYPE_CHECKING:
    from slurm_gpushare.accounting.selection import Selection

MOST_ROWS = 5000  # of one table
_MOST_COURSES = 8
_NUMBER = re.compile(r"-?[0-9.]+( [A-Za-z%-]+)?|[0-9]+:[0-9:]+")
_KEYS = ("account", "user", "backend")


def table(
    title: str,
    rows: Iterable[Mapping[str, object]],
    columns: Sequence[str],
    *,
    headings: Mapping[str, str],
    cells: Callable[[str, object], str],
    unit: Callable[[Mapping[str, object]], str | None] = lambda row: None,
    says: str = "",
) -> Table:
    """Return a page's table as print_rows prints one; filters reach the rows by account, user, backend and ``unit``."""
    rows = list(rows)

    def is_number(name: str) -> bool:
        values = [row[name] for row in rows[:MOST_ROWS] if row[name] is not None]
        numbers = bool(values) and all(isinstance(value, (int, float)) for value in values)
        return numbers and all(_NUMBER.fullmatch(cells(name, value)) for value in values)

    def row_of(row: Mapping[str, object]) -> Row:
        keys = [(name, str(row[name] or "(none)")) for name in _KEYS if name in row]
        if when := unit(row):
            keys.append(("unit", when))
        return Row(["-" if row[name] is None else cells(name, row[name]) for name in columns], keys)

    if len(rows) > MOST_ROWS:
        says = f"{says} The first {MOST_ROWS} of {len(rows)} lines.".strip()
    return Table(
        title,
        [Column(headings.get(name, name), is_number(name)) for name in columns],
        [row_of(row) for row in rows[:MOST_ROWS]],
        says,
    )


def show(
    title: str,
    selection: "Selection",
    service: str | None,
    tables: Sequence[Table],
    answer: dict,
    parts: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> None:
    """Print the page of a report: ``tables``, and charts of ``parts``: accounts, heat, timeline; none: no charts.

    ``answer`` is the report's own data, whose reconciliation stands below.
    """
    _not_to_a_terminal()
    found, data, cards, filters = [], {}, [], ()
    notes = list(notes)
    if parts:
        wanted = ["sums", *(name for name in parts if name in ("heat", "timeline"))]
        drawn = answered("page", service, selection, parts=",".join(wanted)).data
        found, data = compose.overview(drawn, parts)
        if data["sums"]["rows"]:
            cards, filters = compose.cards(drawn["sums"]["lines"]), compose.FILTERS
        notes += compose.left_out(drawn)
    page = Page(
        title=title,
        subtitle=_subtitle(selection),
        made=local_time(datetime.now().timestamp()),
        figures=found,
        tables=tables,
        cards=cards,
        filters=filters,
        notes=notes,
        footer=_reconciled(answer),
        data=data,
    )
    click.echo(render(page))


def show_job(selection: "Selection", service: str | None, runs: list[dict], answer: dict) -> None:
    """Print the page of one job: its runs (objects of `report job`), its GPUs' courses, and who shared them."""
    from slurm_gpushare.cli.report.job_text import RUN_HEADINGS, facts, run_cell

    _not_to_a_terminal()
    last = runs[-1]
    parts = [part for part in last["measured"] or () if part["course"]][:_MOST_COURSES]
    where = [part["node"] + ("" if part["gpu_index"] is None else f" GPU {part['gpu_index']}") for part in parts]
    found = [figures.course(number, name) for number, name in enumerate(where)]
    data: dict = {"courses": [compose.course(part) for part in parts]}
    drawn = answered("page", service, selection, parts="timeline").data["timeline"]
    if drawn:
        data["timeline"] = compose.timeline(drawn, last["job"])
        found.append(figures.timeline("Its GPUs, by job"))
    tables = [table("Its runs", runs, tuple(RUN_HEADINGS), headings=RUN_HEADINGS, cells=run_cell)]
    if measured := last["measured"]:
        tables.append(_gpus(measured))
        tables += [one for part in measured if (one := _sharers(part))]
    page = Page(
        title=f"Job {last['job']}",
        subtitle=f"{last['user'] or '-'}, {last['account'] or '-'}: {last['state'] or 'not known to Slurm'}",
        made=local_time(datetime.now().timestamp()),
        figures=found,
        tables=tables,
        facts=[(name, told) for name, told in facts(last) if told],
        footer=_reconciled(answer),
        data=data,
    )
    click.echo(render(page))


_GPU_HEADINGS = {
    "node": "Node",
    "gpu": "GPU",
    "gpu_name": "Model",
    "fraction": "Share %",
    "sm_mean": "Mean %",
    "sm_p95": "p95 %",
    "sm_max": "Most %",
    "memory_peak_bytes": "Peak MiB",
    "memory_share_bytes": "Share MiB",
    "gpu_seconds_idle": "Idle s",
    "energy_joules": "kJ",
    "quality": "Quality",
    "shared_seconds": "Shared s",
}


def _gpus(parts: Sequence[dict]) -> Table:
    def cell(column: str, value: object) -> str:
        if column == "fraction" or column.startswith("sm_"):
            return f"{100 * value:.0f}"
        if column.endswith("_bytes"):
            return f"{value / 1024**2:.0f}"
        if column == "gpu":
            return compose.gpu_name(value)
        if column == "energy_joules":
            return f"{value / 1000:.1f}"
        return f"{value:.0f}" if column.endswith("seconds") or column.startswith("gpu_seconds") else str(value)

    return table("Its GPUs", parts, tuple(_GPU_HEADINGS), headings=_GPU_HEADINGS, cells=cell)


def _sharers(part: dict) -> Table | None:
    if not part["others"]:
        return None
    headings = {
        "job": "Job",
        "user": "User",
        "fraction": "Share %",
        "seconds": "Together s",
        "gpu_seconds_used": "Used s",
    }

    def cell(column: str, value: object) -> str:
        return f"{100 * value:.0f}" if column == "fraction" else value if isinstance(value, str) else f"{value:.0f}"

    more = f"{part['others_unnamed']} more are not yours to see." if part["others_unnamed"] else ""
    title = f"Who shared {part['node']} {compose.gpu_name(part['gpu'])}"
    return table(title, part["others"], tuple(headings), headings=headings, cells=cell, says=more)


def _subtitle(selection: "Selection") -> str:
    whose = [
        f"{word} {', '.join(map(str, names))}"
        for word, names in (
            ("users", selection.users),
            ("accounts", selection.accounts),
            ("partitions", selection.partitions),
            ("states", selection.states),
            ("jobs", selection.jobs),
        )
        if names
    ]
    since = "the beginning" if selection.start <= 0 else local_time(selection.start)
    return "; ".join([f"From {since} to {local_time(selection.end)}", *whose])


def _reconciled(answer: Mapping[str, object]) -> list[str]:
    told = answer.get("reconciliation")
    return [f"Reconciliation: {told['line']}"] if isinstance(told, dict) and "line" in told else []


def _not_to_a_terminal() -> None:
    if sys.stdout.isatty():
        raise click.UsageError(
            "--format html is a whole file: write it to one, such as `… --format html > report.html`"
        )
