"""The namespaces of a node inside the lab: its own mounts (so its own /dev and GPUs) and its own host name.

The lab's init keeps them alive by open descriptors, whose numbers stand in /run/lab/nodes.json, so that a node's
processes may come and go. (Pinning by bind mounts is refused by kernels that number namespaces out of order.)
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from slurm_gpushare.lab import devices, kernel
from slurm_gpushare.lab.state import RUN_INSIDE

KINDS = {"mnt": kernel.CLONE_NEWNS, "uts": kernel.CLONE_NEWUTS}
TABLE = RUN_INSIDE + "/nodes.json"


def make_node(
    node: str, gpus: int, uncover: str | None, capabilities: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Make the namespaces of ``node`` with ``gpus`` GPUs and return descriptors of them, by kind.

    ``capabilities`` are the nodes for parts of its GPUs, by name. A cover over the folder ``uncover`` is lifted there.
    Raises OSError; the reason is on standard error.
    """
    go_read, go_write = os.pipe()
    done_read, done_write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(go_write)
            os.close(done_read)
            kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS)
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            kernel.sethostname(node)
            fresh = Path(RUN_INSIDE, "dev", node)
            devices.make_dev(fresh, gpus, (capabilities or {}).values())
            if capabilities:
                devices.make_mig_minors(capabilities)
            subprocess.run(["mount", "--rbind", str(fresh), "/dev"], check=True)
            if uncover:
                subprocess.run(["umount", uncover], check=True)
            os.write(done_write, b"1")
            os.read(go_read, 1)  # until the parent has opened the namespaces
            status = 0
        finally:
            os._exit(status)
    os.close(done_write)
    os.close(go_read)
    ready = os.read(done_read, 1)
    os.close(done_read)
    descriptors = {}
    if ready:
        descriptors = {kind: os.open(f"/proc/{child}/ns/{kind}", os.O_RDONLY) for kind in KINDS}
    os.close(go_write)
    os.waitpid(child, 0)
    if not ready:
        raise OSError(f"the namespaces of node {node} could not be made")
    return descriptors


def enter(descriptors: dict[str, int]) -> None:
    """Enter the namespaces that ``descriptors`` name by kind."""
    for kind, descriptor in descriptors.items():
        kernel.setns(descriptor, KINDS[kind])


def write_table(nodes: dict[str, dict[str, int]]) -> None:
    """Leave word for the host which descriptors of the lab's init are whose."""
    Path(TABLE).write_text(json.dumps(nodes))


def open_node(init: int, node: str) -> dict[str, int] | None:
    """From the host: open the namespaces of ``node`` of the lab whose init is pid ``init``; None when there is none."""
    try:
        with open(f"/proc/{init}/root{TABLE}") as stream:
            numbers = json.load(stream).get(node)
    except FileNotFoundError:
        return None
    if numbers is None:
        return None
    return {kind: os.open(f"/proc/{init}/fd/{number}", os.O_RDONLY) for kind, number in numbers.items()}
