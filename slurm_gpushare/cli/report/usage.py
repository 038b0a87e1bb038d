"""`gpushare report usage`."""

import click

from slurm_gpushare.cli.output import format_option, print_rows
from slurm_gpushare.cli.report.options import answered, chosen, midnight, nothing, selection_options
from slurm_gpushare.errors import RequestError

# The keys of Sums (slurm_gpushare/accounting/usage_report.py) without its group, and their headings.
SUMS = {
    "runs": "Runs",
    "jobs": "Jobs",
    "gpu_seconds_reserved": "Reserved h",
    "gpu_seconds_used": "Used h",
    "gpu_seconds_idle": "Idle h",
    "gpu_seconds_over": "Over h",
    "gpu_seconds_unmeasured": "Unmeasured h",
    "gpu_seconds_unattributed": "No job's h",
    "used_of_reserved": "Used %",
    "use_p95": "p95 %",
    "energy_joules": "kWh",
}


def _by(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    from slurm_gpushare.accounting.dimensions import parse_by

    try:
        return parse_by(text)
    except RequestError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.option(
    "--by",
    default="account",
    show_default=True,
    callback=_by,
    metavar="NAME[,…]",
    help="What to sum by: cluster, user, account, partition, qos, backend, gpu (its model), node, "
    "and one of day, week, month.",
)
@selection_options
@format_option(html=True)
def usage(
    by: tuple[str, ...], start: float | None, end: float | None, service: str | None, output_format: str, **names: tuple
) -> None:
    """Reserved and used GPU time by account, user, month or others; this month's, unless -S says otherwise.

    Hours are of whole GPUs. A job that was requeued has several runs, and counts where its last one is. A run that lies
    in part outside of the time counts with its part. "Unmeasured" is what was reserved while nobody measured the use;
    "Used %" and "p95 %" are of what was measured; "No job's h" is use of GPUs that is no job's, told by cluster, node,
    GPU and time alone. In JSON and CSV all times are in seconds.
    """
    selection = chosen(start, end, midnight().replace(day=1).timestamp(), **names)
    answer = answered("usage", service, selection, by=",".join(by))
    rows = [{**line["group"], **line} for line in answer.data["lines"]]
    if output_format == "html":
        _page(rows, by, selection, service, answer.data)
    elif output_format != "table":
        print_rows(rows, (*by, *SUMS), output_format)
    elif not rows:
        click.echo(nothing(selection))
    else:
        print_rows(rows, (*by, *SUMS), "table", headings=SUMS | {name: name.capitalize() for name in by}, cells=_sum)


def _page(rows: list[dict], by: tuple[str, ...], selection: object, service: str | None, data: dict) -> None:
    from slurm_gpushare.cli.report.html import show, table

    headings = SUMS | {name: name.capitalize() for name in by}
    unit = next((name for name in by if name in ("day", "month")), None)
    lines = table(
        f"Sums by {' and '.join(by)}",
        rows,
        (*by, *SUMS),
        headings=headings,
        cells=_sum,
        unit=lambda row: row[unit] if unit else None,
    )
    show("GPU time: reserved and used", selection, service, [lines], data, ("accounts", "heat", "timeline"))


def _sum(column: str, value: object) -> str:
    """Return a value as the table of sums shows it: hours, kWh and per cent."""
    if column.startswith("gpu_seconds"):
        return f"{value / 3600:.2f}"
    if column == "energy_joules":
        return f"{value / 3.6e6:.3f}"
    return f"{100 * value:.0f}" if column in ("used_of_reserved", "use_p95") else str(value)
