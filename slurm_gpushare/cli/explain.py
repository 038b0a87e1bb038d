"""`gpushare explain`: what a request would become, decided by the very file that slurmctld runs."""

import json
import os
import shutil
import subprocess

import click

from slurm_gpushare.errors import EXIT_FAILED, RequestError
from slurm_gpushare.paths import POLICY_YAML

# SPANK options of the plugin, which travel under these names.
SPANK_OPTIONS = ("container_image", "container_mounts", "dataset", "container_scope")


@click.command()
@click.option("--gres", help="Such as gpu:0.25.")
@click.option("-G", "--gpus")
@click.option("--gpus-per-node")
@click.option("--gpus-per-task")
@click.option("--gpus-per-socket")
@click.option("--cpus-per-gpu")
@click.option("--mem-per-gpu")
@click.option("--ntasks-per-gpu", type=int)
@click.option("-p", "--partition", help="Default: the cluster's, where Slurm's commands are installed.")
@click.option("-N", "--nodes")
@click.option("-n", "--ntasks", type=int, help="Changes nothing for GPUs.")
@click.option("-L", "--licenses")
@click.option("--extra")
@click.option("--container-image")
@click.option("--container-mounts")
@click.option("--dataset")
@click.option("--container-scope")
@click.option("--user", help="Whose job it is; this policy treats all alike.")
@click.option("--policy", "policy_file", help=f"Default: {POLICY_YAML}, or the one that came with slurm-gpushare.")
@click.option("--format", "output_format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def explain(
    ctx: click.Context,
    policy_file: str | None,
    output_format: str,
    user: str | None,
    ntasks: int | None,
    **words: object,
) -> None:
    """Say what a request in sbatch's own words would become, and by which rule. Exits with 1 when it is refused."""
    from slurm_gpushare.grant import grant_to_dict
    from slurm_gpushare.policy.compile import to_lua
    from slurm_gpushare.policy.load import load_policy
    from slurm_gpushare.policy.lua import Gpushare, shipped_etc
    from slurm_gpushare.request import REFUSED, Request

    if policy_file is None:
        policy_file = POLICY_YAML if os.path.exists(POLICY_YAML) else os.path.join(shipped_etc(), "gpushare.yaml")
    gpushare = Gpushare(to_lua(load_policy(policy_file).policy))
    options = {name: text for name in SPANK_OPTIONS if (text := words.pop(name)) is not None}
    request = Request(**words, options=options)
    default = cluster_default_partition() if request.partition is None else None
    try:
        decision = gpushare.decide(request, default)
    except ValueError as error:
        raise RequestError(f"-N: {error}") from None

    grant = None if decision.grant is None else grant_to_dict(decision.grant)
    if output_format == "json":
        data = {"outcome": decision.outcome, "grant": grant, "message": decision.message, "rule": decision.rule}
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        click.echo(f"{decision.outcome}: {decision.message or decision.rule}")
        click.echo(f"rule: {decision.rule}")
        for field, value in sorted(decision.set.items()):
            click.echo(f"{field}: {value}")
    ctx.exit(EXIT_FAILED if decision.outcome == REFUSED else 0)


def cluster_default_partition() -> str | None:
    """Return the cluster's default partition as sinfo marks it, None where Slurm's commands or slurmctld are away."""
    sinfo = shutil.which("sinfo")
    if sinfo is None:
        return None
    try:
        done = subprocess.run(
            [sinfo, "--noheader", "--format=%P"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return next((name[:-1] for name in done.stdout.split() if name.endswith("*")), None)
