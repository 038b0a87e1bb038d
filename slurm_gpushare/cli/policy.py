"""`gpushare policy check|show|compile|observed|slurm-limits|profiles|reference`."""

import os
from collections.abc import Iterator

import click

from slurm_gpushare.cli.output import format_option, print_rows
from slurm_gpushare.paths import NODE_POLICY, POLICY_YAML

PROFILE_COLUMNS = ("gpu", "backend", "profile", "fraction", "memory_mib")
COLUMNS = ("key", "value", "unit", "source", "meaning")


@click.group()
def policy() -> None:
    """Check, show and compile the policy."""


@policy.command()
@click.argument("file", default=POLICY_YAML)
def check(file: str) -> None:
    """Try FILE: one line for each error, with its line, key, value and remedy."""
    from slurm_gpushare.policy.compile import to_lua
    from slurm_gpushare.policy.load import load_policy

    policy = load_policy(file).policy
    to_lua(policy)  # groups exist
    counts = f"{len(policy.partitions)} partitions, {len(policy.rules)} rules, {len(policy.datasets)} datasets"
    click.echo(f"{file}: valid: {counts}")


@policy.command()
@click.argument("file", default=POLICY_YAML)
@format_option()
def show(file: str, output_format: str) -> None:
    """Print the value of every setting and where it comes from."""
    from slurm_gpushare.policy.load import load_policy
    from slurm_gpushare.policy.show import effective_settings

    print_rows(effective_settings(load_policy(file)), COLUMNS, output_format)


@policy.command("compile")
@click.option("--policy", "file", default=POLICY_YAML, show_default=True, help="The policy.")
@click.option("--slurm-dir", default="/etc/slurm", show_default=True, help="Where job_submit.lua lies.")
@click.option("--node-file", default=NODE_POLICY, show_default=True, help="What nodes read.")
def compile_command(file: str, slurm_dir: str, node_file: str) -> None:
    """Put the policy in force; one that is not valid changes nothing."""
    from slurm_gpushare.policy.compile import SUBMIT_FILE, compile_policy
    from slurm_gpushare.policy.included import include_fault
    from slurm_gpushare.policy.load import load_policy

    for path in compile_policy(load_policy(file).policy, slurm_dir, node_file):
        click.echo(f"wrote {path}")
    submit = os.path.join(slurm_dir, SUBMIT_FILE)
    if os.path.isfile(submit):
        with open(submit, encoding="utf-8", errors="replace") as stream:
            fault = include_fault(stream.read())
        if fault is not None:
            click.echo(f"gpushare: {submit}: {fault}", err=True)


@policy.command()
@click.argument("logs", nargs=-1, metavar="[LOG]...")
@format_option()
def observed(logs: tuple[str, ...], output_format: str) -> None:
    """Print what would have become of jobs while the policy only observes, from slurmctld's LOG (Slurm's, if none)."""
    from slurm_gpushare.errors import PolicyError
    from slurm_gpushare.policy.observed import COLUMNS, summarise
    from slurm_gpushare.slurm.config import slurmctld_log

    def lines() -> Iterator[str]:
        for log in logs or (slurmctld_log(),):
            try:
                with open(log, encoding="utf-8", errors="replace") as stream:
                    yield from stream
            except OSError as error:
                raise PolicyError(f"{log}: {error.strerror}: name slurmctld's log, or be one who may read it") from None

    rows = summarise(lines())
    if output_format == "table" and not rows:
        click.echo("nothing: no job would have become anything else")
        return
    cells = {name: lambda names: ", ".join(names[:5]) + (", …" if len(names) > 5 else "") for name in COLUMNS[4:7]}
    print_rows(rows, COLUMNS, output_format, cells=lambda name, value: cells.get(name, str)(value))


@policy.command("slurm-limits")
@click.argument("file", default=POLICY_YAML)
def slurm_limits(file: str) -> None:
    """Print the sacctmgr commands that make Slurm keep the policy's running limits."""
    import shlex

    from slurm_gpushare.policy.limits import sacctmgr_commands
    from slurm_gpushare.policy.load import load_policy

    for command in sacctmgr_commands(load_policy(file).policy):
        click.echo(shlex.join(command))


@policy.command()
@format_option()
def profiles(output_format: str) -> None:
    """List the parts into which MIG and vGPU divide GPUs: what `types` of these backends may name."""
    from slurm_gpushare.policy.profiles import rows

    print_rows(rows(), PROFILE_COLUMNS, output_format)


@policy.command()
def reference() -> None:
    """Print the reference page of all settings, docs/policy.md."""
    from slurm_gpushare.policy.reference import reference as page

    click.echo(page(), nl=False)
