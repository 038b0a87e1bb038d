"""`gpushare why`: why a job waits, and what would start sooner."""

import json
import os
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import click

from slurm_gpushare.paths import POLICY_YAML

if TYPE_CHECKING:
    from slurm_gpushare.slurm.job import Job
    from slurm_gpushare.slurm.view import Answer, View

POOL_TIMEOUT = 2.0  # seconds for a server of the pool to accept a connection


@click.command()
@click.argument("job")
@click.option("--format", "output_format", type=click.Choice(["text", "json"]), default="text", show_default=True)
def why(job: str, output_format: str) -> None:
    """Say why JOB waits, in plain words, and what would start sooner. JOB is 123, or 123_4 for a task of an array."""
    from slurm_gpushare.slurm.job import fetch_job
    from slurm_gpushare.slurm.why import explain_wait

    if not re.fullmatch(r"[1-9][0-9]{0,9}([_+][0-9]{1,9})?", job):
        raise click.BadParameter(f"{job!r} is not a job's number: write 123, or 123_4 for a task of an array")
    view = look(fetch_job(job))
    answer = explain_wait(view)
    if output_format == "json":
        fields = ("kind", "why", "details", "sooner", "expected_start")
        data = {"job_id": view.job.job_id, "state": view.job.state, "reason": view.job.reason or None}
        click.echo(json.dumps(data | {name: getattr(answer, name) for name in fields}, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(as_text(view, answer)))


def as_text(view: "View", answer: "Answer") -> list[str]:
    """Return the answer in lines."""
    from slurm_gpushare.slurm.why import clock

    request = view.job.grant.request if view.job.grant else None
    name = f"job {view.job.job_id}" + (f" ({request}, partition {','.join(view.job.partitions)})" if request else "")
    lines = [f"{name}: {answer.why[0]}", *(f"  {line}" for line in answer.why[1:] + answer.details)]
    lines += [f"sooner: {line}" for line in answer.sooner]
    if answer.expected_start:
        start = clock(answer.expected_start, view.now)
        lines.append(f"Slurm plans it for {start}, should the jobs before it use their whole time limits")
    return lines


def look(job: "Job") -> "View":
    """Ask Slurm and the pool for what the answer needs. Raises SlurmError."""
    from slurm_gpushare.slurm.licences import fetch_licences
    from slurm_gpushare.slurm.limits import parse_limit
    from slurm_gpushare.slurm.nodes import fetch_nodes
    from slurm_gpushare.slurm.view import View
    from slurm_gpushare.slurm.why import PLAIN

    if job.state != "PENDING" or job.reason in PLAIN:
        return View(job, (), {}, time.time())
    if parse_limit(job.reason) is not None:
        limit, in_use = _limit(job)
        return View(job, (), {}, time.time(), limit=limit, in_use=in_use)
    licences = fetch_licences()
    pooled = job.grant is not None and not licences.keys().isdisjoint(job.licences)
    return View(
        job,
        fetch_nodes(),
        licences,
        time.time(),
        ahead=_ahead(job),
        pool_away=silent_servers(pool_servers()) if pooled else (),
    )


def _ahead(job: "Job") -> int | None:
    from slurm_gpushare.slurm.squeue import fetch_ahead

    return None if job.priority is None else fetch_ahead(",".join(job.partitions), job.job_id, job.priority)


def _limit(job: "Job") -> tuple[dict[str, int], dict[int, dict[str, str]]]:
    """Return the limit that holds the job and what counts towards it; empty for what is not told."""
    from slurm_gpushare.slurm.command import SlurmError
    from slurm_gpushare.slurm.limits import fetch_limit_value, parse_limit
    from slurm_gpushare.slurm.squeue import fetch_holding

    limit = parse_limit(job.reason)
    try:
        value = fetch_limit_value(limit, job.qos, job.account, job.user)
    except SlurmError:
        value = {}  # slurmdbd may be away or private; the reason is known all the same
    if limit.of_one_job or limit.per_minute or limit.tres is None:
        return value, {}
    selection = [f"--qos={job.qos}"] if limit.of == "qos" else [f"--account={job.account}"]
    if limit.per == "user":
        selection.append(f"--user={job.user}")
    if limit.per == "account":
        selection.append(f"--account={job.account}")
    return value, fetch_holding(*selection)


def pool_servers(path: str = POLICY_YAML) -> list[str]:
    """Return the servers of pools, HOST:PORT, by the policy of this host; none where it has no valid one."""
    from slurm_gpushare.errors import PolicyError
    from slurm_gpushare.policy.load import load_policy

    if not os.path.exists(path):
        return []
    try:
        pools = load_policy(path).policy.backends.pools
    except PolicyError:
        return []
    return [server.address for pool in pools.values() for server in pool.servers]


def silent_servers(addresses: list[str]) -> list[str]:
    """Return those that accept no connection, each with the reason."""

    def attempt(address: str) -> str | None:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=POOL_TIMEOUT).close()
        except OSError as error:
            return f"{address} does not answer: {error.strerror or error}"
        return None

    if not addresses:
        return []
    with ThreadPoolExecutor(max_workers=min(32, len(addresses))) as threads:
        return [text for text in threads.map(attempt, addresses) if text is not None]
