"""Build a root file system once, the lab's or its base image's, and keep it in the cache under its recipe's key.

A half-built one never has the name of a finished one: it is built beside and renamed at the end.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from slurm_gpushare.lab import kernel, mirror, pipconfig
from slurm_gpushare.lab.progress import Progress, StepFailed
from slurm_gpushare.lab.recipe import UNSTABLE, Recipe

BUILDING = ".building-"
# A root file system below, a layer of one's own above; the command follows.
OVERLAY = (
    'mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root" || exit; shift 2; exec "$@"'
)


def prefix(recipe: Recipe) -> str:
    """Return how the folders of all recipes of this kind begin."""
    return recipe.what.lower().replace(" ", "-") + "-"


def rootfs_path(cache: Path, recipe: Recipe) -> Path:
    """Return where the root file system of ``recipe`` lies when it is built."""
    # The folder above it is root's alone: set-user-id programs and device nodes lie below.
    return cache / (prefix(recipe) + recipe.key()) / "root"


def ensure(cache: Path, recipe: Recipe, progress: Progress) -> Path:
    """Return the built root file system of ``recipe``, building it when it is not there.

    Raises StepFailed naming the step that failed.
    """
    target = rootfs_path(cache, recipe)
    if target.is_dir():
        return target
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _lock(cache / "lock"):
        if target.is_dir():
            return target
        for left in cache.glob(BUILDING + "*"):
            shutil.rmtree(left)
        building = Path(tempfile.mkdtemp(prefix=BUILDING, dir=cache))
        log = cache / "build.log"
        try:
            root = building / "root"
            with open(log, "wb") as stream:
                what = f"{recipe.what}: Debian packages"
                with progress.step(what):
                    _bootstrap(recipe, root, stream, what)
                    _inside(root, ["/bin/sh", "-c", recipe.setup], stream, what, binds=[], environment={})
                if recipe.python:
                    what = f"{recipe.what}: Python packages"
                    with progress.step(what):
                        _python(recipe, root, stream, what)
            building.rename(target.parent)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        _remove_old(cache, prefix(recipe), keep=target.parent)
    return target


def ensure_wheels(cache: Path, recipe: Recipe, requirements: tuple[str, ...], progress: Progress) -> Path:
    """Return a folder with wheels of ``requirements`` and all that they need, for the Python of ``recipe``.

    With it pip installs them without a network. Kept beside the root file system, and removed with it.
    """
    root = ensure(cache, recipe, progress)
    name = hashlib.sha256("\n".join(requirements).encode()).hexdigest()[:16]
    target = root.parent / f"wheels-{name}"
    with _lock(cache / "lock"):
        if target.is_dir():
            return target
        building = Path(tempfile.mkdtemp(prefix=BUILDING, dir=cache))
        what = f"{recipe.what}: wheels of Python packages"
        try:
            for folder in ("upper", "work", "root"):
                (building / folder).mkdir()
            (building / "upper/wheels").mkdir()
            with open(cache / "build.log", "wb") as log, progress.step(what):
                environment = pipconfig.read_host()
                binds = [path for path in pipconfig.local_paths(environment) if os.path.exists(path)]
                binds += [path for path in ("/etc/resolv.conf", "/etc/hosts") if os.path.exists(path)]
                argv = [f"{recipe.venv}/bin/python3", "-m", "pip", "wheel", "--no-cache-dir", "--wheel-dir=/wheels"]
                layer = [OVERLAY, "sh", str(root), str(building)]
                _inside(
                    building / "root",
                    [*argv, *requirements],
                    log,
                    what,
                    binds=binds,
                    environment=environment,
                    before=["unshare", "--mount", "--", "sh", "-c", *layer],
                )
            (building / "upper/wheels").rename(target)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return target


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with open(path, "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def hold(rootfs: Path) -> int:
    """Mark ``rootfs`` as in use for as long as the returned descriptor is open."""
    descriptor = os.open(rootfs.parent, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def remove_all(cache: Path) -> None:
    """Remove what the lab made in ``cache``, and ``cache`` itself when nothing else is in it."""
    if not cache.is_dir():
        return
    for pattern in (
        "root-file-system-*",
        "base-image-*",
        "tensorflow-base-image-*",
        "test-*-" + "[0-9a-f]" * 16,  # what the project's tests keep here
        BUILDING + "*",
        "datasets",
        "images",
    ):
        for path in cache.glob(pattern):
            shutil.rmtree(path)
    for name in ("lock", "build.log"):
        (cache / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        cache.rmdir()


def _remove_old(cache: Path, kind: str, keep: Path) -> None:
    # Only a key follows: the kinds of two versions of Slurm begin alike.
    for path in cache.glob(kind + "[0-9a-f]" * 16):
        if path == keep:
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            doomed = path.with_name(BUILDING + path.name)
            path.rename(doomed)
            shutil.rmtree(doomed)
        except BlockingIOError:
            pass  # a lab runs on it
        finally:
            os.close(descriptor)


def _run(argv: list[str], log, what: str, environment: dict[str, str] | None = None) -> None:
    """Run ``argv`` to its end, output to ``log``; nothing of it outlives this process."""
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        preexec_fn=lambda: kernel.die_with_parent(signal.SIGKILL),
    )
    try:
        status = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if status != 0:
        raise StepFailed(what, f"{argv[0]} ended with status {status}", Path(log.name))


def take_file(package: str, file: str) -> str:
    """Return the shell lines of a hook that puts one file of a package into the root file system, if it can be had."""
    return (
        'd="$(mktemp -d)" && cd "$d" && '
        f'if APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -q download {package}; '
        f"then dpkg-deb --fsys-tarfile ./*.deb | tar -x -C \"$1\" --wildcards '*/{file}'; "
        f'else echo "{package} cannot be had: labs do without"; fi && rm -rf "$d"'
    )


def _bootstrap(recipe: Recipe, root: Path, log, what: str) -> None:
    source = mirror.read_host()
    contrib = recipe.taken is not None
    preferences = root.parent / "preferences"
    preferences.write_text(recipe.preferences)
    pin = f'mkdir -p "$1/etc/apt/preferences.d" && cp "{preferences}" "$1/etc/apt/preferences.d/unstable"'
    argv = [
        # Its mounts and its children end with it, also when it is killed.
        *["unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "--"],
        *["mmdebstrap", f"--variant={recipe.variant}", "--mode=root", f"--include={','.join(recipe.packages)}"],
        *[f"--aptopt={line}" for line in [*mirror.host_transport_options(), 'Acquire::Retries "3";']],
        *["--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*"],
        *([f"--setup-hook={pin}"] if recipe.preferences else []),
        *([f"--customize-hook={take_file(*recipe.taken)}"] if recipe.taken else []),
        # A mirror's copy of unstable can be past the date in its Release file.
        *[
            recipe.suite,
            str(root),
            mirror.deb_line(source, recipe.suite, stale=recipe.suite == UNSTABLE, contrib=contrib),
        ],
        *([mirror.deb_line(source, recipe.unstable, stale=True, contrib=contrib)] if recipe.unstable else []),
    ]
    _run(argv, log, what, {**os.environ, "TMPDIR": str(root.parent)})
    preferences.unlink()
    # Whoever runs in it has a /dev of their own, and an ordinary user cannot make an image with device nodes.
    for path in (root / "dev").iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _python(recipe: Recipe, root: Path, log, what: str) -> None:
    environment = pipconfig.read_host()
    binds = [path for path in pipconfig.local_paths(environment) if os.path.exists(path)]
    binds += [path for path in ("/etc/resolv.conf", "/etc/hosts") if os.path.exists(path)]
    _inside(root, ["/usr/bin/python3", "-m", "venv", recipe.venv], log, what, binds=[], environment={})
    install = [f"{recipe.venv}/bin/python3", "-m", "pip", "install", "--no-cache-dir", *recipe.python]
    _inside(root, install, log, what, binds=binds, environment={**environment, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})


def _inside(
    root: Path,
    argv: list[str],
    log,
    what: str,
    *,
    binds: list[str],
    environment: dict[str, str],
    before: Sequence[str] = (),
) -> None:
    """Run ``argv`` as root inside ``root``, with the host's network; ``binds`` are host paths, read-only.

    ``before`` is a command that makes ``root`` what it is and goes on as the command that follows it.
    """
    created = [path for path in (_first_missing(root, bind) for bind in binds) if path is not None]
    bwrap = ["bwrap", "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--bind", str(root), "/"]
    bwrap += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run"]
    for path in binds:
        bwrap += ["--ro-bind", os.path.realpath(path), path]
    bwrap += ["--clearenv", "--setenv", "PATH", "/usr/sbin:/usr/bin:/sbin:/bin", "--setenv", "HOME", "/root"]
    bwrap += ["--setenv", "LANG", "C.UTF-8"]
    for key, value in environment.items():
        bwrap += ["--setenv", key, value]
    try:
        _run([*before, *bwrap, "--", *argv], log, what)
    finally:
        # bwrap makes the mount points of its binds; they are not part of the recipe.
        for path in created:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _first_missing(root: Path, path: str) -> Path | None:
    current = root
    for part in Path(path).parts[1:]:
        current = current / part
        if not current.exists():
            return current
    return None
