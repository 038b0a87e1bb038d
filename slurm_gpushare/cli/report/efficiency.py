"""`gpushare report efficiency`."""

import json
from datetime import timedelta

import click

from slurm_gpushare.cli.output import format_option, local_time, print_rows
from slurm_gpushare.cli.report.options import answered, chosen, midnight, nothing, selection_options, terminal

# The keys of Ranked, Waste and of a bin of the distribution (slurm_gpushare/accounting/efficiency.py), and the headings
# of those that the tables have.
RANKS = {
    "rank": "Rank",
    "of": "",
    "name": "",
    "runs": "Runs",
    "gpu_seconds_reserved": "Reserved h",
    "gpu_seconds_used": "Used h",
    "gpu_seconds_idle": "Idle h",
    "gpu_seconds_over": "Over h",
    "gpu_seconds_unmeasured": "Unmeasured h",
    "used_of_reserved": "Used %",
}
WASTE = {
    "cluster": "",
    "job": "JobID",
    "job_id": "",
    "restart": "",
    "user": "User",
    "account": "Account",
    "partition": "",
    "backend": "Backend",
    "request": "Request",
    "state": "State",
    "start": "Start",
    "end": "",
    "gpu_seconds_reserved": "Reserved h",
    "gpu_seconds_used": "Used h",
    "gpu_seconds_idle": "Idle h",
    "gpu_seconds_without_process": "No process h",
    "used_of_reserved": "Used %",
}
DISTRIBUTION = ("from", "to", "gpu_seconds")
WASTERS = "Runs with the most GPU-hours reserved and not used"
HOLDERS = "Runs that held a GPU the longest without a process on it"
_PARTS = {"ranks": RANKS, "distribution": DISTRIBUTION, "wasters": WASTE, "holders": WASTE}
_BAR = 40  # columns of the longest


@click.command()
@click.option("--by", type=click.Choice(("user", "account")), default="user", show_default=True, help="Whom to rank.")
@click.option(
    *("-n", "--most"),
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="So many of the best, of the worst, and of the runs.",
)
@click.option(
    "--show",
    type=click.Choice(tuple(_PARTS)),
    help="This part alone; CSV has one part, the ranks unless told otherwise.",
)
@selection_options
@format_option(html=True)
def efficiency(
    by: str,
    most: int,
    show: str | None,
    start: float | None,
    end: float | None,
    service: str | None,
    output_format: str,
    **names: tuple,
) -> None:
    """Who uses what was reserved: ranks, the distribution of use, the runs that wasted most, and idle holders.

    Of the last 30 days, unless -S says otherwise. Used % is used / reserved of what was measured. "Idle" is what was
    reserved and not used; "No process" the part of it in which the job had no process on the GPU at all. Who may not
    see the jobs of others is told the own rank among them.
    """
    selection = chosen(start, end, (midnight() - timedelta(days=30)).timestamp(), **names)
    answer = answered("efficiency", service, selection, by=by, most=str(most))
    parts = {
        "ranks": answer.data["lines"],
        "distribution": answer.data["distribution"],
        **{name: [_with_times(one) for one in answer.data[name]] for name in ("wasters", "holders")},
    }
    if output_format == "html":
        _page(parts, by, selection, service, answer.data)
    elif output_format == "json" and show is None:
        click.echo(json.dumps(parts, indent=2, ensure_ascii=False))
    elif output_format != "table":
        print_rows(parts[show or "ranks"], tuple(_PARTS[show or "ranks"]), output_format)
    elif not parts["ranks"]:
        click.echo(nothing(selection))
    else:
        _tables(parts, by, most, show)


def _page(parts: dict[str, list[dict]], by: str, selection: object, service: str | None, data: dict) -> None:
    from slurm_gpushare.cli.report.html import show, table

    headings = {name: heading for name, heading in RANKS.items() if heading}
    headings = {"rank": "Rank", "name": by.capitalize(), **headings}
    ranks = [
        {**line, by: line["name"], "rank": None if line["rank"] is None else f"{line['rank']} of {line['of']}"}
        for line in parts["ranks"]
    ]
    of_runs = {name: heading for name, heading in WASTE.items() if heading}
    tables = [
        table("Ranks", ranks, tuple(headings), headings=headings, cells=_cell),
        *(
            table(title, parts[name], tuple(of_runs), headings=of_runs, cells=_cell)
            for name, title in (("wasters", WASTERS), ("holders", HOLDERS))
        ),
    ]
    show("Who uses what was reserved", selection, service, tables, data, ("users",))


def _with_times(run: dict) -> dict:
    return {**run, **{name: local_time(run[name]) for name in ("start", "end")}}


def _tables(parts: dict[str, list[dict]], by: str, most: int, show: str | None) -> None:
    drawn = {
        "ranks": lambda: _ranks(parts["ranks"], by, most),
        "distribution": lambda: _distribution(parts["distribution"]),
        "wasters": lambda: _runs(WASTERS, parts["wasters"]),
        "holders": lambda: _runs(HOLDERS, parts["holders"]),
    }
    for number, name in enumerate([show] if show else drawn):
        if number:
            click.echo()
        drawn[name]()


def _ranks(lines: list[dict], by: str, most: int) -> None:
    headings = {name: heading for name, heading in RANKS.items() if heading}
    headings = {"rank": "Rank", "name": by.capitalize(), **headings}
    kept = lines if len(lines) <= 2 * most else [*lines[:most], *lines[-most:]]
    rows = [{**line, "rank": None if line["rank"] is None else f"{line['rank']} of {line['of']}"} for line in kept]
    print_rows(rows, tuple(headings), "table", headings=headings, cells=_cell)
    if len(kept) < len(lines):
        click.echo(f"The best and the worst {most} of {len(lines)}.")


def _distribution(bins: list[dict]) -> None:
    click.echo("GPU-hours by the use of what was reserved, of what was measured")
    whole = sum(one["gpu_seconds"] for one in bins)
    if not whole:
        click.echo("Nothing was measured.")
        return
    longest = max(one["gpu_seconds"] for one in bins)
    mark = "█" if terminal()[1] else "#"
    for one in bins:
        name = (
            f"{100 * one['from']:.0f} % and more"
            if one["to"] is None
            else f"{100 * one['from']:.0f}-{100 * one['to']:.0f} %"
        )
        bar = mark * round(one["gpu_seconds"] / longest * _BAR)
        if one["gpu_seconds"]:
            bar = bar or mark
        click.echo(
            f"{name:>14} {bar:<{_BAR}} {one['gpu_seconds'] / 3600:10.2f} h {100 * one['gpu_seconds'] / whole:4.0f} %"
        )


def _runs(title: str, runs: list[dict]) -> None:
    click.echo(title)
    if not runs:
        click.echo("None.")
        return
    headings = {name: heading for name, heading in WASTE.items() if heading}
    print_rows(runs, tuple(headings), "table", headings=headings, cells=_cell)


def hours(seconds: float) -> str:
    """Return seconds as hours, with as many decimals as small ones need."""
    amount = seconds / 3600
    return f"{amount:.2f}" if amount >= 0.1 or not amount else f"{amount:.4f}"


def _cell(column: str, value: object) -> str:
    if column.startswith("gpu_seconds"):
        return hours(value)
    return f"{100 * value:.0f}" if column == "used_of_reserved" else str(value)
