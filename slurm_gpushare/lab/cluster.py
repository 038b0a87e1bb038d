"""Bring a lab up, down, and tell how it is: the host's side."""

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab import configure, host, rootfs, source, state
from slurm_gpushare.lab.holder import TITLE
from slurm_gpushare.lab.params import LabParams
from slurm_gpushare.lab.progress import Progress, StepFailed
from slurm_gpushare.lab.recipe import VENV, python_requirements, read_recipe

GENTLE = 5.0  # seconds for the holder to end by itself
DOWN_DEADLINE = 30.0


def lab_folder(name: str) -> Path:
    """Return the folder of lab ``name`` on the host."""
    return host.run_dir() / LabParams(name=name).name


@contextmanager
def _lock(name: str) -> Iterator[int]:
    run = host.run_dir()
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(run / f".{name}.lock", "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream.fileno()


def up(params: LabParams, progress: Progress) -> bool:
    """Bring the lab up; returns False when it was up already with the same parameters. Raises LabError."""
    host.require_host()
    folder = lab_folder(params.name)
    with _lock(params.name) as lock:
        current = state.read_state(folder)
        if current and current.alive() and current.ready():
            asked = read_params(folder)
            if asked == params:
                return False
            raise LabError(
                f"lab {params.name} is up with other settings: run `gpushare lab down --name {params.name}` first"
            )
        _remove(folder)
        base = build(progress, params.slurm)
        tree = source.source_root()
        wheels = _wheels(progress, params, tree) if params.bare else None
        started = time.monotonic()
        _prepare(folder, params, base, tree)
        if wheels:
            _bare(folder / "upper", wheels)
        progress.line("source tree copied", time.monotonic() - started)
        process = _start_holder(folder, params, lock)
        try:
            _follow(process, folder, progress)
        except BaseException:
            process.kill()
            process.wait()
            _wait_gone(folder)
            raise
    return True


def build(progress: Progress, slurm: str) -> Path:
    """Build the root file system of labs with that Slurm if the cache has none for its recipe.

    Returns where it is. Raises LabError.
    """
    host.require_host()
    return rootfs.ensure(host.cache_dir(), read_recipe(source.source_root(), slurm), progress)


def names() -> list[str]:
    """Return the labs that have a folder, up or not."""
    run = host.run_dir()
    return sorted(path.parent.name for path in run.glob("*/params.json"))


def clean() -> None:
    """Stop every lab; remove what labs made in the run and cache folders, and these when empty. Raises LabError."""
    for name in names():
        down(name)
    run = host.run_dir()
    for path in run.glob(".*.lock"):
        path.unlink()
    with suppress(OSError):
        run.rmdir()
    rootfs.remove_all(host.cache_dir())


def read_params(folder: Path) -> LabParams | None:
    """Return what the lab at ``folder`` was asked to be; None when it was not asked."""
    try:
        return LabParams(**json.loads((folder / "params.json").read_text())["params"])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def _prepare(folder: Path, params: LabParams, base: Path, tree: Path) -> None:
    inside = folder / "upper" / state.SOURCE_INSIDE.lstrip("/")
    folder.mkdir(mode=0o700)
    for path in [*[p for p in reversed(inside.parents) if folder in p.parents], inside]:
        path.mkdir(mode=0o755, exist_ok=True)
        path.chmod(0o755)
    source.copy_source(tree, inside)
    if not params.bare:
        # Here and not in the holder, whose Python is the system's and has nothing of ours installed.
        shipped = (tree / "etc/gpushare.yaml").read_text()
        mine = configure.site_policy(yaml.safe_load(shipped), params)
        policy = folder / "upper/etc/gpushare/gpushare.yaml"
        policy.parent.mkdir(mode=0o755, parents=True)
        policy.write_text(shipped if mine is None else yaml.safe_dump(mine, sort_keys=False))
    init = ["/usr/bin/python3", "-m", "slurm_gpushare.lab.supervisor"]
    asked = {"params": params.to_dict(), "rootfs": str(base), "init": init}
    (folder / "params.json").write_text(json.dumps(asked, indent=1) + "\n")


def _wheels(progress: Progress, params: LabParams, tree: Path) -> Path:
    requirements = python_requirements((tree / "pyproject.toml").read_text(), ("html", "mariadb", "postgresql"))
    return rootfs.ensure_wheels(host.cache_dir(), read_recipe(tree, params.slurm), requirements, progress)


def _bare(upper: Path, wheels: Path) -> None:
    """Take the project's environment out of the root file system; put there instead what pip can make another of."""
    hidden = upper / VENV.lstrip("/")
    hidden.parent.mkdir()
    hidden.parent.chmod(0o755)
    os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0))  # overlayfs takes it for a file that was removed
    shutil.copytree(wheels, upper / state.WHEELS_INSIDE.lstrip("/"))


