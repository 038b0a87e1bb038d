"""A share of a GPU of the node, as gres/shard counts it, with HAMi-core's library before every program.

The library stands between the program and libcuda.so. Its README (Project-HAMi/HAMi-core) names LD_PRELOAD, the two
limits and the folder /tmp/vgpulock, which it wants to find; CUDA_DEVICE_MEMORY_SHARED_CACHE, from its sources, is the
file by which the processes of one job share one limit. It shows a program the memory of its share. A program that
clears LD_PRELOAD, is linked statically or calls the driver in other ways is not held by it: nothing here is enforced.
"""

import os

from slurm_gpushare import paths
from slurm_gpushare.backends import watched
from slurm_gpushare.backends.gpu import agrees, binds, epilog, finish, prepare, task_argv, task_environment
from slurm_gpushare.errors import BrokenInstallation

__all__ = [
    "ENFORCES",
    "MODES",
    "REMOTE",
    "SAMPLED",
    "SEES",
    "agrees",
    "begin",
    "binds",
    "epilog",
    "finish",
    "prepare",
    "task_argv",
    "task_environment",
]

ENFORCES = {"memory": "advisory", "compute": "advisory", "faults": "none"}
MODES = {
    "the library is before every program that does not clear `LD_PRELOAD`": ENFORCES,
    watched.CONDITION: {**ENFORCES, "memory": "enforced"},
}
REMOTE = False
SAMPLED = False
SEES = "share"

LIBRARY = "/usr/local/vgpu/libvgpu.so"
LOCKS = "/tmp/vgpulock"  # its own choice; all processes of the node that use the library lock each other out there


def begin(record, settings, environment: dict[str, str]) -> dict:
    """Return what puts the library before the job's programs, with the limits of its share.

    Raises
    ------
    BrokenInstallation
        The library is not on this node, or its folder of locks cannot be made.
    """
    library = settings.library or LIBRARY
    if not os.path.isfile(library):
        raise BrokenInstallation(f"{library} is not on this node: install HAMi-core there")
    make_locks()
    grant, work = record.grant, paths.work_dir(record.node, record.job_id)
    limits = {
        "LD_PRELOAD": library,
        "CUDA_DEVICE_SM_LIMIT": str(max(1, round(100 * grant.fraction))),
        "CUDA_DEVICE_MEMORY_SHARED_CACHE": os.path.join(work, "hami.cache"),
    }
    enforces = dict(ENFORCES)
    if grant.memory is None:
        enforces["memory"] = "none"  # the policy does not know how much this GPU has
    else:
        limits["CUDA_DEVICE_MEMORY_LIMIT"] = f"{grant.memory >> 20}m"
    if watched.limits(record.node, settings):
        enforces["memory"] = "enforced"
    return {"environment": limits, "binds": [library, LOCKS, work], "enforces": enforces}


def make_locks(folder: str = LOCKS) -> None:
    """Make the folder of locks, for everybody to write, as HAMi's own plugin does; raises BrokenInstallation."""
    try:
        try:
            os.mkdir(folder)
        except FileExistsError:
            pass  # made for an earlier job, or by a user
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchown(descriptor, 0, 0)
            os.fchmod(descriptor, 0o777)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BrokenInstallation(f"{folder}: {error.strerror}: HAMi-core locks there") from None
