"""What a virtual machine boots from: a root file system of Debian with systemd, a kernel and a site's Slurm, as a disk.

It has nothing of the project: that comes on a disk of its own, as an administrator would copy it to a host.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

from slurm_gpushare.lab import host, rootfs, source, state
from slurm_gpushare.lab.params import ADDRESS, gpu_list
from slurm_gpushare.lab.progress import Progress
from slurm_gpushare.lab.recipe import (
    IMAGE,
    PACKAGES,
    PREFERENCES,
    SETUP,
    SUITE,
    UNSTABLE,
    Recipe,
    python_requirements,
    read_recipe,
)
from tests.vm import tools

NODE = "n1"  # the machine is this node, the controller and the login host
GPUS = 2
MACHINE_PACKAGES = (
    "systemd-sysv",
    "dbus",
    "udev",
    "kmod",
    "linux-image-cloud-amd64",
    "qemu-guest-agent",
    "nfs-kernel-server",
)
# Device numbers are the driver's own: without the driver opening one fails with ENXIO, and before that with EPERM
# where a cgroup forbids it.
STANDIN_UNIT = f"""\
[Unit]
Description=Stand-in GPUs
Before=slurmd.service gpushare-agent.service
ConditionPathExists={state.GPU_CONFIG.format(node=NODE)}

[Service]
Environment=PYTHONPATH={state.SOURCE_INSIDE} PYTHONDONTWRITEBYTECODE=1
ExecStartPre=/bin/sh -c 'cd /dev; mknod -m 666 nvidiactl c 195 255; install -d -m 755 nvidia-standin; \\
  for gpu in {" ".join(str(index) for index in range(GPUS))}; do mknod -m 666 nvidia$gpu c 195 $gpu; done; :'
ExecStart=/usr/bin/python3 -m slurm_gpushare.lab.standins.gpu.daemon --config {state.GPU_CONFIG.format(node=NODE)}
ExecStartPost=/bin/sh -c 'until [ -S /dev/nvidia-standin/socket ]; do sleep 0.2; done'

[Install]
WantedBy=multi-user.target
"""
MACHINE_SETUP = f"""\
echo {NODE} >/etc/hostname
printf '127.0.0.1 localhost\\n{ADDRESS} {NODE} login\\n' >/etc/hosts
cat >/etc/fstab <<'END'
/dev/vda / ext4 noatime 0 1
LABEL=source {os.path.dirname(state.SOURCE_INSIDE)} ext4 noatime 0 2
LABEL=images /data/images ext4 noatime 0 2
END
cat >/etc/systemd/network/10-site.network <<'END'
[Match]
Name=en*
[Network]
Address={ADDRESS}/24
LinkLocalAddressing=no
END
cat >/etc/systemd/system/gpu-standin.service <<'END'
{STANDIN_UNIT}END
systemctl enable systemd-networkd gpu-standin
systemctl disable slurmctld slurmd slurmdbd
systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \\
    fstrim.timer man-db.timer systemd-timesyncd.service getty@tty1.service serial-getty@ttyS0.service \\
    rpc-statd-notify.service
