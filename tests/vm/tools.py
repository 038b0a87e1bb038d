"""QEMU and what makes disks, in a root file system of Debian of their own: the host gets none of them."""

from collections.abc import Iterable
from pathlib import Path

from slurm_gpushare.lab import host, rootfs
from slurm_gpushare.lab.progress import Progress
from slurm_gpushare.lab.recipe import SUITE, Recipe
from tests.tools import SETUP

PACKAGES = ("qemu-system-x86", "qemu-utils", "e2fsprogs")
TOOLS = Recipe("test machine tools", "apt", SUITE, None, PACKAGES, "", SETUP, ())


def inside(argv: list[str], work: Path, read: Iterable[Path] = ()) -> list[str]:
    """Return the argv that runs ``argv`` there, as root and without a network, while its caller lives.

    ``read`` are files and folders that it reads, ``work`` is the one folder that it writes: all have the same paths in
    there.
    """
    root = rootfs.ensure(host.cache_dir(), TOOLS, Progress(print))
    bwrap = ["bwrap", "--die-with-parent", "--unshare-net", "--ro-bind", str(root), "/", "--proc", "/proc"]
    bwrap += ["--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/var", "--tmpfs", "/root", "--tmpfs", "/home"]
    for path in read:
        bwrap += ["--ro-bind", str(path), str(path)]
    bwrap += ["--bind", str(work), str(work), "--clearenv", "--setenv", "LANG", "C.UTF-8"]
    return [*bwrap, "--setenv", "PATH", "/usr/sbin:/usr/bin:/sbin:/bin", "--", *argv]
