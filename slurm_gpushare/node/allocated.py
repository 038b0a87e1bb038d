"""Which licences and which of its nodes a job was given, asked of Slurm where slurmd does not tell the prolog.

Standard library only.
"""

from time import monotonic, sleep

from slurm_gpushare.backends.places import is_open
from slurm_gpushare.errors import EXIT_TRY_AGAIN, BackendError, GpushareError
from slurm_gpushare.node.job import Job

PATIENCE = 5.0  # seconds in all for slurmctld to answer
PAUSE = 0.5  # seconds between two questions


def run_command(argv: list[str], timeout: float) -> str:
    """Run one command of Slurm's and return what it prints; raises SlurmError."""
    from slurm_gpushare.slurm.command import run_slurm  # hardly any job needs it

    return run_slurm(argv, timeout)


def given_licences(job: Job, environment: dict[str, str], run=run_command) -> str:
    """Return the licences that Slurm gave: where it chose among several (from 25.05 on), slurmctld is asked.

    By squeue and not scontrol: two fields that no user can write, and one cheap question.

    Raises
    ------
    BackendError
        slurmctld did not tell within PATIENCE; its status is 75.
    """
    licences = environment.get("SLURM_JOB_LICENSES", "")
    if not is_open(licences):
        return licences
    argv = ["squeue", "--all", "--noheader", f"--jobs={job.job_id}", "--Format=JobID:12,LicensesAlloc:1024"]
    until, why = monotonic() + PATIENCE, ""
    while (left := until - monotonic()) > 0:
        try:
            # The number of an array names all of its tasks.
            found = [words[1] for words in map(str.split, run(argv, left).splitlines()) if words[0] == str(job.job_id)]
            if len(found) == 1 and found[0] != "(null)":
                return found[0]
            why = "slurmctld tells none"
        except (GpushareError, IndexError) as error:
            why = str(error)
        sleep(max(0.0, min(PAUSE, until - monotonic())))
    raise _unknown(f"which GPU of the pool Slurm chose is not known: {why}")


def node_number(job: Job, environment: dict[str, str], nodes: int, run=run_command) -> int:
    """Return the number, from 0, of this node among the ``nodes`` nodes of the job.

    Raises
    ------
    BackendError
        The list of nodes cannot be read, or this node is not in it; its status is 75.
    """
    if nodes == 1:
        return 0
    listed = environment.get("SLURM_JOB_NODELIST", "")
    try:
        return run(["scontrol", "show", "hostnames", listed], PATIENCE).split().index(job.node)
    except (GpushareError, ValueError) as error:
        raise _unknown(f"this node's place among {listed!r} is not known: {error}") from None


def _unknown(text: str) -> BackendError:
    error = BackendError(f"{text}: submit the job again")
    error.exit_status = EXIT_TRY_AGAIN
    return error
