"""A share of the GPUs of LUPINE servers (GPU over IP), placed by Slurm's licences, one for each GPU.

LUPINE has no client program: libraries of the driver's names in LD_LIBRARY_PATH talk to the servers of LUPINE_SERVER,
HOST:PORT; its README names both. The driver's library follows CUDA_VISIBLE_DEVICES (from its change #760 on, September
2026), by which the job sees the GPUs that Slurm gave it alone. Nothing is allocated on a server, so nothing is to be
released: what a process had there ends with its connection. LUPINE_SESSION, a state to be restored, is the user's.
Standard library only: the launcher runs for every task.
"""

import os

from slurm_gpushare.backends.gpu import begin, epilog, finish, task_argv
from slurm_gpushare.backends.places import agrees
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

# Each connection has a server process of its own; of how much that takes the server keeps no account.
ENFORCES = {"memory": "none", "compute": "none", "faults": "enforced"}
MODES = {"placement alone, a server process for each client": ENFORCES}
REMOTE = True
SAMPLED = False  # its NVML shows whole cards, and by process the numbers of the server's own
SEES = "card"

LIBRARIES = "/opt/lupine/lib"  # where its client image has them


def task_environment(work: str, settings=None, place=None) -> dict[str, str]:
    """Return what leads the shims to the GPUs of ``place``, and to no GPU of the node's own."""
    return {
        "LUPINE_SERVER": place.address,
        "LUPINE_DISABLE_LOCAL": "1",
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, place.gpus)),
        "LD_LIBRARY_PATH": settings.libraries or LIBRARIES,
    }


def binds(settings) -> list[str]:
    """Return the folder of the shims, to be bound at the same place in a container."""
    return [settings.libraries or LIBRARIES]


def prepare(grant, settings, step: str, work: str, environment: dict[str, str], place=None, meanwhile=None) -> None:
    """Find the shims; without them a program would say that there is no GPU, and not why.

    Raises
    ------
    BrokenInstallation
        They are not on this node.
    """
    library = os.path.join(settings.libraries or LIBRARIES, "libcuda.so.1")
    if not os.path.exists(library):
        raise BrokenInstallation(f"{library} is not on this node: install LUPINE's client libraries there")
