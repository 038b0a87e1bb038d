"""`gpushare datasets`: what --dataset=NAME may name, by the very file that slurmctld runs."""

import os
import pwd

import click

from slurm_gpushare.cli.output import format_option, print_rows
from slurm_gpushare.paths import POLICY_YAML

COLUMNS = ("name", "target", "mode", "path", "groups")
HEADINGS = {"target": "in the container", "path": "on the nodes"}


@click.command()
@click.option("-p", "--partition", help="Default: the cluster's, where Slurm's commands are installed.")
@click.option("--user", help="Whose datasets. Default: yours.")
@click.option("-A", "--account", help="Default: the user's, where Slurm's commands are installed.")
@click.option("-q", "--qos", help="Default: that of the user's association, likewise.")
@click.option("--policy", "policy_file", help=f"Default: {POLICY_YAML}, or the one that came with slurm-gpushare.")
@format_option()
def datasets(
    partition: str | None,
    user: str | None,
    account: str | None,
    qos: str | None,
    policy_file: str | None,
    output_format: str,
) -> None:
    """The datasets that you may use: sbatch --container-image=… --dataset=NAME[:DST][,NAME…]."""
    from slurm_gpushare.cli.explain import cluster_default_partition, default_account, default_qos
    from slurm_gpushare.policy.compile import to_lua
    from slurm_gpushare.policy.load import load_policy
    from slurm_gpushare.policy.lua import Gpushare, shipped_etc
    from slurm_gpushare.request import Request

    if policy_file is None:
        policy_file = POLICY_YAML if os.path.exists(POLICY_YAML) else os.path.join(shipped_etc(), "gpushare.yaml")
    policy = load_policy(policy_file).policy
    user = user or pwd.getpwuid(os.getuid()).pw_name
    # Only rules ask for these.
    if policy.rules:
        account = account or default_account(user)
        qos = qos or default_qos(user, account)
        partition = partition or cluster_default_partition()
    request = Request(user=user, account=account, qos=qos, partition=partition)
    rows = [
        {"name": name, **policy.datasets[name].model_dump(include=set(COLUMNS))}
        for name in Gpushare(to_lua(policy)).open_datasets(request)
    ]
    print_rows(
        rows,
        COLUMNS,
        output_format,
        headings=HEADINGS,
        cells=lambda column, value: ", ".join(value) if column == "groups" else str(value),
    )
