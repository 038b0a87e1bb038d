"""`gpushare watch`: becomes the memory watcher's own process, which is smaller than this one."""

import os
import sys

import click


@click.command(
    add_help_option=False,  # the watcher's own parser answers --help
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def watch(arguments: tuple[str, ...]) -> None:
    """Warn or end jobs that hold more memory of this node's GPUs than their share."""
    # -I: root's resident process must not import from the folder it happens to be started in.
    os.execv(sys.executable, [sys.executable, "-I", "-m", "slurm_gpushare.watch.watcher", *arguments])
