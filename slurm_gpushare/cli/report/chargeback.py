"""`gpushare report chargeback`."""

from datetime import timedelta
from decimal import Decimal

import click

from slurm_gpushare.cli.output import format_option, print_rows
from slurm_gpushare.cli.report.options import answered, chosen, midnight, nothing, selection_options

# The keys of Charge (slurm_gpushare/accounting/chargeback.py) and their headings; "" is not in the table.
CHARGE = {
    "period": "Month",
    "period_start": "",
    "period_end": "",
    "account": "Account",
    "user": "User",
    "backend": "Backend",
    "gpu": "GPU",
    "gpu_hours": "GPU-hours",
    "rate": "Rate",
    "amount": "Amount",
    "currency": "",
}
_DECIMAL = ("gpu_hours", "rate", "amount")


@click.command()
@selection_options
@format_option(html=True)
def chargeback(start: float | None, end: float | None, service: str | None, output_format: str, **names: tuple) -> None:
    """What reserved GPU-hours cost by the policy's rates; last month's, unless -S or -E says otherwise.

    A line for each month, account, user, backend and GPU model. Amounts are hours times rate, rounded to hundredths,
    half up; the total is the sum of the lines. What has no rate is "-", and is told on stderr.
    """
    this_month = midnight().replace(day=1)
    if start is None and end is None:
        end = this_month.timestamp()
    selection = chosen(start, end, (this_month - timedelta(days=1)).replace(day=1).timestamp(), **names)
    answer = answered("chargeback", service, selection)
    lines = answer.data["lines"]
    if output_format == "json":
        numbers = ({**line, **{name: _number(line[name]) for name in _DECIMAL}} for line in lines)
        print_rows(numbers, tuple(CHARGE), "json")
    elif output_format == "csv":
        print_rows(lines, tuple(CHARGE), "csv")
    elif output_format == "html":
        from slurm_gpushare.cli.report.html import show, table

        headings, rows = _readable(lines, answer.data["currency"])
        told = _total(lines, answer.data["total"], answer.data["currency"])
        tables = [table("Amounts", rows, tuple(headings), headings=headings, cells=_cell, says=told)]
        show("What reserved GPU-hours cost", selection, service, tables, answer.data)
    elif not lines:
        click.echo(nothing(selection))
    else:
        _table(lines, answer.data["total"], answer.data["currency"])


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def _table(lines: list[dict], total: str, currency: str) -> None:
    headings, rows = _readable(lines, currency)
    print_rows(rows, tuple(headings), "table", headings=headings, cells=_cell)
    click.echo(_total(lines, total, currency))


def _readable(lines: list[dict], currency: str) -> tuple[dict[str, str], list[dict]]:
    """Return headings and rows of the table."""
    headings = {name: heading for name, heading in CHARGE.items() if heading} | {"amount": f"Amount {currency}"}
    # Numbers, so that the table sets them to the right.
    return headings, [{**line, **{name: _number(line[name]) for name in _DECIMAL}} for line in lines]


def _cell(column: str, value: object) -> str:
    if column == "rate":
        return f"{value:.15g}"
    return f"{value:.{6 if column == 'gpu_hours' else 2}f}" if column in _DECIMAL else str(value)


def _total(lines: list[dict], total: str, currency: str) -> str:
    """Return the line below the table."""
    hours = sum((Decimal(line["gpu_hours"]) for line in lines if line["gpu_hours"] is not None), Decimal(0))
    unpriced = sum(line["amount"] is None for line in lines)
    partly = (
        f", without {unpriced} line{'s' * (unpriced != 1)} that {'have' if unpriced != 1 else 'has'} no amount"
        if unpriced
        else ""
    )
    return f"Total: {hours} GPU-hours, {total} {currency}{partly}"
