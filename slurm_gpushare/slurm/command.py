"""The one door to Slurm's commands: an argv array, a fixed environment, a time limit."""

import os
import subprocess

from slurm_gpushare.errors import GpushareError

_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/slurm/bin"


class SlurmError(GpushareError):
    """A command of Slurm's failed, hung, is not installed, or printed what this version cannot read."""


def run_slurm(argv: list[str], timeout: float) -> str:
    """Run one command of Slurm's and return what it prints, times as seconds since the epoch.

    ``argv[0]`` is the bare name; it is looked for in the caller's PATH and the usual folders. The environment is
    made here, so that a SACCT_FORMAT, SQUEUE_STATES or time zone of the caller's changes no output.

    Raises
    ------
    SlurmError
        The command is missing, does not end within ``timeout`` seconds, or ends with a status other than 0.
    """
    path = ":".join(part for part in (os.environ.get("PATH"), _SEARCH) if part)
    environment = {"PATH": path, "LC_ALL": "C", "TZ": "UTC", "SLURM_TIME_FORMAT": "%s"}
    if "SLURM_CONF" in os.environ:
        environment["SLURM_CONF"] = os.environ["SLURM_CONF"]
    try:
        done = subprocess.run(
            argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
        )
    except FileNotFoundError:
        raise SlurmError(f"{argv[0]}: not found in {path}: install Slurm's client commands on this host") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{argv[0]}: no answer within {timeout:g} s: is slurmdbd or slurmctld away?") from None
    except OSError as error:
        raise SlurmError(f"{argv[0]}: {error.strerror}") from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise SlurmError(f"{argv[0]}: status {done.returncode}: {said[-1] if said else 'no message'}")
    return done.stdout.decode("utf-8", "replace")
