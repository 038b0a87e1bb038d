"""`gpushare status`: every GPU of the cluster, who has it, what is measured now."""

import csv
import json
import shutil
import sys
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from slurm_gpushare.cli.output import format_option, print_rows
from slurm_gpushare.errors import GpushareError
from slurm_gpushare.paths import NODE_POLICY, POLICY_YAML
from slurm_gpushare.units import MIB, format_fraction

if TYPE_CHECKING:
    from slurm_gpushare.status.compose import GpuStatus, JobShare, Place, Status

HEADINGS = {
    "node": "Node",
    "gpu": "GPU",
    "type": "Type",
    "model": "Model",
    "state": "State",
    "given": "Given",
    "sm": "SM",
    "memory": "Memory MiB",
    "age": "Age",
    "job": "Job",
    "user": "User",
    "share": "Share",
    "backend": "Backend",
    "job_sm": "SM",
    "job_memory": "MiB",
    "enforced": "Enforced",
}
ELSEWHERE = {
    "job": "Job",
    "user": "User",
    "backend": "Backend",
    "request": "Request",
    "slices": "Slices",
    "job_sm": "SM",
    "job_memory": "MiB",
    "enforced": "Enforced",
}
_WIDE = 150  # columns of a terminal
_GPU_KEYS = ("node", "kind", "gpu", "type", "model", "uuid", "fraction", "state", "reason", "agent")
_GPU_KEYS += ("slices", "slices_given", "slices_hidden", "pool_used", "sm", "memory", "memory_total", "power", "age")
_JOB_KEYS = (
    "job_id",
    "job",
    "user",
    "state",
    "since",
    "backend",
    "request",
    "fraction",
    "gpus",
    "slices",
    "sm",
    "memory",
)
_HOLDS = ("memory", "compute", "faults")
# One line for each GPU and each job on it. A job on no GPU that can be named has the columns of the GPU empty.
CSV_COLUMNS = (*_GPU_KEYS, *(f"job_{name.removeprefix('job_')}" for name in _JOB_KEYS))
CSV_COLUMNS += tuple(f"job_enforces_{name}" for name in _HOLDS)


def _names(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    from slurm_gpushare.status.jobs import expand_nodes

    if text is None:
        return None
    names = expand_nodes(text)
    if not names:
        raise click.BadParameter(f"{text!r} is no list of names: write such as n1 or n[1-3,7]")
    return names


@click.command()
@click.option("--node", "-w", "only", callback=_names, metavar="NAME[,…]", help="These nodes and servers alone.")
@click.option("--partition", "-p", metavar="NAME", help="The nodes of this partition alone.")
@click.option(
    "--watch",
    is_flag=False,
    flag_value=5.0,
    type=click.FloatRange(1, 3600),
    metavar="[SECONDS]",
    help="Show it again and again, every 5 s by default; JSON has one line each time.",
)
@click.option("--service", metavar="URL", help="Where `gpushare serve` answers; default: this host's policy.")
@click.option("--policy", "policy_file", default=POLICY_YAML, show_default=True, help="The policy, for pools.")
@click.option("--node-policy", default=NODE_POLICY, show_default=True, help="The compiled policy.")
@format_option()
def status(
    only: tuple[str, ...] | None,
    partition: str | None,
    watch: float | None,
    service: str | None,
    policy_file: str,
    node_policy: str,
    output_format: str,
) -> None:
    """Every GPU of the cluster: who has which share of it, what is measured now, what is enforced.

    Whose jobs are shown is Slurm's to say (PrivateData). What is measured of the jobs of others, and of GPUs that they
    are on, only operators see, and coordinators of their accounts. What is not known is "-", never 0; Age is how old
    the measured values are.
    """
    from slurm_gpushare.status.compose import compose
    from slurm_gpushare.status.look import take_look

    while True:
        try:
            state = _select(compose(take_look(policy_file, node_policy, service)), only, partition)
        except GpushareError as error:
            if watch is None:
                raise
            click.echo(f"gpushare: {error}", err=True)
        else:
            _show(state, output_format, watch is not None)
        if watch is None:
            return
        sys.stdout.flush()
        time.sleep(watch)


def _select(state: "Status", only: tuple[str, ...] | None, partition: str | None) -> "Status":
    """Return what was asked for alone; raises GpushareError where there is nothing of it."""
    if only is None and partition is None:
        return state

    def wanted(place: "Place") -> bool:
        return (only is None or place.name in only) and (partition is None or partition in place.partitions)

    places = tuple(place for place in state.places if wanted(place))
    if not places:
        what = f"partition {partition!r}" if only is None else ", ".join(only)
        raise GpushareError(f"{what}: no node with GPUs, nor a pool's server, is called so: see `gpushare status`")
    names = {(place.kind, place.name) for place in places}
    gpus = tuple(gpu for gpu in state.gpus if (gpu.kind, gpu.node) in names)
    held = tuple(hold for hold in state.out_of_service if (hold.kind, hold.target.partition(":")[0]) in names)
    return replace(state, gpus=gpus, places=places, elsewhere=(), out_of_service=held)


def _show(state: "Status", output_format: str, live: bool) -> None:
    if output_format == "json":
        click.echo(json.dumps(asdict(state), indent=None if live else 2, ensure_ascii=False))
        return
    if output_format == "csv":
        writer = csv.DictWriter(sys.stdout, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(csv_rows(state))
    else:
        if live and sys.stdout.isatty():
            click.clear()
        if live:
            click.echo(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state.time)))
        _tables(state)
    for line in state.warnings:
        click.echo(f"gpushare: warning: {line}", err=True)


