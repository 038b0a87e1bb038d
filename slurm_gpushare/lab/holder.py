"""The one process that holds a lab: its mount and network namespaces, and everything inside by parent-death signals.

Started by ``gpushare lab up``; shows up in ps as ``gpushare-lab: NAME``. When it ends, by whatever signal, the kernel
ends bubblewrap, with it the lab's pid namespace, and the mounts go with the last process of the mount namespace.
Standard output is the progress of ``up`` (progress lines as JSON), standard error the log.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from slurm_gpushare.lab import configure, devices, kernel, network, pool, rootfs, state
from slurm_gpushare.lab.params import CONTROLLER, LabParams

TITLE = "gpushare-lab"


def main(folder: Path, lock: int) -> int:
    """Hold the lab whose parameters lie in ``folder`` until its inner init ends; ``lock`` is the lab's, inherited."""
    kernel.set_name(TITLE)
    os.umask(0o022)
    asked = json.loads((folder / "params.json").read_text())
    params = LabParams(**asked["params"])
    base = Path(asked["rootfs"])
    try:
        in_use = rootfs.hold(base)
        kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWNET)
        write_state(folder)
        os.close(lock)
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        network.make_network(server.ip for server in pool.servers(params))
        root = mount_overlay(base, folder)
        devices.make_dev(folder / "dev", gpus=0)
        configure.write_files(root, params)
    except (OSError, subprocess.CalledProcessError) as error:
        return fail("namespaces and mounts", str(error))
    except OverlayRefused as error:
        return fail("writable root", str(error))
    log = configure.log_folder(folder, root)
    read_end, write_end = os.pipe()
    argv = bwrap_argv(root, folder / "dev", log, asked["init"], write_end, params)
    inner = subprocess.Popen(argv, stdin=subprocess.DEVNULL, pass_fds=[write_end])
    os.close(write_end)
    with os.fdopen(read_end) as stream:
        answer = stream.read()
    if not answer:
        return fail("bubblewrap", "it did not start the lab")
    init = json.loads(answer)["child-pid"]
    write_state(folder, inner.pid, init)
    # From here on only the inner init reports.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: inner.kill())
    inner.wait()
    os.close(in_use)
    return 0


def write_state(folder: Path, bwrap: int = 0, init: int = 0) -> None:
    """Tell the host which processes are the lab's; the last two are 0 until they exist."""
    pids = {"holder": os.getpid(), "bwrap": bwrap, "init": init}
    starts = {f"{name}_start": state.start_time(pid) or 0 for name, pid in pids.items()}
    state.write_state(folder, state.LabState(**pids, **starts))


class OverlayRefused(Exception):
    """The kernel does not take the run folder as the upper layer of an overlay."""


def mount_overlay(base: Path, folder: Path) -> Path:
    """Mount ``base``, read-only, with the lab's own writable layer over it; returns where."""
    for name in ("upper", "work", "root"):
        (folder / name).mkdir(mode=0o755, exist_ok=True)
    options = f"lowerdir={base},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    done = subprocess.run(
        ["mount", "-t", "overlay", "-o", options, "gpushare-lab", str(folder / "root")], capture_output=True, text=True
    )
    if done.returncode != 0:
        reason = done.stderr.strip().partition("\n")[0]
        raise OverlayRefused(
            f"no overlay can be mounted with its upper layer in {folder}: set GPUSHARE_LAB_RUN to a folder on ext4, "
            f"xfs, btrfs or tmpfs ({reason})"
        )
    return folder / "root"


def bwrap_argv(root: Path, dev: Path, log: Path, init: list[str], info: int, params: LabParams) -> list[str]:
    """Return the command that starts the lab's init as pid 1 of its own pid, ipc and uts namespaces."""
    argv = ["bwrap", "--die-with-parent", "--as-pid-1", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    argv += ["--hostname", CONTROLLER, "--dev-bind", str(root), "/", "--proc", "/proc", "--dev-bind", str(dev), "/dev"]
    # The image tools mount /sys themselves; nothing in the lab may write the host's.
    argv += ["--ro-bind", "/sys", "/sys", "--perms", "0755", "--tmpfs", "/run", "--bind", str(log), state.LOG_INSIDE]
    argv += ["--info-fd", str(info), "--chdir", "/", "--clearenv"]
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PYTHONPATH": state.SOURCE_INSIDE,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for key, value in environment.items():
        argv += ["--setenv", key, value]
    return [*argv, "--", *init, json.dumps(params.to_dict())]


def fail(step: str, why: str) -> int:
    """Tell ``up`` that ``step`` failed."""
    print(json.dumps({"failed": step, "why": why, "log": None}), flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
