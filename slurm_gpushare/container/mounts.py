"""Mounts: their text in an option, their check against the policy, their spelling for the runtime.

Standard library only and few imports: the launcher runs for every task.
"""

import _thread  # threading takes two milliseconds to import
import os

from slurm_gpushare.errors import RefusedError
from slurm_gpushare.node_policy import Dataset
from slurm_gpushare.record import Record

# Where containers have their first program (etc/libexec/inside/inside.c).
INSIDE_FOLDER = "/.gpushare"
# Seconds after which a task says what it waits for.
PATIENCE = 20.0


class Waiting:
    """Says on standard error which path is waited for when that takes long.

    A server of NFS that does not answer keeps whoever looks there waiting until it does (hard, nfs(5)), and then they
    go on as if nothing had been: so does a task, but its user should know.
    """

    def __init__(self, path: str):
        self.path = path
        self.answered = _thread.allocate_lock()

    def __enter__(self) -> None:
        self.answered.acquire()
        try:
            _thread.start_new_thread(self._watch, ())
        except RuntimeError:
            pass  # the user's limit of processes is reached, and no line is worth a task

    def __exit__(self, *_: object) -> None:
        self.answered.release()

    def _watch(self) -> None:
        if not self.answered.acquire(timeout=PATIENCE):
            line = (
                f"gpushare: {self.path!r} has not answered on {os.uname().nodename} for {PATIENCE:.0f} s: "
                "waiting for its file server\n"
            )
            os.write(2, line.encode(errors="backslashreplace"))


class Found(Record):
    """A file or folder as it was opened, once: what is true of it stays true whatever becomes of its path."""

    path: str  # its real path
    device: int
    inode: int
    folder: bool
    uid: int
    size: int
    mtime: int  # nanoseconds since the epoch


class Mount(Record):
    """A folder or file of the node, and where a container sees it; paths are absolute."""

    source: str
    destination: str
    readonly: bool
    found: Found | None = None  # what was checked, None for what the launcher adds by itself


def within(path: str, prefixes: tuple[str, ...]) -> bool:
    """Tell whether the real path ``path`` is one of ``prefixes`` or lies below one, compared by component.

    The prefixes are the site's own and may be symbolic links, so they are resolved first. In one with * or ? these
    stand for text within a component; what is linked there is not resolved.
    """
    for prefix in prefixes:
        if "*" in prefix or "?" in prefix:
            if fits(path.split("/"), prefix.split("/")):
                return True
            continue
        real = os.path.realpath(prefix)
        if path == real or path.startswith(real.rstrip("/") + "/"):
            return True
    return False


def fits(parts: list[str], patterns: list[str]) -> bool:
    """Tell whether ``parts`` begin with components that ``patterns`` allow, in which * and ? stand for text."""
    from fnmatch import fnmatchcase  # only sites with patterns pay for it

    # [ has no meaning in the policy's patterns.
    pairs = zip(parts, patterns, strict=False)
    return len(parts) >= len(patterns) and all(fnmatchcase(part, text.replace("[", "[[]")) for part, text in pairs)


def parse_mount(text: str) -> Mount:
    """Read ``SRC:DST`` or ``SRC:DST:ro``.

    Raises
    ------
    RefusedError
        The text has another form, or a path in it is not absolute and plain.
    """
    source, *rest = text.split(":")
    if len(rest) not in (1, 2) or (len(rest) == 2 and rest[1] != "ro"):
        raise RefusedError(f"--container-mounts: {text!r} is not SRC:DST or SRC:DST:ro")
    if not source.startswith("/"):
        raise RefusedError(f"--container-mounts: {source!r} in {text!r} is not an absolute path: write it from / on")
    return Mount(source, check_destination(rest[0], "--container-mounts"), len(rest) == 2)


def check_destination(path: str, option: str) -> str:
    """Return ``path``, a place in the container, without a slash at its end; raises RefusedError when it is none."""
    plain = path.rstrip("/")
    if not plain.startswith("/") or plain.startswith("//") or os.path.normpath(plain) != plain:
        raise RefusedError(f"{option}: {path!r} is no place in a container: write an absolute path, without . and ..")
    if (plain + "/").startswith(INSIDE_FOLDER + "/"):
        raise RefusedError(f"{option}: {path!r} has another use in containers: write another place")
    return plain


def open_source(path: str, what: str) -> Found:
    """Return what is at ``path``, which this process, the user's, must be able to read; ``what`` begins messages.

    Raises
    ------
    RefusedError
        It does not exist or cannot be read, or its file system is dead.
    """
    with Waiting(path):
        return _find(path, what)


