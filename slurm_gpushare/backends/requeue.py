"""A batch job that got nothing goes back into Slurm's queue, a limited number of times and later each time.

The launcher asks slurmctld for it, as the user; slurmctld ends the job as for any `scontrol requeue`, so that it was
never FAILED in the eyes of jobs that depend on it. Of its own slurmctld starts a requeued job two minutes later at the
earliest (24.11 and 26.05); the epilog, when the job is pending again, sets the time that the policy wants, as the user.
Standard library only and few imports: the launcher imports this.
"""

import os
import stat

from slurm_gpushare.backends.client import Client, Endings, run, words
from slurm_gpushare.errors import BrokenInstallation

NOTE = "requeue"  # in the folder of the allocation: JOBID SECONDS, for the epilog
SECONDS = 10.0  # for one answer of slurmctld
END = 60.0  # seconds until a job that is requeued has ended
LONGEST = 7 * 86400  # seconds
SEARCH = "/usr/local/bin:/usr/bin:/bin:/opt/slurm/bin"


def _scontrol(path: str) -> str:
    for folder in (path + ":" + SEARCH).split(":"):
        program = os.path.join(folder or ".", "scontrol")
        if os.access(program, os.X_OK):
            return program
    raise BrokenInstallation(f"scontrol is in none of {path}:{SEARCH}")


def restarts(environment: dict[str, str]) -> int:
    """Return how often the job was started again so far, for whatever reason."""
    text = environment.get("SLURM_RESTART_COUNT", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def ask(folder: str, settings, environment: dict[str, str], endings: Endings, failure: str) -> str:
    """Have the job requeued if it may be once more, and tell the user so; return why it was not.

    Where slurmctld agreed, the job's end is on its way, and this returns when it has come.
    """
    done = restarts(environment)
    if done >= settings.requeue_limit:
        return f"the job was started again {done} times already, and {settings.requeue_limit} is the policy's limit"
    job = environment.get("SLURM_JOB_ID", "")
    seconds = int(min(settings.requeue_delay * 2**done, LONGEST))
    note = os.path.join(folder, NOTE)
    descriptor = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.write(descriptor, f"{job} {seconds}\n".encode())
    os.close(descriptor)
    try:
        client = run([_scontrol(environment.get("PATH", "")), "requeue", job], environment, SECONDS)
        why = None if client.status == 0 else words(client)
        client.close()
    except BrokenInstallation as error:
        why = str(error)
    # The job's end may come before scontrol's answer, and end scontrol too.
    if why is not None and not endings.came():
        os.unlink(note)
        return f"not requeued: {why}"
    told = f"gpushare: {failure}; job {job} is requeued ({done + 1} of {settings.requeue_limit}), to start again in "
    os.write(2, f"{told}{seconds} s or later\n".encode(errors="backslashreplace"))
    endings.sleep(END)
    return "requeued"


def later(folder: str, uid: int, environment: dict[str, str]) -> Client | None:
    """Start what gives the job its time, where ``ask`` has left a note in ``folder``; None where there is none.

    Once: a later call must not put off a job that waits, or has run again.
    """
    note = os.path.join(folder, NOTE)
    try:
        descriptor = os.open(note, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        os.unlink(note)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        words_of_it = os.read(descriptor, 64).decode("ascii", "replace").split()
    finally:
        os.close(descriptor)
    if (
        not stat.S_ISREG(status.st_mode)
        or status.st_uid != uid
        or len(words_of_it) != 2
        or not all(map(str.isdigit, words_of_it))
    ):
        return None
    job, seconds = words_of_it
    argv = [_scontrol(environment.get("PATH", "")), "update", f"JobId={job}", f"StartTime=now+{seconds}"]
    return Client(argv, environment)
