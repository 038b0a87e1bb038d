"""`gpushare`: the one command, whose subcommands are imported when they are used."""

import os
import sys

import click

from slurm_gpushare import __version__
from slurm_gpushare.cli.lazy import LazyGroup
from slurm_gpushare.errors import EXIT_FAILED, GpushareError

# name: (module:object, what --help says without importing it)
COMMANDS = {
    "agent": ("slurm_gpushare.cli.agent:agent", "Measure what the jobs of this node use of its GPUs."),
    "completion": ("slurm_gpushare.cli.completion:completion", "Print the completion of gpushare for a shell."),
    "datasets": ("slurm_gpushare.cli.datasets:datasets", "The datasets that you may use in containers."),
    "doctor": ("slurm_gpushare.cli.doctor:doctor", "Check this host, or follow one job and say where it broke."),
    "explain": ("slurm_gpushare.cli.explain:explain", "Say what a request would become, and by which rule."),
    "export": ("slurm_gpushare.cli.export:export", "Write what is in the store into files: Parquet or CSV."),
    "gpu": ("slurm_gpushare.cli.gpu:gpu", "Take a GPU, or a server of the pool, out of service and back."),
    "idle": ("slurm_gpushare.cli.idle:idle", "Warn, then end or requeue jobs that do not use their share."),
    "lab": ("slurm_gpushare.cli.lab:lab", "A whole Slurm cluster in a folder."),
    "policy": ("slurm_gpushare.cli.policy:policy", "Check, show and compile the policy."),
    "pool": ("slurm_gpushare.cli.pool:pool", "What of the pool is in use by whom, and what differs from Slurm."),
    "report": ("slurm_gpushare.cli.report:report", "What jobs reserved and what they used."),
    "serve": ("slurm_gpushare.cli.serve:serve", "Keep the store of usage records and answer reports."),
    "status": ("slurm_gpushare.cli.status:status", "Every GPU of the cluster, who has it, what is measured now."),
    "study": ("slurm_gpushare.cli.study:study", "Measure what sharing a GPU gains, against whole GPUs."),
    "watch": ("slurm_gpushare.cli.watch:watch", "Warn or end jobs that hold more GPU memory than their share."),
    "why": ("slurm_gpushare.cli.why:why", "Say why a job waits, and what would start sooner."),
}

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it


@click.group(
    cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120}
)
@click.version_option(__version__, prog_name="gpushare")
def cli() -> None:
    """A fraction of a GPU as an ordinary Slurm resource."""


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, or the status of the error.

    Every error that is ours, and every error of the operating system, is one line on stderr.
    """
    try:
        status = cli.main(args=argv, prog_name="gpushare", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        status = EXIT_INTERRUPTED
    except click.ClickException as error:
        hint = ""
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f" (see `{error.ctx.command_path} --help`)"
        status = _complain(error.format_message() + hint, error.exit_code)
    except GpushareError as error:
        status = _complain(str(error), error.exit_status)
    except BrokenPipeError:
        # The reader of a pipe has left; Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = EXIT_FAILED
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    except OSError as error:
        name = "" if error.filename is None else f"{error.filename}: "
        status = _complain(f"{name}{error.strerror or error}", EXIT_FAILED)
    sys.exit(status if isinstance(status, int) else 0)


def _complain(text: str, status: int) -> int:
    lines = [line.rstrip() for line in text.strip().splitlines() if line.strip()]
    for line in lines or ["failed"]:
        click.echo(f"gpushare: {line}", err=True)
    return status


if __name__ == "__main__":
    main()
