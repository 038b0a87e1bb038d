"""Epilog: what the job holds is given back, and its folder removed.

Run by slurmd as root when the job has ended on this node (etc/slurm/epilog); Slurm keeps a pool's licences until then.
It believes the launch record, since the job's extra may have changed, and bears a missing one. It may be run again
after it was killed half-way. Standard library only.
"""

import os
import socket
import sys
from time import monotonic

from slurm_gpushare import backends, paths
from slurm_gpushare.errors import GpushareError
from slurm_gpushare.launch import LaunchRecord, read_record
from slurm_gpushare.node.folder import remove_job_folder
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
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
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


def release(job: Job, record: LaunchRecord | None, run_dir: str, node_policy: str) -> None:
    """Give back, as the user, what the job holds of its backend; without a record, of any that the node knows.

    Raises
    ------
    BrokenInstallation
        There is no policy on this node to say how.
    """
    work = paths.work_dir(job.node, job.job_id, run_dir)
    if (record is not None and record.grant is None) or not os.path.isdir(work):
        return
    settings = read_node_policy(node_policy).backends
    names = [name for name in settings if record is None or name == record.grant.backend]
    found = [(backends.find(name), settings[name]) for name in names]
    environment = clean_environment(job.uid)

    def action() -> bool:
        done = [backend.epilog(its_settings, work, environment) for backend, its_settings in found]
        return all(done)

    well, output = run_as(job.uid, job.gid, action, RELEASE_TIMEOUT)
    if not well:
        why = output.strip() or "the release was killed"
        tell(f"epilog: job {job.job_id}: not all that it held of {', '.join(names)} was released: {why}")


def epilog(environment: dict[str, str], run_dir: str = paths.RUN_DIR, node_policy: str = paths.NODE_POLICY) -> None:
    """Undo what prolog and tasks of a job left on this node; raises GpushareError or OSError for the node's faults."""
    job = read_job(environment)
    try:
        record = read_record(paths.launch_record(job.node, job.job_id, run_dir))
        job = job._replace(uid=record.uid, gid=record.gid)
    except FileNotFoundError:
        record = None  # no prolog ran here, or an epilog was killed half-way
    except GpushareError as error:
        record = None
        tell(f"epilog: job {job.job_id}: {error}")
    tell_agent(job.job_id, paths.agent_socket(job.node, run_dir))
    if not kill_left(job, paths.work_dir(job.node, job.job_id, run_dir)):
        tell(f"epilog: job {job.job_id}: processes are left that do not die")
    try:
        release(job, record, run_dir, node_policy)
    finally:
        left = remove_job_folder(run_dir, job.node, job.job_id, job.uid, job.gid)
        if left is not None:
            tell(f"epilog: {left}")


def main() -> int:
    """Run as slurmd's epilog; return the exit status, of which any but 0 drains the node."""
    try:
        epilog(dict(os.environ))
        return 0
    except (GpushareError, OSError) as error:
        tell(f"epilog: {reason(error)}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
