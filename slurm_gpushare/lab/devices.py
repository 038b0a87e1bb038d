"""A /dev of one's own: a tmpfs that allows device nodes, so that nothing is made in the host's /dev."""

import os
import stat
import subprocess
from collections.abc import Iterable, Mapping
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


def device_names(gpus: int, capabilities: Iterable[int] = ()) -> dict[str, tuple[int, int]]:
    """Return the nodes of a /dev with ``gpus`` GPUs: a GPU is a second null device under NVIDIA's name.

    ``capabilities`` are the numbers of the driver's nodes for the parts of a GPU that MIG made.
    """
    nodes = dict(NODES)
    if gpus:
        nodes["nvidiactl"] = NODES["null"]
        nodes.update({f"nvidia{index}": NODES["null"] for index in range(gpus)})
        nodes.update({f"nvidia-caps/nvidia-cap{number}": NODES["null"] for number in capabilities})
    return nodes


def make_dev(where: Path, gpus: int, capabilities: Iterable[int] = ()) -> None:
    """Mount and fill a /dev at ``where``, in the mount namespace of the caller."""
    where.mkdir(parents=True, exist_ok=True)
    _mount("tmpfs", "mode=0755,nosuid,noexec", "lab-dev", where)
    for name, (major, minor) in device_names(gpus, capabilities).items():
        (where / name).parent.mkdir(mode=0o755, exist_ok=True)
        os.mknod(where / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
        os.chmod(where / name, 0o666)
    for name, target in LINKS.items():
        os.symlink(target, where / name)
    (where / "pts").mkdir()
    _mount("devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5,nosuid,noexec", "devpts", where / "pts")
    (where / "shm").mkdir()
    _mount("tmpfs", "mode=1777,nosuid,nodev", "shm", where / "shm")


def make_mig_minors(capabilities: Mapping[str, int], where: Path = Path("/proc/driver")) -> None:
    """Mount over ``where`` what the driver tells there of the parts of GPUs that MIG made: its nodes by name."""
    _mount("tmpfs", "mode=0755,nosuid,nodev,noexec", "lab-driver", where)
    (where / "nvidia-caps").mkdir()
    lines = {"config": 1, "monitor": 2, **capabilities}
    (where / "nvidia-caps/mig-minors").write_text("".join(f"{name} {minor}\n" for name, minor in lines.items()))


def _mount(kind: str, options: str, name: str, where: Path) -> None:
    subprocess.run(["mount", "-t", kind, "-o", options, name, str(where)], check=True)
