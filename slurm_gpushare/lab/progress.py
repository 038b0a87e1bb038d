"""What a person sees while the lab works: one line a step, and the one line that says which step failed."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from slurm_gpushare.errors import LabError

TAIL_LINES = 15


class StepFailed(LabError):
    """A step of the lab failed: ``str()`` is one line, ``tail`` the last lines of its log."""

    def __init__(self, step: str, why: str, log: Path | None):
        where = f" (log: {log})" if log else ""
        super().__init__(f"{step}: {why}{where}")
        self.tail = last_lines(log)


def last_lines(log: Path | None, count: int = TAIL_LINES) -> list[str]:
    """Return the last lines of ``log`` that are not empty; none when it is not there."""
    try:
        text = log.read_text(errors="replace") if log else ""
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]


class Progress:
    """Reports steps through ``write``, which takes one line."""

    def __init__(self, write: Callable[[str], None]):
        self._write = write

    def line(self, step: str, seconds: float) -> None:
        """Report that ``step`` is done and took ``seconds``."""
        self._write(f"{seconds:6.1f} s  {step}")

    def begin(self, step: str) -> None:
        """Report that a long step has begun."""
        self._write(f"   ...    {step}")

    @contextlib.contextmanager
    def step(self, step: str) -> Iterator[None]:
        """Report a step that takes long enough to be announced."""
        started = time.monotonic()
        self.begin(step)
        yield
        self.line(step, time.monotonic() - started)
