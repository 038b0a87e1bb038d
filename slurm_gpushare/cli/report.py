"""`gpushare report`: what jobs reserved and what they used."""

from datetime import datetime

import click

from slurm_gpushare.cli.output import format_option, print_rows
from slurm_gpushare.errors import GpushareError, RequestError
from slurm_gpushare.units import format_fraction

# The contract's keys, in its order (slurm_gpushare/accounting/report.py has the type; importing it is not needed here).
COLUMNS = (
    *("cluster", "job_id", "submit", "restart", "user", "account", "partition", "qos", "state", "request", "backend"),
    *("gpus", "fraction", "nodes", "array_job_id", "array_task_id", "start", "end", "elapsed_seconds"),
    *("gpu_seconds_reserved", "gpu_seconds_used", "gpu_seconds_idle", "gpu_seconds_over"),
    *("memory_peak_bytes", "energy_joules", "quality", "coverage", "enforces", "reason"),
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


@click.group()
def report() -> None:
    """What jobs reserved and what they used."""


def _time(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    from slurm_gpushare.slurm.times import parse_time

    try:
        return None if text is None else parse_time(text, datetime.now())
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _list(parse: str):
    """Return click's callback over a parser of selection.py; what it refuses is wrong usage."""

    def callback(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple | None:
        from slurm_gpushare.accounting import selection

        try:
            return None if text is None else getattr(selection, parse)(text)
        except RequestError as error:
            raise click.BadParameter(str(error)) from None

    return callback


@report.command()
@click.option("-S", "--start", callback=_time, metavar="TIME", help="From then on. [default: today, 00:00]")
@click.option("-E", "--end", callback=_time, metavar="TIME", help="Until then. [default: now]")
@click.option("-u", "--user", "users", callback=_list("parse_users"), metavar="USER[,…]", help="Jobs of these users.")
@click.option(
    "--job", "-j", "refs", callback=_list("parse_jobs"), metavar="ID[,…]", help="These jobs, whenever they ran."
)
@click.option("--service", metavar="URL", help="Where `gpushare serve` answers; default: this node's policy.")
@format_option()
def jobs(
    start: float | None,
    end: float | None,
    users: tuple | None,
    refs: tuple | None,
    service: str | None,
    output_format: str,
) -> None:
    """One line for each run of a job that had a share of a GPU.

    A job that was requeued has several. GPU-seconds are of whole GPUs: a quarter of a GPU reserved for 100 s is 25.
    What is not known is "-", never 0. In JSON and CSV times have their offset from UTC.
    """
    from slurm_gpushare.accounting.client import report_jobs
    from slurm_gpushare.accounting.selection import Selection

    now = datetime.now()
    if start is None:
        start = 0.0 if refs else now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    end = now.timestamp() if end is None else end
    if end < start:
        raise click.UsageError(f"-E {local_time(end)} lies before -S {local_time(start)}: write the earlier as -S")
    answer = report_jobs(service or _service(), Selection(start, end, users=users, jobs=refs))
    for line in answer.warnings:
        click.echo(f"gpushare: warning: {line}", err=True)
    if output_format == "table":
        _table(answer.runs, start, end, users, refs)
    else:
        rows = ({**run, **{name: local_time(run[name]) for name in _TIMES}} for run in answer.runs)
        print_rows(rows, COLUMNS, output_format)


def local_time(moment: float | None) -> str | None:
    """Return seconds since the epoch as ISO 8601 in the local time zone, with its offset."""
    return None if moment is None else datetime.fromtimestamp(round(moment)).astimezone().isoformat()


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


def _table(runs: list[dict], start: float, end: float, users: tuple | None, refs: tuple | None) -> None:
    if not runs:
        whose = f" of {', '.join(users)}" if users else ""
        which = " among those asked for" if refs else ""
        click.echo(f"No job{whose}{which} had a share of a GPU between {local_time(start)} and {local_time(end)}.")
        return
    print_rows(({"id": job_name(run), **run} for run in runs), tuple(HEADINGS), "table", headings=HEADINGS, cells=_cell)
    click.echo(totals(runs))


def _cell(column: str, value: object) -> str:
    if column == "elapsed_seconds":
        return elapsed_text(value)
    if column in ("gpu_seconds_reserved", "gpu_seconds_used"):
        return f"{value:.1f}"
    if column == "memory_peak_bytes":
        return f"{value / 1024**2:.0f}"
    return format_fraction(value) if column in ("fraction", "gpus") else str(value)


def _service() -> str:
    from slurm_gpushare.node_policy import read_node_policy

    service = read_node_policy().service
    if service is None:
        raise GpushareError("the policy names no service: set agent.service and compile it, or give --service URL")
    return service
