"""`gpushare report advice`."""

from datetime import timedelta

import click

from slurm_gpushare.cli.output import format_option, print_rows
from slurm_gpushare.cli.report.options import answered, chosen, midnight, selection_options
from slurm_gpushare.units import format_fraction

# The keys of Advice (slurm_gpushare/accounting/advice.py) and their headings; "" is not in the table.
ADVICE = {
    "user": "User",
    "account": "Account",
    "backend": "Backend",
    "gpu": "GPU",
    "request": "Request",
    "fraction": "",
    "jobs": "Jobs",
    "jobs_unknown": "Unknown",
    "sm_p95": "p95 %",
    "memory_peak_bytes": "Peak MiB",
    "fraction_advised": "Advice",
    "memory_advised_bytes": "",
    "gpu_seconds_reserved": "Reserved h",
    "gpu_seconds_freed": "Freed h",
}


@click.command()
@selection_options
@format_option(html=True)
def advice(start: float | None, end: float | None, service: str | None, output_format: str, **names: tuple) -> None:
    """With how much less of a GPU jobs would have done; those of the last 30 days, unless -S says otherwise.

    Jobs of a user that asked for the same are taken together. "Advice" is the smallest share in which each of them
    would have fitted: its use in 95 % of the time, and the most memory that it held. "Freed h" are the GPU-hours that
    others could have had. It rests on "Jobs" runs; of "Unknown" too little was measured.
    """
    selection = chosen(start, end, (midnight() - timedelta(days=30)).timestamp(), **names)
    answer = answered("advice", service, selection)
    if output_format == "html":
        from slurm_gpushare.cli.report.html import show, table

        headings = {name: heading for name, heading in ADVICE.items() if heading}
        lines = table(
            "Who would have done with less", answer.data["lines"], tuple(headings), headings=headings, cells=_advised
        )
        show("Advice: smaller shares that would have done", selection, service, [lines], answer.data)
    elif output_format != "table":
        print_rows(answer.data["lines"], ADVICE, output_format)
    elif not answer.data["lines"]:
        click.echo("No job is known that would have done with a smaller share.")
    else:
        headings = {name: heading for name, heading in ADVICE.items() if heading}
        print_rows(answer.data["lines"], tuple(headings), "table", headings=headings, cells=_advised)


def _advised(column: str, value: object) -> str:
    if column == "sm_p95":
        return f"{100 * value:.0f}"
    if column.endswith("_bytes"):
        return f"{value / 1024**2:.0f}"
    if column.startswith("gpu_seconds"):
        return f"{value / 3600:.2f}"
    return f"gpu:{format_fraction(value)}" if column == "fraction_advised" else str(value)
