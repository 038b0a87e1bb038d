"""What jobs that Slurm no longer has left on this host: their folders on disk, with what they hold of the pool.

The sweep (node/sweep.py) gives back what is left by the node's own knowledge: a job without a launch record is over.
Here Slurm is asked, so that a record that nobody took away keeps nothing either.
"""

import os
import re
from collections.abc import Callable, Set
from dataclasses import dataclass

from slurm_gpushare import paths
from slurm_gpushare.node.epilog import settle, tell_agent
from slurm_gpushare.node.folder import lock_job_folder, remove_record
from slurm_gpushare.node.job import Job

_NAME = re.compile(r"([1-9][0-9]*)(\.left\.[0-9]+)?")  # the second form: an epilog could not remove it (put_aside)


@dataclass(frozen=True)
class Leftover:
    """The folder of a job that is over."""

    node: str
    job_id: int
    name: str  # of the folder
    aside: bool  # of an earlier run: the job's number may run again

    @property
    def path(self) -> str:
        """Return where the folder is."""
        return os.path.join(paths.NODE_STATE_DIR, self.node, "jobs", self.name)


def find_leftovers(active: Callable[[], Set[int]]) -> list[Leftover]:
    """Return the folders of jobs that are not among ``active()``, the jobs that Slurm has until their epilogs ended.

    Slurm is asked after the folders are listed: a job whose folder is there by then has begun before.
    """
    found = []
    for node in _folders(paths.NODE_STATE_DIR):
        for name in _folders(os.path.join(paths.NODE_STATE_DIR, node, "jobs")):
            if match := _NAME.fullmatch(name):
                found.append(Leftover(node, int(match[1]), name, match[2] is not None))
    ids = active() if found else set()
    return [left for left in found if left.aside or left.job_id not in ids]


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as found:
            return sorted(entry.name for entry in found if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def give_back(left: Leftover, run_dir: str = paths.RUN_DIR, node_policy: str = paths.NODE_POLICY) -> str | None:
    """Give back, as its owner, what the job holds, and remove its folder; return what was not done, None when all was.

    Where an epilog or the sweep is at it, it is left to them. Raises OSError, and BrokenInstallation when this node has
    no policy.
    """
    folder = lock_job_folder(paths.NODE_STATE_DIR, left.node, left.name, wait=False)
    if folder is None:
        return None
    try:
        if not left.aside and os.path.lexists(paths.job_dir(left.node, left.job_id, run_dir)):
            tell_agent(left.job_id, paths.agent_socket(left.node, run_dir))
            remove_record(run_dir, left.node, left.job_id)
        runs = os.path.lexists(paths.job_dir(left.node, left.job_id, run_dir))  # a later run, where this one is aside
        over = None if runs else Job(left.job_id, 0, 0, "", left.node, "")
        return settle(folder, left.path, None, node_policy, over)
    finally:
        os.close(folder)
