"""`gpushare report jobs`."""

from typing import TYPE_CHECKING

import click

from slurm_gpushare.cli.output import format_option, local_time, print_rows
from slurm_gpushare.cli.report.options import answered, chosen, listed, midnight, nothing, selection_options
from slurm_gpushare.units import format_fraction

if TYPE_CHECKING:
    from slurm_gpushare.accounting.selection import Selection

# The contract's keys, in its order (slurm_gpushare/accounting/report.py has the type; importing it is not needed here).
COLUMNS = (
    *("cluster", "job_id", "submit", "restart", "user", "account", "partition", "qos", "state", "request", "backend"),
    *("gpus", "fraction", "nodes", "array_job_id", "array_task_id", "start", "end", "elapsed_seconds"),
    *("gpu_seconds_reserved", "gpu_seconds_used", "gpu_seconds_idle", "gpu_seconds_over"),
    *("memory_peak_bytes", "energy_joules", "quality", "coverage", "enforces", "image", "reason"),
)
HEADINGS = {
    "id": "JobID",
    "user": "User",
    "account": "Account",
    "backend": "Backend",
    "request": "Request",
    "gpus": "GPUs",
    "fraction": "Fraction",
    "state": "State",
    "elapsed_seconds": "Elapsed",
    "gpu_seconds_reserved": "Reserved",
    "gpu_seconds_used": "Used",
    "memory_peak_bytes": "Peak MiB",
    "quality": "Quality",
}
_TIMES = ("submit", "start", "end")


@click.command()
@click.option(
    "--job", "-j", "refs", callback=listed("parse_jobs"), metavar="ID[,…]", help="These jobs, whenever they ran."
)
@selection_options
@format_option(html=True)
def jobs(
    refs: tuple | None, start: float | None, end: float | None, service: str | None, output_format: str, **names: tuple
) -> None:
    """One line for each run of a job that had a share of a GPU; today's, unless -S or -j says otherwise.

    A job that was requeued has several. GPU-seconds are of whole GPUs: a quarter of a GPU reserved for 100 s is 25.
    What is not known is "-", never 0. In JSON and CSV times have their offset from UTC.
    """
    selection = chosen(start, end, 0.0 if refs else midnight().timestamp(), jobs=refs, **names)
    answer = answered("jobs", service, selection)
    if output_format == "table":
        _table(answer.data["runs"], selection)
    elif output_format == "html":
        _page(answer.data, selection, service)
    else:
        rows = ({**run, **{name: local_time(run[name]) for name in _TIMES}} for run in answer.data["runs"])
        print_rows(rows, COLUMNS, output_format)


def job_name(run: dict) -> str:
    """Return a run's job as Slurm writes it: 12, or 11_2 for task 2 of array 11."""
    if run["array_task_id"] is None:
        return str(run["job_id"])
    return f"{run['array_job_id']}_{run['array_task_id']}"


def elapsed_text(seconds: int) -> str:
    """Return seconds as sacct writes them: [D-]HH:MM:SS."""
    days, rest = divmod(int(seconds), 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def totals(runs: list[dict]) -> str:
    """Return the line below the table: sums over the runs of which the amount is known, and how many those are."""
    said = []
    for name, word in (("gpu_seconds_reserved", "reserved"), ("gpu_seconds_used", "used")):
        known = [run[name] for run in runs if run[name] is not None]
        partly = "" if len(known) == len(runs) else f" (known of {len(known)})"
        said.append(f"{sum(known):.1f} GPU-seconds {word}{partly}" if known else f"GPU-seconds {word} not known")
    return f"{len(runs)} run{'s' * (len(runs) != 1)}: {', '.join(said)}"


def _table(runs: list[dict], selection: "Selection") -> None:
    if not runs:
        click.echo(nothing(selection))
        return
    print_rows(({"id": job_name(run), **run} for run in runs), tuple(HEADINGS), "table", headings=HEADINGS, cells=_cell)
    click.echo(totals(runs))


def _page(data: dict, selection: "Selection", service: str | None) -> None:
    from slurm_gpushare.cli.report.html import show, table

    rows = [{"id": job_name(run), **run} for run in data["runs"]]
    columns = (*HEADINGS, "start")
    lines = table("Runs", rows, columns, headings=HEADINGS | {"start": "Start"}, cells=_cell, says=totals(rows))
    show("Jobs and their GPU time", selection, service, [lines], data, ("accounts", "timeline"))


def _cell(column: str, value: object) -> str:
    if column == "start":
        return local_time(value)
    if column == "elapsed_seconds":
        return elapsed_text(value)
    if column in ("gpu_seconds_reserved", "gpu_seconds_used"):
        return f"{value:.1f}"
    if column == "memory_peak_bytes":
        return f"{value / 1024**2:.0f}"
    return format_fraction(value) if column in ("fraction", "gpus") else str(value)
