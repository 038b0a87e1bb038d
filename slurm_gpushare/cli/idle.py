"""`gpushare idle`: becomes a process of its own, which is smaller than this one."""

import os
import sys

import click


@click.command(
    add_help_option=False,  # its own parser answers --help
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def idle(arguments: tuple[str, ...]) -> None:
    """Warn, then end or requeue jobs that hold a share of a GPU and do not use it."""
    # -I: a resident process with rights must not import from the folder it happens to be started in.
    os.execv(sys.executable, [sys.executable, "-I", "-m", "slurm_gpushare.idle.keeper", *arguments])