def _start_holder(folder: Path, params: LabParams, lock: int) -> subprocess.Popen:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        # The process carries the lab's name in place of the interpreter's, which hides where Python is at home.
        "PYTHONHOME": f"{sys.base_prefix}:{sys.base_exec_prefix}",
        "PYTHONPATH": str(source.source_root()),
    }
    with open(folder / "holder.log", "wb") as log:
        return subprocess.Popen(
            [f"{TITLE}: {params.name}", "-m", "slurm_gpushare.lab.holder", str(folder), str(lock)],
            executable=os.path.realpath(sys.executable),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,
            cwd="/",
            # Were `up` killed now, nobody else may touch the folder until the holder has said that it exists.
            pass_fds=[lock],
        )


def _follow(process: subprocess.Popen, folder: Path, progress: Progress) -> None:
    for line in process.stdout:
        message = json.loads(line)
        if "failed" in message:
            raise StepFailed(message["failed"], message["why"], _host_log(folder, message["log"]))
        if message.get("ready"):
            return
        progress.line(message["step"], message["seconds"])
    raise StepFailed("lab", "it ended before it was ready", folder / "holder.log")


def _host_log(folder: Path, inside: str | None) -> Path:
    if inside is None:
        return folder / "holder.log"
    return folder / "log" / Path(inside).relative_to(state.LOG_INSIDE)


def down(name: str) -> bool:
    """Stop the lab and remove its folder; returns False when there was none. Raises LabError."""
    host.require_root()
    folder = lab_folder(name)
    with _lock(name):
        existed = folder.exists()
        _remove(folder)
    return existed


def _remove(folder: Path) -> None:
    """End every process of the lab at ``folder``, then delete it; bears a lab that is half up or half gone."""
    current = state.read_state(folder)
    if current and current.alive():
        os.kill(current.holder, signal.SIGTERM)  # it ends bubblewrap and waits for it
        end = time.monotonic() + GENTLE
        while current.alive() and time.monotonic() < end:
            time.sleep(0.02)
        if current.alive():
            os.kill(current.holder, signal.SIGKILL)
    _wait_gone(folder)
    if folder.exists():
        shutil.rmtree(folder)


def _wait_gone(folder: Path) -> None:
    current = state.read_state(folder)
    if current is None:
        return
    end = time.monotonic() + DOWN_DEADLINE
    while left := current.left():
        if time.monotonic() > end:
            raise LabError(f"lab {folder.name}: processes {left} did not end within {DOWN_DEADLINE:.0f} s of SIGKILL")
        time.sleep(0.02)


def status(name: str) -> dict:
    """Return how the lab is, as JSON takes it: state is up, starting, dead (its holder was killed) or down."""
    folder = lab_folder(name)
    params = read_params(folder)
    current = state.read_state(folder)
    if params is None:
        word = "down"
    elif current is None:
        word = "starting"
    elif not current.alive():
        word = "dead"
    else:
        word = "up" if current.ready() else "starting"
    return {
        "name": name,
        "state": word,
        "holder": current.holder if current and word in ("up", "starting") else None,
        "cache": str(host.cache_dir()),
        "run": str(host.run_dir()),
        "logs": str(folder / "log") if params else None,
        "settings": params.to_dict() if params else None,
    }
