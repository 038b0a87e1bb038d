"""`gpushare agent`: becomes the agent's own process, which is smaller than this one."""

import os
import sys

import click


@click.command(
    add_help_option=False,  # the agent's own parser answers --help
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def agent(arguments: tuple[str, ...]) -> None:
    """Measure what the jobs of this node use of its GPUs."""
    # -I: root's resident process must not import from the folder it happens to be started in.
    os.execv(sys.executable, [sys.executable, "-I", "-m", "slurm_gpushare.metrics.agent", *arguments])
