"""The driver's own limit of a job's GPU memory, where it has one: of the job's cgroup, from release R615 on.

An allocation past it fails as one on a full card does, whichever of the job's processes asks and whatever its variables
say. It needs cgroup v2 at /sys/fs/cgroup, as Slurm's cgroup/v2 plugin does; on kernels with the dmem controller (6.14)
that must be enabled from the root down to the job (NVIDIA's documentation of MPS, release 615, "Memory Partitioning").
The limit goes with the cgroup; nothing is to be undone.
"""

import os
from collections.abc import Callable, Iterable, Mapping

from slurm_gpushare.launch import LaunchRecord
from slurm_gpushare.metrics.nvml import NOT_FOUND, SUCCESS
from slurm_gpushare.watch.judge import Run, run_of

ROOT = "/sys/fs/cgroup"
SLICE = "system.slice"  # CgroupSlice's value that Slurm has built in


def find_cgroup(record: LaunchRecord, root: str = ROOT) -> str | None:
    """Return the folder of the job's cgroup, None where there is none (yet), or cgroups are not of version 2.

    Slurm's cgroup/v2: one scope for all of a machine's jobs, with the node's name where several slurmd share it; below
    it job_N, from 26.05 on the run's SLUID unless CgroupJobIdPaths is set.
    """
    if not os.path.exists(os.path.join(root, "cgroup.controllers")):
        return None
    for scope in (f"{record.node}_slurmstepd.scope", "slurmstepd.scope"):
        for name in filter(None, (record.sluid, f"job_{record.job_id}")):
            path = os.path.join(root, SLICE, scope, name)
            if os.path.isdir(path):
                return path
    return None


class Limits:
    """The limits that were set, so that each is set once, and again where Slurm made the cgroup anew.

    ``limit(number, cgroup, size)`` asks the driver and returns an nvmlReturn_t; ``say`` gets a line for what is odd.
    """

    def __init__(self, limit: Callable[[int, str, int], int], say: Callable[[str], None], root: str = ROOT):
        self._limit = limit
        self._say = say
        self._root = root
        self._set: dict[tuple[Run, int], int] = {}  # the cgroup's inode

    def hold(self, records: Iterable[LaunchRecord], sizes: Mapping[tuple[Run, int], int]) -> None:
        """Limit each of the jobs on each of its GPUs to its size in bytes; what has none is left alone."""
        before, self._set = self._set, {}
        for record in records:
            cgroup = find_cgroup(record, self._root)
            if cgroup is None:
                continue
            try:
                inode = os.stat(cgroup).st_ino
            except OSError:
                continue  # it ended just now
            for number in record.gpus:
                key = run_of(record), number
                if key in sizes:
                    self._set[key] = inode
                    if before.get(key) != inode:
                        self._one(record, number, cgroup, sizes[key])

    def _one(self, record: LaunchRecord, number: int, cgroup: str, size: int) -> None:
        code = self._limit(number, cgroup, size)
        if code == NOT_FOUND and self._enable_dmem(cgroup):
            code = self._limit(number, cgroup, size)
        if code == SUCCESS:
            self._say(f"job {record.job_id} is limited to {size} bytes of GPU {number} by the driver")

    def _enable_dmem(self, cgroup: str) -> bool:
        """Enable the kernel's controller of device memory above the job; return whether it is there for it now."""
        folder = self._root
        try:
            for name in [*os.path.relpath(os.path.dirname(cgroup), self._root).split(os.sep), ""]:
                with open(os.path.join(folder, "cgroup.controllers"), encoding="ascii") as stream:
                    if "dmem" not in stream.read().split():
                        return False  # the driver counts by itself: the cgroup was another thing that it did not find
                below = os.path.join(folder, "cgroup.subtree_control")
                with open(below, encoding="ascii") as stream:
                    there = "dmem" in stream.read().split()
                if not there:
                    with open(below, "w", encoding="ascii") as stream:
                        stream.write("+dmem")
                folder = os.path.join(folder, name)
            return True
        except OSError as error:
            self._say(f"{folder}: dmem cannot be enabled: {error}: jobs are watched, and not limited by the driver")
            return False
