"""Sweep: what jobs that are over still hold is given back.

Run as root before slurmd starts and every few seconds after (etc/systemd/gpushare-sweep.timer). It finds what a reboot,
a killed epilog or a pool that did not answer left: folders on disk of jobs without a launch record, which a reboot
takes away, folders that were put aside, and records that an epilog marked and did not remove. Standard library only.
"""

import os
import re
import sys
import time

from slurm_gpushare import paths
from slurm_gpushare.errors import GpushareError
from slurm_gpushare.node.epilog import backends_of, finish, settle, tell_agent
from slurm_gpushare.node.folder import lock_job_folder, remove_record
from slurm_gpushare.node.job import Job
from slurm_gpushare.node.log import reason, tell
from slurm_gpushare.node.processes import kill_left

FOLDER = re.compile(r"([0-9]+)(?:\.left\.([0-9]+))?")

# Seconds from the epilog's first act to its lock: it starts Python in between.
STARTED = 5.0

# After these seconds a pool has let go by itself: auto_release_timeout is 10 min by default.
GIVE_UP = 900.0


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def end_marked(node: str, run_dir: str, node_policy: str) -> None:
    """Take the records of those jobs away whose epilog began and is no more; raises GpushareError or OSError."""
    for name in _names(os.path.join(run_dir, node, "jobs")):
        try:
            mark = os.stat(paths.ended_mark(node, int(name), run_dir)) if name.isdigit() else None
        except FileNotFoundError:
            continue  # it runs
        if mark is None or time.time() - mark.st_mtime < STARTED:
            continue
        folder = lock_job_folder(paths.NODE_STATE_DIR, node, name, wait=False)
        if folder is None and os.path.lexists(os.path.dirname(paths.work_dir(node, int(name)))):
            continue  # its epilog is at work
        try:
            tell(f"sweep: job {name}: its epilog was killed")
            tell_agent(int(name), paths.agent_socket(node, run_dir))
            if folder is None:  # its prolog was killed too
                left = finish(_job(node, int(name)), backends_of(None, node_policy))
                if left is not None:
                    tell(f"sweep: job {name}: {left}")
                    continue
            remove_record(run_dir, node, int(name))
        finally:
            if folder is not None:
                os.close(folder)


def give_back_left(node: str, run_dir: str, node_policy: str) -> None:
    """Give back what jobs hold that have no record, or whose folder was put aside; raises GpushareError or OSError."""
    jobs = os.path.join(paths.NODE_STATE_DIR, node, "jobs")
    for name in _names(jobs):
        match = FOLDER.fullmatch(name)
        folder = None if match is None else lock_job_folder(paths.NODE_STATE_DIR, node, name, wait=False)
        if folder is None:
            continue
        try:
            job_id, ended = int(match[1]), match[2]
            runs = os.path.lexists(paths.job_dir(node, job_id, run_dir))
            if runs and ended is None:
                continue
            if not runs:
                _kill(folder, node, job_id)
            given_up = ended is not None and time.time() - int(ended) > GIVE_UP
            over = None if runs else _job(node, job_id)
            left = settle(folder, os.path.join(jobs, name), "" if given_up else None, node_policy, over)
            if left is None or ended is None:
                tell(f"sweep: job {job_id}: {left or 'what it had left is given back'}")
        finally:
            os.close(folder)


def _kill(folder: int, node: str, job_id: int) -> None:
    try:
        owner = os.stat("work", dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    kill_left(_job(node, job_id, owner.st_uid, owner.st_gid), paths.work_dir(node, job_id))


def _job(node: str, job_id: int, uid: int = 0, gid: int = 0) -> Job:
    return Job(job_id, uid, gid, "", node, "")


def sweep(nodes: list[str], run_dir: str = paths.RUN_DIR, node_policy: str = paths.NODE_POLICY) -> bool:
    """Sweep after the jobs of ``nodes``, of all that have folders here where it is empty; return whether all went well.

    Several slurmd may share a machine, so a machine may be several nodes.
    """
    well = True
    for node in nodes or _names(paths.NODE_STATE_DIR):
        try:
            end_marked(node, run_dir, node_policy)
            give_back_left(node, run_dir, node_policy)
        except (GpushareError, OSError) as error:
            well = False
            tell(f"sweep: {reason(error)}")
    return well


if __name__ == "__main__":
    sys.exit(0 if sweep(sys.argv[1:]) else 1)