def _find(path: str, what: str) -> Found:
    try:
        try:
            # The point makes a file system that is mounted on demand come.
            descriptor = os.open(path + "/.", os.O_PATH | os.O_CLOEXEC)
        except NotADirectoryError:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except PermissionError:
        raise RefusedError(f"{what}: {path!r}: you may not read it on this node") from None
    except OSError as error:
        raise RefusedError(f"{what}: {path!r}: {error.strerror} on this node") from None
    try:
        found = os.fstat(descriptor)
        opened = f"/proc/self/fd/{descriptor}"
        folder = found.st_mode & 0o170000 == 0o040000  # the module stat costs every task a millisecond
        # Listing a folder needs both rights; a file needs the first.
        if not os.access(opened, os.R_OK | os.X_OK if folder else os.R_OK):
            # No right, or no answer: opening it tells a file system that is dead.
            os.close(os.open(opened, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            raise PermissionError
        return Found(
            os.readlink(opened), found.st_dev, found.st_ino, folder, found.st_uid, found.st_size, found.st_mtime_ns
        )
    except PermissionError:
        raise RefusedError(f"{what}: {path!r}: you may not read it on this node") from None
    except OSError as error:
        raise RefusedError(f"{what}: {path!r}: {error.strerror} on this node") from None
    finally:
        os.close(descriptor)


def resolve_mounts(texts: tuple[str, ...], prefixes: tuple[str, ...]) -> list[Mount]:
    """Return what --container-mounts asks for, by real path; raises RefusedError for what the policy does not allow."""
    mounts = []
    for text in texts:
        mount = parse_mount(text)
        found = open_source(mount.source, "--container-mounts")
        if not within(found.path, prefixes):
            really = f"{mount.source!r} (really {found.path!r})"
            raise RefusedError(
                f"--container-mounts: {really} may not be mounted here; allowed: {', '.join(prefixes) or 'nothing'}"
            )
        mounts.append(Mount(found.path, mount.destination, mount.readonly, found))
    return mounts


def resolve_datasets(texts: tuple[str, ...], datasets: dict) -> list[Mount]:
    """Return the mounts of what --dataset names, each as NAME or NAME:DST.

    Raises
    ------
    RefusedError
        The policy has no such dataset, or it is not on this node: missing, unreadable, or a folder without anything in
        it, which is what is left of a file system that is not mounted.
    """
    mounts = []
    for text in texts:
        name, colon, destination = text.partition(":")
        if name not in datasets:
            known = ", ".join(sorted(datasets)) or "none"
            raise RefusedError(f"--dataset: {name!r} is not known here; known: {known}")
        dataset = datasets[name]
        what = f"--dataset={name}"
        with Waiting(dataset.path):
            found = _find_dataset(dataset, what)
        target = check_destination(destination if colon else dataset.target, what)
        mounts.append(Mount(found.path, target, dataset.mode != "rw", found))
    return mounts


def _find_dataset(dataset: Dataset, what: str) -> Found:
    if dataset.mount_point is not None and not is_mounted(dataset.mount_point, what):
        raise RefusedError(f"{what}: nothing is mounted at {dataset.mount_point!r} on this node")
    found = _find(dataset.path, what)
    if dataset.mode != "rw" and found.folder and not _has_entry(found.path, what):
        raise RefusedError(f"{what}: {dataset.path!r} is empty on this node: its file system may not be mounted here")
    return found


def is_mounted(path: str, what: str) -> bool:
    """Tell whether a file system is mounted at ``path``; raises RefusedError, begun by ``what``, for a dead one."""
    try:
        os.stat(path)
        # What is mounted on demand comes when somebody looks into it.
        _has_entry(path, what)
        # Any of these may be the first that is not answered out of the kernel's own memory.
        return os.stat(path).st_dev != os.stat(os.path.join(path, "..")).st_dev
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RefusedError(f"{what}: {path!r}: {error.strerror} on this node") from None


def _has_entry(folder: str, what: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError as error:
        raise RefusedError(f"{what}: {folder!r}: {error.strerror} on this node") from None


def check_distinct(mounts: list[Mount]) -> None:
    """Raise RefusedError when two mounts have the same place in the container: the second would hide the first."""
    seen = {}
    for mount in mounts:
        if mount.destination in seen and seen[mount.destination] != mount:
            raise RefusedError(f"two mounts at {mount.destination!r} in the container: leave one out")
        seen[mount.destination] = mount


def mount_option(mount: Mount) -> str:
    """Return ``mount`` as the value of the runtime's --mount.

    The value is CSV, the one spelling in which a path may hold commas, colons, quotes and line ends, in Apptainer
    since 1.0 and SingularityCE since 3.9; there is no key for read-write.
    """
    fields = ["type=bind", f"source={mount.source}", f"destination={mount.destination}"]
    if mount.readonly:
        fields.append("ro")
    return ",".join(_csv_field(field) for field in fields)


def bind_option(mount: Mount) -> str:
    """Return ``mount`` as the value of --bind, for a runtime without --mount; raises RefusedError for what has no form.

    Singularity splits the value at commas and colons, takes quotes for those of CSV and blanks at an end for nothing,
    and knows no escape.
    """
    for path in (mount.source, mount.destination):
        if any(character in path for character in ',:"\\\n\r') or path != path.strip():
            raise RefusedError(
                f"{path!r} cannot be mounted by this node's singularity, which is older than 3.9: use a path without "
                "comma, colon, quotes, backslash, line ends and blanks at its ends"
            )
    return f"{mount.source}:{mount.destination}" + (":ro" if mount.readonly else "")


def expectation(found: Found, place: str) -> str:
    """Return the word by which the container's first program (inside.c) expects ``found`` at ``place``."""
    return f"{found.device}:{found.inode}:{place}"


def _csv_field(field: str) -> str:
    if any(character in field for character in ',"\n\r') or field != field.strip():
        return '"' + field.replace('"', '""') + '"'
    return field
