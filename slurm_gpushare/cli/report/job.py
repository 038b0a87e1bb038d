"""`gpushare report job`."""

import time

import click

from slurm_gpushare.cli.output import format_option, local_time, print_rows
from slurm_gpushare.cli.report.options import answered, chosen, listed, terminal, the_service

# What the run tells of itself in each line of CSV, and what a GPU's line of it has beside that.
RUN_COLUMNS = (
    *("cluster", "job", "job_id", "submit", "restart", "user", "account", "partition", "qos", "state", "exit_code"),
    *("request", "backend", "start", "end", "elapsed_seconds", "wait_seconds", "reason"),
)
GPU_COLUMNS = (
    *("node", "gpu", "gpu_index", "gpu_name", "source", "started", "ended", "fraction", "coverage", "quality"),
    *("gpu_seconds_reserved", "gpu_seconds_used", "gpu_seconds_idle", "gpu_seconds_over"),
    *("gpu_seconds_without_process", "sm_mean", "sm_p50", "sm_p95", "sm_max", "memory_share_bytes"),
    *("memory_mean_bytes", "memory_p50_bytes", "memory_p95_bytes", "memory_peak_bytes", "energy_joules"),
    *("processes_seen", "enforces", "shared_seconds"),
)
_TIMES = ("submit", "start", "end", "started", "ended")


@click.command()
@click.argument("refs", callback=listed("parse_jobs"), metavar="ID[,…]")
@click.option("--service", metavar="URL", help="Where `gpushare serve` answers; default: the policy's.")
@format_option(html=True)
def job(refs: tuple, service: str | None, output_format: str) -> None:
    """Everything on one job: 12, 12_3 for a task of an array, 12+1 for a part of a heterogeneous job.

    Each of its runs, what it was given and what it used of each GPU, and the course of its use and memory over time,
    as wide as the terminal. "·" in it is what was not measured. CSV has a line for each GPU of each run.
    """
    selection = chosen(None, None, 0.0, jobs=refs)
    service = service or the_service()
    answer = answered("job", service, selection)
    runs = answer.data["runs"]
    if any(run["end"] is None for run in runs):
        _add_now(runs, service)
    if output_format == "json":
        print_rows(map(_with_times, runs), tuple(runs[0]) if runs else (), "json")
    elif output_format == "csv":
        lines = (_with_times(_line(run, part)) for run in runs for part in run["measured"] or [{}])
        print_rows(lines, (*RUN_COLUMNS, *GPU_COLUMNS), "csv")
    elif output_format == "html" and runs:
        from slurm_gpushare.cli.report.html import show_job

        show_job(selection, service, runs, answer.data)
    elif not runs:
        names = ", ".join(map(str, refs))
        click.echo(f"No run of job {names} had a share of a GPU, or it is not yours to see.")
    else:
        from slurm_gpushare.cli.report.job_text import run_text, runs_text

        width, unicode = terminal()
        if len(runs) > 1:
            runs_text(runs)
        if len(runs) <= _MOST_WHOLE:
            for run in runs:
                click.echo("\n".join(["", *run_text(run, len(runs), width, unicode)][len(runs) == 1 :]))
        else:
            click.echo(f"{len(runs)} runs: name one task for all of it, such as {runs[-1]['job']}")


_MOST_WHOLE = 8  # runs that are told whole one after the other


def _line(run: dict, part: dict) -> dict:
    """Return a line of CSV: what it has of the GPU is the GPU's own, not the run's sum."""
    return {**{name: run[name] for name in RUN_COLUMNS}, **part}


def _with_times(data: dict) -> dict:
    return {**data, **{name: local_time(data[name]) for name in _TIMES if name in data}}


def _add_now(runs: list[dict], service: str) -> None:
    """Give each running one what is measured of it now: ``now``, a list; None where the service does not tell."""
    from slurm_gpushare.accounting.client import live
    from slurm_gpushare.errors import StoreError

    try:
        agents = live(service)["agents"]
    except StoreError as error:
        click.echo(f"gpushare: warning: what is measured now is not known: {error}", err=True)
        agents = None
    for run in runs:
        run["now"] = None
        if run["end"] is None and agents is not None:
            run["now"] = [_live(agent, one) for agent in agents for one in agent["jobs"] if _is_of(one, run)]


def _is_of(one: dict, run: dict) -> bool:
    # The agent's clock may differ from slurmctld's.
    return one["job_id"] == run["job_id"] and (one["started"] is None or one["started"] >= run["start"] - 10)


def _live(agent: dict, one: dict) -> dict:
    return {"kind": agent["kind"], "name": agent["name"], "age": agent["age"], "at": time.time(), **one}
