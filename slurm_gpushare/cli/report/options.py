"""What all reports share: the options that choose runs, and what is said around a report."""

import os
import shutil
import sys
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import click

from slurm_gpushare.cli.output import local_time
from slurm_gpushare.errors import GpushareError, RequestError

if TYPE_CHECKING:
    from slurm_gpushare.accounting.client import Answer
    from slurm_gpushare.accounting.selection import Selection


def moment(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    from slurm_gpushare.slurm.times import parse_time

    try:
        return None if text is None else parse_time(text, datetime.now())
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def listed(parse: str):
    """Return click's callback over a parser of selection.py; what it refuses is wrong usage."""

    def callback(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple | None:
        from slurm_gpushare.accounting import selection

        try:
            return None if text is None else getattr(selection, parse)(text)
        except RequestError as error:
            raise click.BadParameter(str(error)) from None

    return callback


def selection_options(command: Callable) -> Callable:
    """Add the options that choose runs, named and meant as sacct's."""
    for option in reversed(
        [
            click.option("-S", "--start", callback=moment, metavar="TIME", help="From then on."),
            click.option("-E", "--end", callback=moment, metavar="TIME", help="Until then. [default: now]"),
            click.option(
                *("-u", "--user", "users"),
                callback=listed("parse_users"),
                metavar="USER[,…]",
                help="Jobs of these users.",
            ),
            click.option(
                *("-A", "--account", "accounts"),
                callback=listed("parse_accounts"),
                metavar="ACCOUNT[,…]",
                help="Jobs of these accounts.",
            ),
            click.option(
                *("-r", "--partition", "partitions"),
                callback=listed("parse_partitions"),
                metavar="PARTITION[,…]",
                help="Jobs in these partitions.",
            ),
            click.option(
                *("-s", "--state", "states"),
                callback=listed("parse_states"),
                metavar="STATE[,…]",
                help="Jobs in these states, such as failed or TO.",
            ),
            click.option("--service", metavar="URL", help="Where `gpushare serve` answers; default: the policy's."),
        ]
    ):
        command = option(command)
    return command


def chosen(start: float | None, end: float | None, default: float, **names: tuple | None) -> "Selection":
    from slurm_gpushare.accounting.selection import Selection

    start = max(0.0, default if start is None else start)  # no job is older
    end = datetime.now().timestamp() if end is None else end
    if end < start:
        raise click.UsageError(f"-E {local_time(end)} lies before -S {local_time(start)}: write the earlier as -S")
    return Selection(start, end, **names)


def midnight() -> datetime:
    return datetime.now().replace(hour=0, minute=0, second=0, microsecond=0)


def warn(warnings: list[str]) -> None:
    for line in warnings:
        click.echo(f"gpushare: warning: {line}", err=True)


def nothing(selection: "Selection") -> str:
    whose = f" of {', '.join(selection.users)}" if selection.users else ""
    chosen = (selection.jobs, selection.accounts, selection.partitions, selection.states)
    which = " among those asked for" if any(chosen) else ""
    since, until = local_time(selection.start), local_time(selection.end)
    return f"No job{whose}{which} had a share of a GPU between {since} and {until}."


def terminal() -> tuple[int, bool]:
    """Return the terminal's columns, and whether it shows more than ASCII: by the locale, as other programs do."""
    locale = next((os.environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "")
    return shutil.get_terminal_size((100, 24)).columns, "utf" in locale.lower() and "utf" in sys.stdout.encoding.lower()


def the_service() -> str:
    from slurm_gpushare.node_policy import read_node_policy

    service = read_node_policy().service
    if service is None:
        raise GpushareError("the policy names no service: set agent.service and compile it, or give --service URL")
    return service


def answered(report: str, service: str | None, selection: "Selection", **parameters: str) -> "Answer":
    """Ask the service for a report, and tell its warnings on stderr.

    Its reconciliation with Slurm follows when the command is done: below a table, on stderr where others read stdout.
    """
    from slurm_gpushare.accounting.client import ask

    answer = ask(service or the_service(), report, selection, **parameters)
    warn(answer.warnings)
    if "reconciliation" in answer.data:
        context = click.get_current_context()
        is_table = context.params.get("output_format") == "table"
        line = answer.data["reconciliation"]["line"]
        context.call_on_close(
            lambda: click.echo(line if is_table else f"gpushare: reconciliation: {line}", err=not is_table)
        )
    return answer