install -d /etc/lab
install -d -o slurm -g slurm /var/log/slurm
rm -rf /usr/share/doc /usr/share/info /var/cache/apt/archives
"""


def recipe(slurm: str) -> Recipe:
    """Return the recipe of a machine with Slurm ``slurm`` (24.11 or 26.05), and nothing of Python's beside Debian's."""
    what = f"test machine of Slurm {slurm}"
    packages, setup = (*PACKAGES, *MACHINE_PACKAGES), SETUP + MACHINE_SETUP
    if slurm == "24.11":
        return Recipe(what, "apt", SUITE, UNSTABLE, packages, PREFERENCES, setup, ())
    return Recipe(what, "apt", UNSTABLE, None, packages, "", setup, ())


def system_disk(slurm: str) -> Path:
    """Return the disk of a machine that was never booted, beside its root file system in the cache."""
    root = rootfs.ensure(host.cache_dir(), recipe(slurm), Progress(print))
    disk = root.parent / "disk.img"
    if not disk.exists():
        make_disk(root, root.parent / "disk.new", "root", spare_mib=3000)
        (root.parent / "disk.new").rename(disk)
    return disk


def kernel(slurm: str) -> tuple[Path, Path]:
    """Return kernel and initial RAM disk of the machine."""
    boot = rootfs.rootfs_path(host.cache_dir(), recipe(slurm)) / "boot"
    (image,) = boot.glob("vmlinuz-*")
    (ram_disk,) = boot.glob("initrd.img-*")
    return image, ram_disk


def images_disk(work: Path) -> Path:
    """Return a disk with one image for containers: the lab's base image as a folder, ``root``."""
    base = rootfs.ensure(host.cache_dir(), IMAGE, Progress(print))
    return make_disk(base.parent, work / "images.img", "images")


def source_disk(slurm: str, work: Path) -> Path:
    """Return a disk with the source tree, and in its dist/ the package that `make deb` made of it on such a machine."""
    root = rootfs.ensure(host.cache_dir(), recipe(slurm), Progress(print))
    tree = source.source_root()
    wanted = python_requirements((tree / "pyproject.toml").read_text(), ("html", "mariadb", "postgresql"))
    wheels = rootfs.ensure_wheels(host.cache_dir(), read_recipe(tree, slurm), wanted, Progress(print))
    folder = work / "source"
    inside = folder / Path(state.SOURCE_INSIDE).name
    source.copy_source(tree, inside)
    _build(root, work, inside, wheels)
    shutil.rmtree(inside / "build", ignore_errors=True)
    return make_disk(folder, work / "source.img", "source", spare_mib=400)


def _build(root: Path, work: Path, tree: Path, wheels: Path) -> None:
    """Make the package, and the stand-in GPUs' programs, in a layer above the root file system, without a network."""
    layer = work / "layer"
    for name in ("upper", "work", "root"):
        (layer / name).mkdir(parents=True)
    bwrap = ["bwrap", "--die-with-parent", "--unshare-pid", "--unshare-net", "--bind", str(layer / "root"), "/"]
    bwrap += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run"]
    bwrap += ["--bind", str(tree), state.SOURCE_INSIDE, "--ro-bind", str(wheels), state.WHEELS_INSIDE]
    bwrap += ["--clearenv", "--setenv", "PATH", "/usr/sbin:/usr/bin:/sbin:/bin", "--setenv", "LANG", "C.UTF-8"]
    bwrap += ["--setenv", "PIP_NO_INDEX", "1", "--setenv", "PIP_FIND_LINKS", state.WHEELS_INSIDE, "--"]
    made = f"make -C {state.SOURCE_INSIDE} deb && make -C {state.SOURCE_INSIDE}/slurm_gpushare/lab/standins/gpu"
    argv = ["unshare", "--mount", "--", "sh", "-c", rootfs.OVERLAY, "sh", str(root), str(layer)]
    done = subprocess.run([*argv, *bwrap, "sh", "-ec", made], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"make deb: status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    shutil.rmtree(layer)


def inventory() -> str:
    """Return the configuration of the stand-in GPUs."""
    return json.dumps({"gpus": gpu_list("machine", NODE, GPUS)}, indent=1) + "\n"


def make_disk(folder: Path, disk: Path, label: str, spare_mib: int = 64) -> Path:
    """Make ``disk``, an ext4 file system with what is in ``folder``, owners and modes included, and some room."""
    used = subprocess.run(["du", "-smx", str(folder)], capture_output=True, text=True, check=True).stdout.split()[0]
    size = int(int(used) * 1.1) + spare_mib
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-L", label, "-d", str(folder), str(disk), f"{size}M"]
    subprocess.run(tools.inside(argv, disk.parent, [folder]), check=True, capture_output=True)
    return disk
