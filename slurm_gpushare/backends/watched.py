"""What the memory watcher adds to a backend's own means, on this node and now. Standard library only.

``over_memory: kill`` ends a job that holds more than its share; from driver R615 on, with cgroup v2, the watcher has
the driver limit the job's cgroup as well (``watch/limits.py``), from the first sample after Slurm has made it.
"""

import fcntl
import os

from slurm_gpushare import paths
from slurm_gpushare.errors import BrokenInstallation

FIRST_WITH_LIMITS = 615
CGROUPS = "/sys/fs/cgroup/cgroup.controllers"  # of version 2 alone

CONDITION = "the driver limits the job's cgroup: R615, cgroup v2, `over_memory: kill`, while the watcher runs"


def runs(node: str) -> bool:
    """Return whether the node's memory watcher runs: it holds its lock."""
    try:
        lock = os.open(os.path.join(paths.node_dir(node), "watch.lock"), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(lock)


def limits(node: str, settings, driver: int | None = None) -> bool:
    """Return whether the driver limits the memory of this node's jobs; ``driver`` is its branch where that is known."""
    if settings.over_memory != "kill" or not os.path.exists(CGROUPS) or not runs(node):
        return False
    if driver is None:
        from slurm_gpushare.node import gpus  # the job's path needs NVML here alone

        try:
            driver = gpus.read_gpus().driver
        except BrokenInstallation:
            return False
    return driver >= FIRST_WITH_LIMITS
