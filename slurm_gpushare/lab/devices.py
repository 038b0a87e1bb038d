"""A /dev of one's own: a tmpfs that allows device nodes, so that nothing is made in the host's /dev."""

import os
import stat
import subprocess
from pathlib import Path

# name: (major, minor), Documentation/admin-guide/devices.txt of Linux
NODES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
    "fuse": (10, 229),
}
LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}


def device_names(gpus: int) -> dict[str, tuple[int, int]]:
    """Return the nodes of a /dev with ``gpus`` GPUs: a GPU is a second null device under NVIDIA's name."""
    nodes = dict(NODES)
    if gpus:
        nodes["nvidiactl"] = NODES["null"]
        nodes.update({f"nvidia{index}": NODES["null"] for index in range(gpus)})
    return nodes


def make_dev(where: Path, gpus: int) -> None:
    """Mount and fill a /dev at ``where``, in the mount namespace of the caller."""
    where.mkdir(parents=True, exist_ok=True)
    _mount("tmpfs", "mode=0755,nosuid,noexec", "lab-dev", where)
    for name, (major, minor) in device_names(gpus).items():
        os.mknod(where / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
        os.chmod(where / name, 0o666)
    for name, target in LINKS.items():
        os.symlink(target, where / name)
    (where / "pts").mkdir()
    _mount("devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5,nosuid,noexec", "devpts", where / "pts")
    (where / "shm").mkdir()
    _mount("tmpfs", "mode=1777,nosuid,nodev", "shm", where / "shm")


def _mount(kind: str, options: str, name: str, where: Path) -> None:
    subprocess.run(["mount", "-t", kind, "-o", options, name, str(where)], check=True)
