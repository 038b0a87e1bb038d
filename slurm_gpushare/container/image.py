"""Images: a SIF file, a sandbox folder or a source such as docker://… that the policy allows.

Standard library only and few imports: the launcher runs for every task.
"""

import os

from slurm_gpushare.container.mounts import Found, fits, open_source, within
from slurm_gpushare.errors import RefusedError

OPTION = "--container-image"


def resolve_image(
    path: str, prefixes: tuple[str, ...], owners: tuple[str, ...] | None = None
) -> tuple[str, Found | None]:
    """Return the real path of an image and what is there, or a source (docker://…) as it is, and None.

    ``owners``: the users whose images may be run, "self" for the job's own; None for anybody's.

    Raises
    ------
    RefusedError
        The text is no absolute path, there is no such file or folder, the user cannot read it, it lies outside the
        policy's ``prefixes``, or it is not of one of ``owners`` alone.
    """
    if "://" in path and _allowed_source(path, prefixes):
        return path, None
    if not path.startswith("/"):
        raise RefusedError(f"{OPTION}: {path!r} is not an absolute path of a SIF file or sandbox folder")
    found = open_source(path, OPTION)
    if not within(found.path, prefixes):
        allowed = ", ".join(prefixes) or "nowhere"
        raise RefusedError(
            f"{OPTION}: {path!r} (really {found.path!r}) may not be used here; images may lie in: {allowed}"
        )
    if not (found.folder or os.path.isfile(found.path)):
        raise RefusedError(f"{OPTION}: {path!r} is neither a SIF file nor a sandbox folder")
    if owners is not None:
        _check_owner(path, found, owners)
    return found.path, found


def identity(found: Found, asked: str) -> dict:
    """Return what tells an image from another at the path that was ``asked`` for.

    Of a folder, in which mounts may leave traces, that is its inode. The device is left out: an NFS server's may get
    another number when it is mounted again.
    """
    same = {"asked": asked, "path": found.path, "inode": found.inode}
    return same if found.folder else {**same, "size": found.size, "mtime": found.mtime}


def _check_owner(path: str, found: Found, owners: tuple[str, ...]) -> None:
    import pwd  # only where the policy names owners

    uids = set()
    for name in owners:
        try:
            uids.add(os.getuid() if name == "self" else pwd.getpwnam(name).pw_uid)
        except KeyError:
            pass  # not known on this node
    if found.uid not in uids:
        raise RefusedError(
            f"{OPTION}: {path!r} belongs to {_user(found.uid)}: images must belong to {' or '.join(owners)} here"
        )
    # Else somebody could exchange it between this check and the runtime's own opening.
    folder = found.path
    while folder != "/":
        folder = os.path.dirname(folder)
        here = os.stat(folder)
        if here.st_uid not in uids | {0} or (here.st_mode & 0o022 and not here.st_mode & 0o1000):
            raise RefusedError(
                f"{OPTION}: {path!r} lies in {folder!r}, which others than {' or '.join(owners)} may change"
            )


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _allowed_source(source: str, prefixes: tuple[str, ...]) -> bool:
    """Tell whether ``source`` lies below one of the policy's sources, compared by component as job_submit does."""
    parts = source.split("/")
    if ".." in parts or not source.isprintable() or " " in source:
        return False
    return any("://" in prefix and fits(parts, prefix.rstrip("/").split("/")) for prefix in prefixes)
