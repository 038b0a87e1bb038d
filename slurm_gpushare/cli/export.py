"""`gpushare export`: the store's rows for other programs."""

import time
from pathlib import Path

import click

from slurm_gpushare.cli.report.options import moment, the_service

WHAT = ("usage", "jobs", "hours", "series")
FORMATS = ("parquet", "csv")


@click.command()
@click.option("--to", required=True, metavar="FOLDER|FILE", help="Where: a folder, or the file for one --what.")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="parquet", show_default=True, help="Of the files."
)
@click.option(
    "--what", type=click.Choice(WHAT), multiple=True, help="Which rows; may be given again. [default: all but series]"
)
@click.option("-S", "--start", callback=moment, metavar="TIME", help="What ended from then on. [default: all]")
@click.option("-E", "--end", callback=moment, metavar="TIME", help="What ended before then. [default: now]")
@click.option("--service", metavar="URL", help="Where `gpushare serve` answers; default: the policy's.")
def export(
    to: str, form: str, what: tuple[str, ...], start: float | None, end: float | None, service: str | None
) -> None:
    """Write usage records, runs of jobs, GPUs' hours and courses of use into files; for operators alone.

    A period takes each row once, by its end (an hour of a GPU: by its beginning). Times are in UTC, null is unknown.
    """
    from slurm_gpushare.accounting.client import export as rows
    from slurm_gpushare.accounting.export import write

    start, end = start or 0.0, time.time() if end is None else end
    if end < start:
        raise click.UsageError("-E lies before -S: write the earlier as -S")
    path = Path(to)
    into_folder = path.is_dir() or to.endswith("/") or len(what) != 1
    if into_folder:
        path.mkdir(parents=True, exist_ok=True)
    for name in what or WHAT[:3]:
        file = path / f"{name}.{form}" if into_folder else path
        count = write(name, rows(service or the_service(), name, start, end), file, form)
        click.echo(f"{file}: {count} row{'s' * (count != 1)}")
