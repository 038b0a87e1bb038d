"""The three forms in which every command prints data: table, JSON, CSV."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

import click

FORMATS = ("table", "json", "csv")

Row = Mapping[str, object]


def format_option(default: str = "table", html: bool = False) -> Callable:
    """Return the decorator that adds ``--format table|json|csv``, passed to the command as ``output_format``.

    With ``html`` it may be that too, which the command itself prints.
    """
    return click.option(
        "--format",
        "output_format",
        type=click.Choice((*FORMATS, "html") if html else FORMATS),
        default=default,
        show_default=True,
        help="How to print the data.",
    )


def print_rows(
    rows: Iterable[Row],
    columns: Sequence[str],
    output_format: str,
    *,
    headings: Mapping[str, str] | None = None,
    cells: Callable[[str, object], str] | None = None,
    title: str | None = None,
) -> None:
    """Print ``rows`` with ``columns`` in that order, in one of FORMATS, to stdout.

    JSON is a list of objects with null for None. CSV has the keys as its first line and an empty field for None.
    A table has ``headings`` (default: the keys) and each value as ``cells(column, value)`` writes it; None is "-".
    """
    data = [{name: row.get(name) for name in columns} for row in rows]
    if output_format == "json":
        click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))
    elif output_format == "csv":
        writer = csv.DictWriter(sys.stdout, fieldnames=list(columns), lineterminator="\n")
        writer.writeheader()
        for row in data:
            writer.writerow({name: _csv_cell(value) for name, value in row.items()})
    else:
        _print_table(data, columns, headings or {}, cells or (lambda _, value: str(value)), title)


def print_object(data: Row, output_format: str) -> None:
    """Print one object: its fields below each other as a table, one JSON object, or a CSV of one line."""
    if output_format == "json":
        click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))
    elif output_format == "csv":
        print_rows([data], list(data), "csv")
    else:
        rows = [{"name": name, "value": _csv_cell(value)} for name, value in data.items()]
        print_rows(rows, ("name", "value"), "table")


def local_time(moment: float | None) -> str | None:
    """Return seconds since the epoch as ISO 8601 in the local time zone, with its offset."""
    return None if moment is None else datetime.fromtimestamp(round(moment)).astimezone().isoformat()


def _csv_cell(value: object) -> object:
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value


def _print_table(
    data: list[Row],
    columns: Sequence[str],
    headings: Mapping[str, str],
    cells: Callable[[str, object], str],
    title: str | None,
) -> None:
    # rich takes a tenth of a second to import, which JSON and CSV need not pay.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=SIMPLE_HEAD,
        title=None if title is None else Text(title),
        title_justify="left",
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in columns:
        values = [row[name] for row in data if row[name] is not None]
        numeric = bool(values) and all(isinstance(value, (int, float)) for value in values)
        table.add_column(Text(headings.get(name, name)), justify="right" if numeric else "left", overflow="fold")
    for row in data:
        table.add_row(*(Text("-" if row[name] is None else cells(name, row[name])) for name in columns))
    # A pipe has no width: rich would take 80 columns and fold what a reader greps for.
    width = None if sys.stdout.isatty() else 240
    Console(file=sys.stdout, width=width, highlight=False, soft_wrap=False).print(table)
