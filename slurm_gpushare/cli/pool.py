"""`gpushare pool [status]` and `gpushare pool sync`."""

import json
import shlex
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from slurm_gpushare.cli.output import format_option, print_rows
from slurm_gpushare.errors import EXIT_FAILED, GpushareError, PolicyError
from slurm_gpushare.paths import POLICY_YAML

if TYPE_CHECKING:
    from slurm_gpushare.policy.schema import Bitfusion
    from slurm_gpushare.pool.compare import PoolState

COLUMNS = (
    *("server", "address", "state", "gpu", "model", "memory", "pool_used", "slurm_used", "withheld"),
    "jobs",
)
HEADINGS = {
    "server": "Server",
    "address": "Address",
    "state": "State",
    "gpu": "GPU",
    "model": "Model",
    "memory": "Memory",
    "pool_used": "Pool",
    "slurm_used": "Slurm",
    "withheld": "Withheld",
    "jobs": "Jobs",
}
JOB_HEADINGS = {
    "job_id": "JobID",
    "user": "User",
    "state": "State",
    "share": "Request",
    "gpus": "GPUs",
    "since": "Since",
}
JOB_COLUMNS = ("job_id", "user", "state", "share", "held", "since")
ROUNDS = 3  # of setting licences and looking whether they are right

policy_option = click.option("--policy", "file", default=POLICY_YAML, show_default=True, help="The policy.")


