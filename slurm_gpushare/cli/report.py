"""`gpushare report`: what jobs reserved and what they used."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from slurm_gpushare.cli.output import format_option, print_rows
from slurm_gpushare.errors import GpushareError, RequestError
from slurm_gpushare.units import format_fraction

if TYPE_CHECKING:
    from slurm_gpushare.accounting.selection import Selection

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
# The keys of Sums (slurm_gpushare/accounting/usage_report.py) without its group, and their headings.
SUMS = {
    "runs": "Runs",
    "gpu_seconds_reserved": "Reserved h",
    "gpu_seconds_used": "Used h",
    "gpu_seconds_idle": "Idle h",
    "gpu_seconds_over": "Over h",
    "gpu_seconds_unmeasured": "Unmeasured h",
    "used_of_reserved": "Used %",
    "energy_joules": "kWh",
}
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


def _selection(command: Callable) -> Callable:
    """Add the options that choose runs, named and meant as sacct's."""
    for option in reversed(
        [
            click.option("-S", "--start", callback=_time, metavar="TIME", help="From then on."),
            click.option("-E", "--end", callback=_time, metavar="TIME", help="Until then. [default: now]"),
            click.option(
                *("-u", "--user", "users"),
                callback=_list("parse_users"),
                metavar="USER[,…]",
                help="Jobs of these users.",
            ),
            click.option(
                *("-A", "--account", "accounts"),
                callback=_list("parse_accounts"),
                metavar="ACCOUNT[,…]",
                help="Jobs of these accounts.",
            ),
            click.option(
                *("-r", "--partition", "partitions"),
                callback=_list("parse_partitions"),
                metavar="PARTITION[,…]",
                help="Jobs in these partitions.",
            ),
            click.option(
                *("-s", "--state", "states"),
                callback=_list("parse_states"),
                metavar="STATE[,…]",
                help="Jobs in these states, such as failed or TO.",
            ),
            click.option("--service", metavar="URL", help="Where `gpushare serve` answers; default: the policy's."),
        ]
    ):
        command = option(command)
    return command


def _chosen(start: float | None, end: float | None, default: float, **names: tuple | None) -> "Selection":
    from slurm_gpushare.accounting.selection import Selection

    start = default if start is None else start
    end = datetime.now().timestamp() if end is None else end
    if end < start:
        raise click.UsageError(f"-E {local_time(end)} lies before -S {local_time(start)}: write the earlier as -S")
    return Selection(start, end, **names)


def _midnight() -> datetime:
    return datetime.now().replace(hour=0, minute=0, second=0, microsecond=0)


def _warn(warnings: list[str]) -> None:
    for line in warnings:
        click.echo(f"gpushare: warning: {line}", err=True)


