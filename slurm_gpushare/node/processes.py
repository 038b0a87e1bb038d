"""Processes that outlived their job.

Slurm's proctrack/cgroup leaves none; linuxproc and pgid lose what has left its session. A process belongs to the job
on this node when it is the user's and was started with the job's own variables. Standard library only.
"""

import _signal as signal  # the module signal costs every epilog 5 ms for the names of its numbers
import os
import select
from time import monotonic

from slurm_gpushare.node.job import Job


def belongs(environ: bytes, job: Job, work: str) -> bool:
    """Tell whether the environment of a process is that of a task of ``job`` on its node.

    SLURMD_NODENAME is only in what slurmd started: a login shell under salloc has the job's number too. What serves
    the image of a container has none of these but is started through a link in the job's folder ``work``
    (etc/libexec/shield).
    """
    variables = environ.split(b"\0")
    if os.fsencode(f"GPUSHARE_HELPER={work}/shield/squashfuse_ll") in variables:
        return True
    wanted = {
        f"SLURM_JOB_ID={job.job_id}".encode(),
        b"SLURMD_NODENAME=" + os.fsencode(job.node),
    }
    if job.cluster:
        wanted.add(b"SLURM_CLUSTER_NAME=" + os.fsencode(job.cluster))
    return wanted.issubset(variables)


def _is_slurmstepd(folder: str) -> bool:
    program = folder + "/exe"
    return os.path.basename(os.readlink(program)) == "slurmstepd" and os.stat(program).st_uid == 0


def _owner(folder: str) -> int:
    # Not the folder's owner: that is root for a process that asked not to be looked into.
    with open(folder + "/status", "rb") as stream:
        return int(next(line for line in stream if line.startswith(b"Uid:")).split()[1])


def _kill_one(pid: int, job: Job, work: str) -> int | None:
    """Kill process ``pid`` if it is the job's; return a descriptor that tells of its end, None when it is not."""
    folder = f"/proc/{pid}"
    descriptor = None
    try:
        if _owner(folder) != job.uid:
            return None
        # Opened before it is looked at: if the number goes to another process meanwhile, the signal reaches nobody.
        descriptor = os.pidfd_open(pid)
        with open(folder + "/environ", "rb") as stream:
            if belongs(stream.read(), job, work) and not _is_slurmstepd(folder):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                result, descriptor = descriptor, None
                return result
    except (OSError, StopIteration):
        pass  # it ended while we looked
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return None


def kill_left(job: Job, work: str, timeout: float = 5.0) -> bool:
    """Kill what is left of ``job`` on this node; return whether all was gone after ``timeout`` seconds."""
    if job.uid == 0:
        return True  # slurmd's own scripts for the job, this one among them, are root's with the same variables
    deadline = monotonic() + timeout
    while monotonic() < deadline:
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        dying = [descriptor for pid in numbers if (descriptor := _kill_one(pid, job, work)) is not None]
        if not dying:
            return True
        for descriptor in dying:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll(max(0.0, deadline - monotonic()) * 1000)
            os.close(descriptor)
    return False
