"""`gpushare explain`: what a request would become, decided by the very file that slurmctld runs."""

import json
import os
import pwd

import click

from slurm_gpushare.errors import EXIT_FAILED, RequestError
from slurm_gpushare.paths import POLICY_YAML
from slurm_gpushare.slurm.command import SlurmError, run_slurm

# SPANK options of the plugin, which travel under these names.
SPANK_OPTIONS = (
    "gpu_share", "gpu_mem", "gpu_backend", "container_image", "container_mounts", "dataset", "container_scope",
    "container_workdir", "container_env", "container_writable", "container_mount_home", "no_container_mount_home",
)  # fmt: skip


def canonical(name: str) -> str:
    """Return an option's name without what plugstack.conf puts before those for containers, by ``prefix=``."""
    names = [option.replace("_", "-") for option in SPANK_OPTIONS if "container" in option or option == "dataset"]
    if name in names:
        return name
    return next((known for known in sorted(names, key=len, reverse=True) if name.endswith(f"-{known}")), name)


@click.command(context_settings={"token_normalize_func": canonical})
@click.option("--gres", help="Such as gpu:0.25.")
@click.option("-G", "--gpus", help="As of sbatch.")
@click.option("--gpus-per-node", help="As of sbatch.")
@click.option("--gpus-per-task", help="As of sbatch.")
@click.option("--gpus-per-socket", help="As of sbatch.")
@click.option("--tres-per-task", help="Such as gres/gpu:0.25.")
@click.option("--gpu-share", help="Such as 0.25.")
@click.option("--gpu-mem", help="Such as 8G; with a share: a limit within it.")
@click.option("--gpu-backend", help="As of sbatch.")
@click.option("--cpus-per-gpu", help="As of sbatch.")
@click.option("--mem-per-gpu", help="As of sbatch.")
@click.option("--ntasks-per-gpu", type=int, help="As of sbatch.")
@click.option("-p", "--partition", help="Default: the cluster's, where Slurm's commands are installed.")
@click.option("-N", "--nodes", help="As of sbatch.")
@click.option("-n", "--ntasks", type=int, help="As of sbatch.")
@click.option("--ntasks-per-node", type=int, help="As of sbatch.")
@click.option("-c", "--cpus-per-task", type=int, help="As of sbatch.")
@click.option("--mem", help="As of sbatch.")
@click.option("-L", "--licenses", help="As of sbatch.")
@click.option("--extra", help="As of sbatch.")
@click.option("--container-image", help="As of sbatch.")
@click.option("--container-mounts", help="As of sbatch.")
@click.option("--dataset", help="As of sbatch.")
@click.option("--container-scope", help="As of sbatch.")
@click.option("--container-workdir", help="As of sbatch.")
@click.option("--container-env", help="As of sbatch.")
@click.option("--container-writable", is_flag=False, flag_value="yes", help="As of sbatch.")
@click.option("--container-mount-home", is_flag=False, flag_value="yes", help="As of sbatch.")
@click.option("--no-container-mount-home", flag_value="yes", help="As of sbatch.")
@click.option("--user", help="Whose job it is. Default: yours.")
@click.option("-A", "--account", help="Default: the user's, where Slurm's commands are installed.")
@click.option("-q", "--qos", help="Default: that of the user's association, likewise.")
@click.option("--policy", "policy_file", help=f"Default: {POLICY_YAML}, or the one that came with slurm-gpushare.")
@click.option("--enforced", is_flag=True, help="As if the policy's mode were enforce.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print it.",
)
@click.pass_context
def explain(
    ctx: click.Context,
    policy_file: str | None,
    enforced: bool,
    output_format: str,
    user: str | None,
    account: str | None,
    qos: str | None,
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
    policy = load_policy(policy_file).policy
    gpushare = Gpushare(to_lua(policy.model_copy(update={"mode": "enforce"}) if enforced else policy))
    options = {name: text for name in SPANK_OPTIONS if (text := words.pop(name)) is not None}
    user = user or pwd.getpwuid(os.getuid()).pw_name
    account = account or default_account(user)
    qos = qos or default_qos(user, account)
    request = Request(**words, user=user, account=account, qos=qos, options=options)
    default = cluster_default_partition() if request.partition is None else None
    try:
        decision = gpushare.decide(request, default)
    except ValueError as error:
        raise RequestError(str(error)) from None

    grant = None if decision.grant is None else grant_to_dict(decision.grant)
    if output_format == "json":
        data = {"outcome": decision.outcome, "grant": grant, "message": decision.message, "rule": decision.rule}
        data["observed"] = decision.observed
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        click.echo(f"{decision.outcome}: {decision.message or decision.rule}")
        click.echo(f"rule: {decision.rule}")
        if decision.observed is not None:
            click.echo(f"observed: the policy would {decision.observed}")
        for field, value in sorted(decision.set.items()):
            click.echo(f"{field}: {value}")
    ctx.exit(EXIT_FAILED if decision.outcome == REFUSED else 0)


def cluster_default_partition() -> str | None:
    """Return the cluster's default partition as sinfo marks it, None where Slurm's commands or slurmctld are away."""
    return next((name[:-1] for name in _ask("sinfo", "--noheader", "--format=%P") if name.endswith("*")), None)


def default_account(user: str) -> str | None:
    """Return the user's default account, None where the accounting database does not say."""
    return next(iter(_ask("sacctmgr", "-nP", "show", "user", f"name={user}", "format=defaultaccount")), None)


def default_qos(user: str, account: str | None) -> str | None:
    """Return the default QOS of the user's association, None where there is none."""
    if account is None:
        return None
    place = [f"user={user}", f"account={account}", "format=defaultqos"]
    return next(iter(_ask("sacctmgr", "-nP", "show", "assoc", *place)), None)


def _ask(*argv: str) -> list[str]:
    """Return the words that a command of Slurm's prints, none where it is away or fails."""
    try:
        return run_slurm(list(argv), timeout=10).split()
    except SlurmError:
        return []