def csv_rows(state: "Status") -> list[dict]:
    """Return the lines of the CSV: one for each job on each GPU, one for each GPU without a job."""
    rows = []
    for gpu in state.gpus:
        mine = {name: getattr(gpu, name) for name in _GPU_KEYS}
        rows += [{**mine, **_csv_job(job)} for job in gpu.jobs] or [mine]
    return rows + [_csv_job(job) for job in state.elsewhere]


def _csv_job(job: "JobShare") -> dict:
    row = {f"job_{name.removeprefix('job_')}": getattr(job, name) for name in _JOB_KEYS}
    return row | {f"job_enforces_{name}": (job.enforces or {}).get(name) for name in _HOLDS}


def _tables(state: "Status") -> None:
    if not state.gpus:
        click.echo("Slurm has no GPU on any node here, and the policy names none of a pool.")
    else:
        held = {(hold.kind, hold.target) for hold in state.out_of_service}
        rows = [row for gpu in state.gpus for row in _gpu_rows(gpu, held)]
        # Folded cells are read worse than a model that is not there; Slurm's type is.
        narrow = sys.stdout.isatty() and shutil.get_terminal_size().columns < _WIDE
        columns = tuple(name for name in HEADINGS if not (narrow and name == "model"))
        print_rows(rows, columns, "table", headings=HEADINGS)
        click.echo(summary(state))
    if state.elsewhere:
        rows = [{**_job_cells(job), "request": job.request, "slices": job.slices} for job in state.elsewhere]
        print_rows(rows, tuple(ELSEWHERE), "table", headings=ELSEWHERE, title="On GPUs that Slurm does not name")
    for line in troubles(state):
        click.echo(line)


