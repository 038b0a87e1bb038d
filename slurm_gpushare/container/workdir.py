"""The working folder: where a container's command starts, and what the runtime mounts for it by itself.

Runtimes mount the user's home and the folder that they are started in, whatever that is: so these, too, are held to the
policy. Standard library only and few imports: the launcher runs for every task.
"""

import os

from slurm_gpushare.container.mounts import expectation, open_source, within
from slurm_gpushare.errors import RefusedError

# What runtimes mount from the host for everybody.
SHARED = ("/tmp", "/var/tmp")


def working_folder(
    workdir: str, mount_home: bool, prefixes: tuple[str, ...], home=None
) -> tuple[str, tuple[str, ...], list[str]]:
    """Return the folder that the runtime is told, what it must not mount (home, cwd), and words for inside.c.

    ``workdir`` is the user's own choice, "" for the folder that the task was started in. ``home`` is called for the
    user's home (default: of the system's database, not of the environment).

    Raises
    ------
    RefusedError
        ``workdir`` is no absolute path, or the task's folder may not be mounted by the policy's ``prefixes``.
    """
    no_home = () if mount_home else ("home",)
    if workdir:
        if not workdir.startswith("/") or ".." in workdir.split("/"):
            raise RefusedError(f"--container-workdir: {workdir!r} is no absolute path without ..")
        return "/", (*no_home, "cwd"), ["cd:" + workdir]
    try:
        cwd = os.getcwd()
    except OSError as error:
        raise RefusedError(f"the job's working folder cannot be used on this node: {error.strerror}") from None
    if cwd == "/":
        return cwd, no_home, []
    allowed = within(cwd, prefixes)
    if not (allowed and mount_home) and within(cwd, (home or _home)()):
        if not mount_home:
            return "/", ("home", "cwd"), []
        allowed = True
    if allowed:
        return cwd, no_home, [expectation(open_source(".", "the job's working folder"), cwd)]
    if within(cwd, SHARED):
        return cwd, no_home, []
    raise RefusedError(
        f"the job's working folder {cwd!r} may not be mounted here: write --container-workdir=PATH for a folder in the "
        f"container, or --chdir=PATH below: {', '.join(prefixes) or 'your home'}"
    )


def _home() -> tuple[str, ...]:
    import pwd  # asks the system's database of users, as the runtime does

    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ()
    return () if home in ("", "/") else (home,)
