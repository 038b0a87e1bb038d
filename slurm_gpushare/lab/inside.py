"""Commands in a lab, run from Python on the host."""

import subprocess
import sys
from pathlib import Path

from slurm_gpushare.errors import LabError


def inside_argv(
    name: str, command: list[str], user: str = "root", node: str | None = None, cwd: str | None = None
) -> list[str]:
    """Return the host's argv that runs ``command`` in lab ``name``."""
    where = [*(["--node", node] if node else []), *(["--cwd", cwd] if cwd else [])]
    enter = [sys.executable, "-m", "slurm_gpushare.cli.lab", "exec"]
    return [*enter, "--name", name, "--user", user, *where, "--", *command]


def run(name: str, command: list[str], user: str = "root", stdin: str = "") -> subprocess.CompletedProcess:
    """Run ``command`` and return it with its text; raises LabError with its last words when it fails."""
    done = subprocess.run(inside_argv(name, command, user), input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise LabError(f"{' '.join(command)} (as {user}): status {done.returncode}: {said}")
    return done


def run_text(name: str, command: list[str], user: str = "root") -> str:
    """Run ``command`` and return what it printed; raises LabError with its last words when it fails."""
    return run(name, command, user).stdout


def run_logged(name: str, command: list[str], user: str, cwd: str, log: Path) -> int:
    """Run ``command`` with its output in the host's file ``log``; return its exit status."""
    with open(log, "wb") as stream:
        argv = inside_argv(name, command, user, cwd=cwd)
        return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, check=False).returncode