def _gpu_rows(gpu: "GpuStatus", held: set[tuple[str, str]]) -> list[dict]:
    given, known = gpu.slices_given, gpu.slices_given is not None
    if not known and gpu.pool_used is not None:
        given = round(gpu.pool_used * gpu.slices)
    total = None if gpu.memory_total is None else round(gpu.memory_total / MIB)
    used = None if gpu.memory is None else round(gpu.memory / MIB)
    state = gpu.state if gpu.agent != "silent" or gpu.away else f"{gpu.state}, agent silent"
    if held & {(gpu.kind, f"{gpu.node}:{gpu.gpu}"), (gpu.kind, gpu.node)}:
        state = ", ".join(filter(None, (state, "out of service")))
    first = {
        "node": gpu.node,
        "gpu": str(gpu.gpu),
        "type": gpu.type,
        "model": gpu.model,
        "state": state,
        "given": None if given is None else f"{given}/{gpu.slices}",
        "sm": _percent(gpu.sm),
        "memory": None if total is None and used is None else f"{'-' if used is None else used}/{total or '-'}",
        "age": None if gpu.age is None else f"{gpu.age:.0f} s",
    }
    jobs = [_job_cells(job) for job in gpu.jobs]
    if gpu.slices_hidden:
        share = format_fraction(round(gpu.slices_hidden / gpu.slices * gpu.fraction, 4))
        jobs.append({"job": "(not shown)", "share": share})
    rest = dict.fromkeys(first, "")
    blank = dict.fromkeys(("job", "user", "share", "backend", "job_sm", "job_memory", "enforced"), "")
    return [{**first, **(jobs or [blank])[0]}, *({**rest, **job} for job in jobs[1:])]


def _job_cells(job: "JobShare") -> dict:
    return {
        "job": job.job if job.state == "RUNNING" else f"{job.job} {job.state.lower()}",
        "user": job.user,
        "share": None if job.fraction is None else format_fraction(round(job.fraction, 4)),
        "backend": job.backend,
        "job_sm": _percent(job.sm),
        "job_memory": None if job.memory is None else f"{job.memory / MIB:.0f}",
        "enforced": enforced_text(job.enforces),
    }


def enforced_text(enforces: dict[str, str] | None) -> str | None:
    """Return what holds a job to its share in a few words: ``memory, faults; compute advisory``."""
    if enforces is None:
        return None
    held = [name for name in _HOLDS if enforces[name] == "enforced"]
    advisory = [name for name in _HOLDS if enforces[name] == "advisory"]
    if len(held) == len(_HOLDS):
        return "all"
    parts = [", ".join(held)] * bool(held) + [f"{', '.join(advisory)} advisory"] * bool(advisory)
    return "; ".join(parts) or "nothing"


def summary(state: "Status") -> str:
    """Return the line below the table: how much of how many GPUs is given, and where that is not known."""
    known = [gpu for gpu in state.gpus if gpu.slices_given is not None]
    given = sum(gpu.slices_given / gpu.slices * gpu.fraction for gpu in known)
    total = sum(gpu.fraction for gpu in known)
    unknown = len(state.gpus) - len(known)
    away = sum(gpu.fraction for gpu in known if gpu.away)
    tail = f"; {format_fraction(round(away, 4))} on nodes that take no job" if away else ""
    tail += f"; of {unknown} more Slurm does not know it" if unknown else ""
    return f"{format_fraction(round(given, 4))} of {format_fraction(round(total, 4))} GPUs given{tail}"


def troubles(state: "Status") -> list[str]:
    """Return a line for each node that takes no job, each silent agent, and what is out of service, with reasons."""
    lines = []
    for place in state.places:
        if place.away:
            who = place.reason_by or ""
            when = "" if place.reason_at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(place.reason_at))
            said = " ".join(part for part in (who, when) if part)
            reason = place.reason or "nobody said why"
            lines.append(f"{place.name}: {place.state}: {reason}{f' ({said})' if said else ''}")
        if place.agent == "silent":
            since = "never heard since the service started" if place.agent_age is None else _since(place.agent_age)
            lines.append(f"{place.name}: its agent is silent: {since}; see whether `gpushare agent` runs there")
    for hold in state.out_of_service:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(hold.since))
        lines.append(f"{hold.target}: out of service: {hold.reason} ({hold.by} {when})")
    return lines


def _since(seconds: float) -> str:
    if seconds < 120:
        return f"last heard {seconds:.0f} s ago"
    return f"last heard {seconds / 60:.0f} min ago" if seconds < 7200 else f"last heard {seconds / 3600:.0f} h ago"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.0%}"
