"""Images: a SIF file, a sandbox folder or a source such as docker://… that the policy allows.

Standard library only and few imports: the launcher runs for every task.
"""

import os

from slurm_gpushare.container.mounts import check_source, within
from slurm_gpushare.errors import RefusedError


def resolve_image(path: str, prefixes: tuple[str, ...]) -> str:
    """Return the real path of an image, or a source (docker://…) as it is, which the runtime then fetches.

    Raises
    ------
    RefusedError
        The text is no absolute path, there is no such file or folder, the user cannot read it, or it lies outside the
        policy's ``prefixes``.
    """
    if "://" in path and _allowed_source(path, prefixes):
        return path
    if not path.startswith("/"):
        raise RefusedError(f"--container-image: {path!r} is not an absolute path of a SIF file or sandbox folder")
    real = check_source(path, "--container-image")
    if not within(real, prefixes):
        allowed = ", ".join(prefixes) or "nowhere"
        raise RefusedError(
            f"--container-image: {path!r} (really {real!r}) may not be used here; images may lie in: {allowed}"
        )
    if not (os.path.isdir(real) or os.path.isfile(real)):
        raise RefusedError(f"--container-image: {path!r} is neither a SIF file nor a sandbox folder")
    return real


def _allowed_source(source: str, prefixes: tuple[str, ...]) -> bool:
    """Tell whether ``source`` lies below one of the policy's sources, compared by component."""
    if ".." in source.split("/") or not source.isprintable():
        return False
    return any("://" in prefix and (source + "/").startswith(prefix.rstrip("/") + "/") for prefix in prefixes)
