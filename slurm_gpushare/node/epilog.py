"""Epilog: what the job holds is given back, and its folder removed.

Run by slurmd as root when the job has ended on this node (etc/slurm/epilog, installed as gpushare-epilog); Slurm keeps
a pool's licences until then. It believes the launch record, since the job's extra may have changed, and bears a missing
one. It may be run again after it was killed half-way; what it could not give back, the sweep tries again. Standard
library only.
"""

import _socket  # the module socket, with selectors and enum, costs every epilog 5 ms
import os
from time import monotonic

from slurm_gpushare import backends, paths
from slurm_gpushare.errors import GpushareError
from slurm_gpushare.launch import read_record
from slurm_gpushare.node.folder import lock_job_folder, put_aside, remove_record, remove_work
from slurm_gpushare.node.job import Job, read_job
from slurm_gpushare.node.log import reason, tell
from slurm_gpushare.node.processes import kill_left
from slurm_gpushare.node.user import clean_environment, run_as
from slurm_gpushare.node_policy import read_node_policy

AGENT_TIMEOUT = 1.0  # seconds
RELEASE_TIMEOUT = 10.0  # seconds


def tell_agent(job_id: int, path: str, timeout: float = AGENT_TIMEOUT) -> bool:
    """Tell the agent that a job has ended; return whether it said so in time that its record is safe."""
    deadline = monotonic() + timeout
    agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        agent.settimeout(timeout)
        agent.connect(path)
        agent.sendall(f"end {job_id}\n".encode())
        answer = b""
        while not answer.endswith(b"\n") and len(answer) < 64:
            agent.settimeout(max(0.001, deadline - monotonic()))
            part = agent.recv(64)
            if not part:
                break
            answer += part
        return answer == b"ok\n"
    except OSError:
        return False  # jobs run whether or not the agent does
    finally:
        agent.close()


def backends_of(backend: str | None, node_policy: str) -> list[tuple]:
    """Return the module and the settings of ``backend``, where it is None of each of the node's.

    Raises
    ------
    BrokenInstallation
        There is no policy on this node to say how.
    """
    settings = read_node_policy(node_policy).backends
    return [(backends.find(name), settings[name]) for name in settings if backend in (None, name)]


def release(folder: int, work: str, found: list[tuple]) -> str | None:
    """Give back, as the owner of ``work`` in ``folder``, what a job holds of the backends ``found``.

    Returns why not all was given back, None when all was.
    """
    try:
        owner = os.stat("work", dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    environment = clean_environment(owner.st_uid)

    def action() -> bool:
        os.close(folder)  # its lock must not outlive the caller
        done = [module.epilog(settings, work, environment) for module, settings in found]
        return all(done)

    well, output = run_as(owner.st_uid, owner.st_gid, action, RELEASE_TIMEOUT)
    return None if well else output.strip() or "the release was killed"


def finish(job: Job, found: list[tuple]) -> str | None:
    """Have the backends ``found`` undo what they did for the job on this node, which is over.

    Returns why not all was undone, None when all was.
    """
    failed = []
    for module, settings in found:
        try:
            module.finish(job.job_id, job.node, settings)
        except (GpushareError, OSError) as error:
            failed.append(reason(error))
    return "; ".join(failed) or None


def settle(folder: int, path: str, backend: str | None, node_policy: str, over: Job | None) -> str | None:
    """Give back what the job of the locked ``folder`` at ``path`` holds, and remove the folder.

    ``backend`` is that of its grant, "" where it has none, None where that is not known. ``over`` is the job, None
    where a later run of it may be here. Returns what was not done and where the folder was put for the sweep to try
    again, None when all is well; raises BrokenInstallation.
    """
    try:
        why = None
        if backend != "":
            found = backends_of(backend, node_policy)
            undone = None if over is None else finish(over, found)
            kept = release(folder, os.path.join(path, "work"), found)
            why = "; ".join(filter(None, (undone, kept))) or None
        if why is not None:
            return f"not all that it held was released: {why}; {put_aside(path)} is kept"
        remove_work(folder)
        os.rmdir(path)
        return None
    except OSError as error:
        return f"{put_aside(path)} is left: {error.strerror}"


def epilog(environment: dict[str, str], run_dir: str = paths.RUN_DIR, node_policy: str = paths.NODE_POLICY) -> None:
    """Undo what prolog and tasks of a job left on this node; raises GpushareError or OSError for the node's faults."""
    job = read_job(environment)
    folder = lock_job_folder(paths.NODE_STATE_DIR, job.node, job.job_id)
    try:
        record = read_record(paths.launch_record(job.node, job.job_id, run_dir))
        job = job._replace(uid=record.uid, gid=record.gid)
    except FileNotFoundError:
        record = None  # no prolog ran here, the node was rebooted, or an epilog was killed half-way
    except GpushareError as error:
        record = None
        tell(f"epilog: job {job.job_id}: {error}")
    work = paths.work_dir(job.node, job.job_id)
    try:
        tell_agent(job.job_id, paths.agent_socket(job.node, run_dir))
        if not kill_left(job, work):
            tell(f"epilog: job {job.job_id}: processes are left that do not die")
        # Before all that may fail: whoever looks for running jobs must not find this one.
        remove_record(run_dir, job.node, job.job_id)
        if folder is not None:
            backend = None if record is None else "" if record.grant is None else record.grant.backend
            left = settle(folder, os.path.dirname(work), backend, node_policy, job)
        else:
            # A prolog that was killed got no further than what its backend did.
            left = finish(job, backends_of(None, node_policy))
        if left is not None:
            tell(f"epilog: job {job.job_id}: {left}")
    finally:
        if folder is not None:
            os.close(folder)


def main() -> int:
    """Run as slurmd's epilog; return the exit status, of which any but 0 drains the node."""
    try:
        epilog(dict(os.environ))
        return 0
    except (GpushareError, OSError) as error:
        tell(f"epilog: {reason(error)}")
        return 1
