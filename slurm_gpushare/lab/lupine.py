"""The LUPINE server of a lab that was asked for one: what the files of the lab say of it. Pure."""

from slurm_gpushare.lab.params import ADDRESS, GPU_MODEL, SLICES_PER_GPU
from slurm_gpushare.lab.pool import add_licence

SERVER = "lupine1"
PORT = 14833
GPUS = 2
CONFIG = "/etc/lab/lupine.json"  # the GPUs of the server

SLICES = GPUS * SLICES_PER_GPU  # on each client node, by its count-only gres


def backend() -> dict:
    """Return the policy's section for it."""
    server = {
        "name": SERVER,
        "address": f"{ADDRESS}:{PORT}",
        "gpus": GPUS,
        "gpu_memory": f"{GPU_MODEL['memory_mib']} MiB",
    }
    return {"servers": [server]}


def licence_commands(cluster: str) -> list[list[str]]:
    """Return the words after `sacctmgr -i` for a licence of each of its GPUs."""
    return [add_licence(gpu, SERVER, cluster) for gpu in range(GPUS)]
