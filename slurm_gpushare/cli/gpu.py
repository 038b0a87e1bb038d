"""`gpushare gpu drain`, `resume` and `list`: GPUs and servers of a pool out of service and back."""

import os
import pwd
import re
import time
from dataclasses import asdict

import click

from slurm_gpushare.cli.output import format_option, local_time, print_rows
from slurm_gpushare.errors import GpushareError, RefusedError, RequestError

COLUMNS = ("target", "kind", "since", "by", "reason", "held_by", "jobs")
HEADINGS = {
    "target": "Out of service",
    "kind": "Kind",
    "since": "Since",
    "by": "By",
    "reason": "Reason",
    "held_by": "Held by",
    "jobs": "Jobs",
}


@click.group()
def gpu() -> None:
    """Take a GPU of a node, or a server of the pool, out of service and back; say what is out of service.

    A node's GPU is NODE:GPU, by Slurm's number of it (n1:0); a server of the pool is its name in the policy.
    """


@gpu.command()
@click.argument("target", metavar="NODE:GPU|SERVER")
@click.option("--reason", required=True, help="Why; kept by Slurm, shown to everybody.")
@click.option("--partition", help="Of the node: where the job runs that holds its GPU; the node's first by default.")
def drain(target: str, reason: str, partition: str | None) -> None:
    """Let no new job have a share of it. Jobs that run on a server keep theirs; a node's GPU must be idle."""
    from slurm_gpushare.drain import servers
    from slurm_gpushare.drain.hold import check_reason, parse_target, write_comment
    from slurm_gpushare.slurm.licences import fetch_licences
    from slurm_gpushare.status.jobs import fetch_jobs

    name, number = parse_target(target)
    target = _target(name, number)
    comment = write_comment(target, _caller(), time.time(), check_reason(reason))
    if number is not None:
        _drain_gpu(target, name, number, comment, partition)
        return
    if partition is not None:
        raise RequestError(f"--partition {partition}: {target} is a server of the pool: leave it out")
    if hold := servers.fetch_holds().get(name):
        _already(hold)
        return
    licences = servers.licences_of(name, fetch_licences().values())
    reservation = servers.drain(name, licences, comment)
    jobs = servers.with_jobs(servers.fetch_holds()[name], fetch_jobs()).jobs
    keep = f"; still there until they end: jobs {' '.join(map(str, jobs))}" if jobs else "; no job has a share of it"
    click.echo(f"{target} is out of service: reservation {reservation} keeps its {len(licences)} GPUs{keep}")


@gpu.command()
@click.argument("target", metavar="NODE:GPU|SERVER")
def resume(target: str) -> None:
    """Let jobs have shares of it again: takes away what `gpushare gpu drain` made, and nothing else."""
    from slurm_gpushare.drain import nodes, servers
    from slurm_gpushare.drain.hold import parse_target
    from slurm_gpushare.slurm.licences import fetch_licences

    name, number = parse_target(target)
    target = _target(name, number)
    if number is not None:
        found = nodes.resume(target, _require_root())
        if not found:
            _node(name, number)
    elif found := name in servers.fetch_holds():
        servers.resume(name)
    else:
        servers.licences_of(name, fetch_licences().values())
    click.echo(f"{target} is in service {'again' if found else 'already'}")


@gpu.command("list")
@format_option()
def list_(output_format: str) -> None:
    """Show what is out of service: since when, by whom, why, and which jobs still have shares there."""
    from slurm_gpushare.drain.held import fetch_held

    rows = [asdict(hold) for hold in fetch_held()]
    if output_format != "json":
        rows = [{**row, "jobs": " ".join(map(str, row["jobs"])) or None} for row in rows]
    if rows or output_format != "table":
        print_rows(rows, COLUMNS, output_format, headings=HEADINGS, cells=_cell)
    else:
        click.echo("no GPU and no server was taken out of service by `gpushare gpu drain`")


def _cell(column: str, value: object) -> str:
    return str(local_time(value) if column == "since" else value)


def _target(name: str, number: int | None) -> str:
    return name if number is None else f"{name}:{number}"


def _already(hold: object) -> None:
    click.echo(f"{hold.target} is out of service already, since {local_time(hold.since)} by {hold.by}: {hold.reason}")


def _drain_gpu(target: str, name: str, number: int, comment: str, partition: str | None) -> None:
    from slurm_gpushare.drain import nodes
    from slurm_gpushare.node_policy import read_node_policy
    from slurm_gpushare.status.jobs import fetch_jobs

    slurm_user = _require_root()
    node = _node(name, number)
    for holder in nodes.fetch_holders(slurm_user):
        if holder.in_place and holder.hold.target == target:
            _already(holder.hold)
            return
    try:
        policy = read_node_policy()
    except GpushareError:
        policy = None
    nodes.check(node, number, fetch_jobs(), policy)
    if partition is None and not node.partitions:
        raise RefusedError(f"{target}: {name} is in no partition: no job can have its GPU")
    job = nodes.drain(node, number, comment, partition or node.partitions[0], slurm_user)
    click.echo(f"{target} is out of service: job {job} holds it, and one CPU of {name}")


def _node(name: str, number: int) -> object:
    """Return the node as Slurm has it."""
    from slurm_gpushare.slurm.nodes import fetch_nodes

    found = {node.name: node for node in fetch_nodes()}
    if name not in found:
        raise RequestError(f"{name}:{number}: Slurm has no node {name}: a server of the pool is its name alone")
    if number >= len(found[name].gpus):
        raise RequestError(
            f"{name}:{number}: {name} has {len(found[name].gpus)} GPUs, counted from 0: write one of them"
        )
    return found[name]


def _require_root() -> int:
    """Return the uid of SlurmUser; raises RefusedError unless root or that user asks."""
    from slurm_gpushare.slurm.config import slurm_user

    uid = slurm_user()
    if os.geteuid() not in (0, uid):
        raise RefusedError("only root and SlurmUser take GPUs of nodes out of service and back: write this as root")
    return uid


def _caller() -> str:
    """Return who does this: root's own word for it where sudo says who became root."""
    name = os.environ.get("SUDO_USER", "") if os.getuid() == 0 else ""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}", name):
        return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
