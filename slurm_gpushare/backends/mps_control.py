"""The one door to nvidia-cuda-mps-control: each call has a time limit, none goes through a shell.

Commands are lines on its standard input (NVIDIA's documentation of MPS, the interface before release 615). Standard
library only.
"""

import _signal as signal
import os

from slurm_gpushare.backends.client import Client
from slurm_gpushare.errors import BackendError

PROGRAM = "/usr/bin/nvidia-cuda-mps-control"
PATIENCE = 10.0  # seconds for one call; `quit -t` is given less


def environment(folder: str, uuid: str) -> dict[str, str]:
    """Return all of the daemon's environment: its folders and its one GPU, and nothing of the job that starts it."""
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "CUDA_MPS_PIPE_DIRECTORY": folder + "/pipe",
        "CUDA_MPS_LOG_DIRECTORY": folder + "/log",
        "CUDA_VISIBLE_DEVICES": uuid,
    }


def run(settings: dict[str, str], *options: str, say: str = "", program: str = PROGRAM) -> tuple[int, str]:
    """Run the control program with the line ``say`` on its input; return its status and what it prints.

    Raises
    ------
    BrokenInstallation
        It is not on this node.
    BackendError
        It does not end in time.
    """
    client = Client([program, *options], settings, say + "\n" if say else "")
    try:
        if not client.wait(PATIENCE):
            os.kill(client.pid, signal.SIGKILL)
            client.wait(1.0)
            raise BackendError(f"{program} {say or ' '.join(options)}: no answer within {PATIENCE:g} s: MPS hangs here")
        return client.status, client.output().strip()
    finally:
        client.close()