class StatusByDefault(click.Group):
    """A group whose command is ``status`` where none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
            args = ["status", *args]
        return super().parse_args(ctx, args)


@click.group(cls=StatusByDefault)
def pool() -> None:
    """What of the pool is in use, by whom, and what differs between the pool, Slurm and the policy.

    Without a command: status. Needs a host with the pool's client, Slurm's commands and the policy.
    """


@pool.command()
@policy_option
@format_option()
@click.pass_context
def status(context: click.Context, file: str, output_format: str) -> None:
    """Show servers, GPUs, jobs and differences. Exit status 1: something is wrong that does not pass by itself."""
    context.exit(show_status(file, output_format))


@pool.command()
@policy_option
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--here", is_flag=True, help="Only give back what jobs that are over left on this node.")
@click.option("--tries", default=3, show_default=True, type=click.IntRange(1, 100), help="How often to look.")
@click.option(
    "--pause", default=5.0, show_default=True, type=click.FloatRange(0, 600), help="Seconds between two looks."
)
@click.pass_context
def sync(context: click.Context, file: str, dry_run: bool, here: bool, tries: int, pause: float) -> None:
    """Make Slurm's licences follow the pool, and give back what jobs that are over left on this host.

    A server, or a GPU of one, is taken out of use only where it is away in every one of the tries, and so much as an
    allocation past Slurm holds; all is given back as soon as one look finds it well. Needs a Slurm operator's rights.
    """
    settings = None if here else _pool(file)
    well = _sync_leftovers(dry_run, here)  # first: what is given back need not be kept from jobs
    if settings is not None:
        well = _sync_licences(*settings, dry_run, tries, pause) and well
    context.exit(0 if well else EXIT_FAILED)


def _pool(file: str) -> tuple["Bitfusion", int]:
    from slurm_gpushare.policy.load import load_policy

    policy = load_policy(file).policy
    if policy.backends.bitfusion is None:
        raise PolicyError(f"{file}: has no backends.bitfusion: there is no pool to look at")
    return policy.backends.bitfusion, policy.slices_per_gpu


def show_status(file: str, output_format: str) -> int:
    """Print what the pool is in one of the forms; return 1 where a difference is a fault."""
    from slurm_gpushare.pool.compare import compare
    from slurm_gpushare.pool.look import take_look

    settings, slices = _pool(file)
    state = compare(settings, slices, take_look(settings))
    gpus = [asdict(gpu) for gpu in state.gpus]
    if output_format == "json":
        data = {
            "placement": settings.placement,
            "gpus_total": state.total,
            "gpus_used_pool": round(state.pool_used, 4),
            "gpus_used_slurm": round(state.slurm_used, 4),
            "gpus": gpus,
            "jobs": [asdict(job) for job in state.jobs],
            "differences": [asdict(difference) for difference in state.differences],
        }
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
    elif output_format == "csv":
        print_rows([{**gpu, "jobs": " ".join(map(str, gpu["jobs"]))} for gpu in gpus], COLUMNS, "csv")
        for difference in state.differences:
            click.echo(f"gpushare: {difference.text}", err=True)
    else:
        _tables(settings, state, gpus)
    return EXIT_FAILED if any(difference.fault for difference in state.differences) else 0


def _tables(settings: "Bitfusion", state: "PoolState", gpus: list[dict]) -> None:
    from slurm_gpushare.units import format_fraction

    columns = [name for name in COLUMNS if name != "model"]
    if settings.placement == "flat":
        columns = [name for name in columns if name not in ("slurm_used", "withheld", "jobs")]
    rows = [{**gpu, "jobs": ",".join(map(str, gpu["jobs"])) or None} for gpu in gpus]
    print_rows(rows, columns, "table", headings=HEADINGS, cells=_cell)
    used, held = (format_fraction(round(amount, 4)) for amount in (state.pool_used, state.slurm_used))
    click.echo(f"{state.total} GPUs: {used} in use as the pool says, {held} held by Slurm's jobs\n")
    if state.jobs:
        print_rows(
            (
                {
                    "job_id": job.job_id,
                    "user": job.user,
                    "state": job.state,
                    "share": job.request,
                    "held": " ".join(f"{name}:{count}" for name, count in job.held.items()) or None,
                    "since": job.since,
                }
                for job in state.jobs
            ),
            JOB_COLUMNS,
            "table",
            headings={**JOB_HEADINGS, "held": "Licences"},
            cells=_cell,
        )
        click.echo()
    for difference in state.differences:
        click.echo(f"{'differs' if difference.fault else 'note'}: {difference.text}")
    if not state.differences:
        click.echo("policy, pool and Slurm agree")


def _cell(column: str, value: object) -> str:
    from slurm_gpushare.cli.output import local_time
    from slurm_gpushare.units import format_fraction, format_memory

    if column in ("pool_used", "slurm_used", "withheld"):
        return format_fraction(round(value, 4))
    if column == "since":
        return str(local_time(value))
    return format_memory(value) if column == "memory" else str(value)


def _sync_licences(settings: "Bitfusion", slices: int, dry_run: bool, tries: int, pause: float) -> bool:
    """Set Slurm's licences; return whether all is as it should be then."""
    from slurm_gpushare.pool.compare import compare
    from slurm_gpushare.pool.look import take_look
    from slurm_gpushare.pool.plan import acts, wanted
    from slurm_gpushare.slurm.command import run_slurm
    from slurm_gpushare.slurm.config import cluster_name
    from slurm_gpushare.slurm.licences import fetch_licences

    states = []
    for number in range(tries):
        if number:
            time.sleep(pause)
        look = take_look(settings)
        states.append(compare(settings, slices, look))
        if not (states[-1].absent or states[-1].lost or states[-1].excess):
            break
    licences, cluster = look.licences, cluster_name()
    wants = wanted(settings, slices, states, licences)
    done = 0
    for _ in range(ROUNDS):
        todo, left = acts(wants, licences, cluster)
        for act in todo:
            click.echo(f"{'would run' if dry_run else 'run'} `{shlex.join(act.argv)}`: {act.why}")
            if not dry_run:
                run_slurm(list(act.argv), 30.0)
        done += len(todo)
        if dry_run or not todo:
            break
        licences = fetch_licences()
    for difference in states[-1].differences:
        if difference.kind in ("server_unlisted", "server_unknown", "gpu_unknown", "job_tied"):
            click.echo(f"note: {difference.text}")
    for line in left:
        click.echo(f"gpushare: {line}", err=True)
    if todo and not dry_run:
        name = next(iter(todo)).argv
        click.echo(f"gpushare: slurmctld did not take it: {shlex.join(name)}", err=True)
        return False
    if not done and not left:
        answer = sum(gpu.pool_used is not None for gpu in states[-1].gpus)
        click.echo(f"{answer} of {states[-1].total} GPUs are there; Slurm's licences are right")
    return not left


def _sync_leftovers(dry_run: bool, here: bool) -> bool:
    """Give back what jobs that are over left on this host; return whether all went well."""
    import os

    from slurm_gpushare.pool.jobs import fetch_active
    from slurm_gpushare.pool.leftovers import find_leftovers, give_back

    if os.geteuid() != 0:
        if here:
            raise GpushareError("giving back what other users' jobs left needs root")
        return True
    found = find_leftovers(fetch_active)
    well = True
    for left in found:
        what = f"what job {left.job_id}, which is over, left in {left.path}"
        why = None if dry_run else give_back(left)
        if why is not None:
            well = False
            click.echo(f"gpushare: {what}: {why}", err=True)
        else:
            click.echo(f"{'would give' if dry_run else 'gave'} back {what}")
    if here and not found:
        click.echo("no job that is over left anything on this node")
    return well
