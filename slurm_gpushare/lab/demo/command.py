"""How a demonstration speaks and ends when it is run as a program."""

import sys
from collections.abc import Callable

from slurm_gpushare.errors import GpushareError


def say(line: str) -> None:
    """Print one line at once."""
    print(line, flush=True)


def run(demonstrate: Callable[[], None]) -> None:
    """Run it; what is wrong is the last lines of its log and one line, and the error's exit status."""
    try:
        demonstrate()
    except GpushareError as error:
        for line in getattr(error, "tail", []):
            print(f"  | {line}", file=sys.stderr)
        print(f"gpushare: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(130)
