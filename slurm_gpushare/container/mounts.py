"""Mounts: their text in an option, their check against the policy, their spelling for the runtime.

Standard library only and few imports: the launcher runs for every task.
"""

import os

from slurm_gpushare.errors import RefusedError
from slurm_gpushare.record import Record


class Mount(Record):
    """A folder or file of the node, and where a container sees it; paths are absolute."""

    source: str
    destination: str
    readonly: bool


def within(path: str, prefixes: tuple[str, ...]) -> bool:
    """Tell whether the real path ``path`` is one of ``prefixes`` or lies below one, compared by component.

    The prefixes are the site's own and may be symbolic links, so they are resolved first. In one with * or ? these
    stand for text within a component; what is linked there is not resolved.
    """
    for prefix in prefixes:
        if "*" in prefix or "?" in prefix:
            if _fits(path.split("/"), prefix.split("/")):
                return True
            continue
        real = os.path.realpath(prefix)
        if path == real or path.startswith(real.rstrip("/") + "/"):
            return True
    return False


def _fits(parts: list[str], patterns: list[str]) -> bool:
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
    return plain


def check_source(path: str, what: str) -> str:
    """Return the real path of ``path``, which this process, the user's, must be able to read.

    Raises
    ------
    RefusedError
        It does not exist or cannot be read; ``what`` begins the message.
    """
    real = os.path.realpath(path)
    try:
        # Listing a folder needs both rights; a file needs the first.
        rights = os.R_OK | os.X_OK if os.path.isdir(real) else os.R_OK
        os.stat(real)
    except OSError as error:
        raise RefusedError(f"{what}: {path!r}: {error.strerror} on this node") from None
    if not os.access(real, rights):
        raise RefusedError(f"{what}: {path!r}: you may not read it on this node")
    return real


def resolve_mounts(texts: tuple[str, ...], prefixes: tuple[str, ...]) -> list[Mount]:
    """Return what --container-mounts asks for, by real path; raises RefusedError for what the policy does not allow."""
    mounts = []
    for text in texts:
        mount = parse_mount(text)
        real = check_source(mount.source, "--container-mounts")
        if not within(real, prefixes):
            allowed = ", ".join(prefixes) or "nothing"
            raise RefusedError(
                f"--container-mounts: {mount.source!r} (really {real!r}) may not be mounted here; allowed: {allowed}"
            )
        mounts.append(Mount(real, mount.destination, mount.readonly))
    return mounts


def resolve_datasets(names: tuple[str, ...], datasets: dict) -> list[Mount]:
    """Return the mounts of the named datasets of the policy; raises RefusedError for an unknown or unreadable one."""
    mounts = []
    for name in names:
        if name not in datasets:
            known = ", ".join(sorted(datasets)) or "none"
            raise RefusedError(f"--dataset: {name!r} is not known here; known: {known}")
        dataset = datasets[name]
        real = check_source(dataset.path, f"--dataset={name}")
        mounts.append(Mount(real, check_destination(dataset.target, f"--dataset={name}"), dataset.mode != "rw"))
    return mounts


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


def _csv_field(field: str) -> str:
    if any(character in field for character in ',"\n\r') or field != field.strip():
        return '"' + field.replace('"', '""') + '"'
    return field