def _by(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    from slurm_gpushare.accounting.dimensions import parse_by

    try:
        return parse_by(text)
    except RequestError as error:
        raise click.BadParameter(str(error)) from None


@report.command()
@click.option(
    "--job", "-j", "refs", callback=_list("parse_jobs"), metavar="ID[,…]", help="These jobs, whenever they ran."
)
@_selection
@format_option()
def jobs(
    refs: tuple | None, start: float | None, end: float | None, service: str | None, output_format: str, **names: tuple
) -> None:
    """One line for each run of a job that had a share of a GPU; today's, unless -S or -j says otherwise.

    A job that was requeued has several. GPU-seconds are of whole GPUs: a quarter of a GPU reserved for 100 s is 25.
    What is not known is "-", never 0. In JSON and CSV times have their offset from UTC.
    """
    from slurm_gpushare.accounting.client import report_jobs

    selection = _chosen(start, end, 0.0 if refs else _midnight().timestamp(), jobs=refs, **names)
    answer = report_jobs(service or _service(), selection)
    _warn(answer.warnings)
    if output_format == "table":
        _table(answer.runs, selection)
    else:
        rows = ({**run, **{name: local_time(run[name]) for name in _TIMES}} for run in answer.runs)
        print_rows(rows, COLUMNS, output_format)


@report.command()
@click.option(
    "--by",
    default="account",
    show_default=True,
    callback=_by,
    metavar="NAME[,…]",
    help="What to sum by: cluster, user, account, partition, qos, backend, gpu (its model), node, "
    "and one of day, week, month.",
)
@_selection
@format_option()
def usage(
    by: tuple[str, ...], start: float | None, end: float | None, service: str | None, output_format: str, **names: tuple
) -> None:
    """Reserved and used GPU time by account, user, month or others; this month's, unless -S says otherwise.

    Hours are of whole GPUs. A run that lies in part outside of the time counts with its part. "Unmeasured" is what was
    reserved while nobody measured the use; "Used %" is of what was measured. In JSON and CSV all times are in seconds.
    """
    from slurm_gpushare.accounting.client import report_usage

    selection = _chosen(start, end, _midnight().replace(day=1).timestamp(), **names)
    answer = report_usage(service or _service(), by, selection)
    _warn(answer.warnings)
    rows = [{**line["group"], **line} for line in answer.lines]
    if output_format != "table":
        print_rows(rows, (*by, *SUMS), output_format)
    elif not rows:
        click.echo(_nothing(selection))
    else:
        print_rows(rows, (*by, *SUMS), "table", headings=SUMS | {name: name.capitalize() for name in by}, cells=_sum)


@report.command()
@_selection
@format_option()
def advice(start: float | None, end: float | None, service: str | None, output_format: str, **names: tuple) -> None:
    """With how much less of a GPU jobs would have done; those of the last 30 days, unless -S says otherwise.

    Jobs of a user that asked for the same are taken together. "Advice" is the smallest share in which each of them
    would have fitted: its use in 95 % of the time, and the most memory that it held. "Freed h" are the GPU-hours that
    others could have had. It rests on "Jobs" runs; of "Unknown" too little was measured.
    """
    from slurm_gpushare.accounting.client import report_advice

    selection = _chosen(start, end, (_midnight() - timedelta(days=30)).timestamp(), **names)
    answer = report_advice(service or _service(), selection)
    _warn(answer.warnings)
    if output_format != "table":
        print_rows(answer.lines, ADVICE, output_format)
    elif not answer.lines:
        click.echo("No job is known that would have done with a smaller share.")
    else:
        headings = {name: heading for name, heading in ADVICE.items() if heading}
        print_rows(answer.lines, tuple(headings), "table", headings=headings, cells=_advised)


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


def _nothing(selection: "Selection") -> str:
    whose = f" of {', '.join(selection.users)}" if selection.users else ""
    chosen = (selection.jobs, selection.accounts, selection.partitions, selection.states)
    which = " among those asked for" if any(chosen) else ""
    since, until = local_time(selection.start), local_time(selection.end)
    return f"No job{whose}{which} had a share of a GPU between {since} and {until}."


def _table(runs: list[dict], selection: "Selection") -> None:
    if not runs:
        click.echo(_nothing(selection))
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


def _sum(column: str, value: object) -> str:
    """Return a value as the table of sums shows it: hours, kWh and per cent."""
    if column.startswith("gpu_seconds"):
        return f"{value / 3600:.2f}"
    if column == "energy_joules":
        return f"{value / 3.6e6:.3f}"
    return f"{100 * value:.0f}" if column == "used_of_reserved" else str(value)


def _advised(column: str, value: object) -> str:
    if column == "sm_p95":
        return f"{100 * value:.0f}"
    if column.endswith("_bytes"):
        return f"{value / 1024**2:.0f}"
    if column.startswith("gpu_seconds"):
        return f"{value / 3600:.2f}"
    return f"gpu:{format_fraction(value)}" if column == "fraction_advised" else str(value)


def _service() -> str:
    from slurm_gpushare.node_policy import read_node_policy

    service = read_node_policy().service
    if service is None:
        raise GpushareError("the policy names no service: set agent.service and compile it, or give --service URL")
    return service
