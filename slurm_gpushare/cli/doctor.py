"""`gpushare doctor`."""

import re

import click

from slurm_gpushare.cli.output import print_rows

COLUMNS = ("status", "check", "found", "remedy")


@click.command()
@click.option(
    "--role",
    type=click.Choice(["controller", "login", "node", "accounting"]),
    help="What this host is; default: by what runs here.",
)
@click.option("--job", metavar="ID", help="Follow this job instead: 12, or 12_3 for a task of an array.")
@click.option("--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True)
def doctor(role: str | None, job: str | None, output_format: str) -> int:
    """Check this host, or follow one job from request to report and say where it broke.

    Each line is ok, warn, fail or skip (it cannot be seen from here), with what was found and what to do. The exit
    status is 1 where a line says fail, else 0.
    """
    from slurm_gpushare.doctor.check import exit_status

    if job is not None and role is not None:
        raise click.UsageError("--role says nothing of a job: leave it away with --job")
    found = _job(job) if job is not None else _host(role)
    rows = [
        {"status": each.status, "check": name, "found": each.found, "remedy": each.remedy or None}
        for name, each in found
    ]
    print_rows(rows, COLUMNS, output_format)
    return exit_status(each for _, each in found)


def _host(role: str | None) -> list:
    from slurm_gpushare.doctor.check import run_checks
    from slurm_gpushare.doctor.host import gather
    from slurm_gpushare.doctor.subjects import CHECKS

    return [(check.name, finding) for check, finding in run_checks(CHECKS, gather(role))]


def _job(job: str) -> list:
    from slurm_gpushare.doctor.job import follow
    from slurm_gpushare.doctor.job_door import look

    if not re.fullmatch(r"[1-9][0-9]{0,9}(_[0-9]{1,9})?", job):
        raise click.BadParameter(f"{job!r} is not a job's number: write 123, or 123_4 for a task of an array")
    return follow(look(job))
