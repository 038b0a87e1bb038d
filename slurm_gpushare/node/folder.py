"""The two folders of a job on a node, both root's: one below /run with its launch record, one on disk for its user.

The one below /run says that the job runs here, and a reboot takes it away. The one on disk has the user's own folder
``work`` inside, with what must be given back whatever happens: what is there without a record is of no running job.
Every step is relative to an open folder and follows no link, so a user's renames and links lead nowhere else.
Standard library only: prolog and epilog import this file.
"""

import errno
import fcntl
import os
import stat
from time import time_ns

from slurm_gpushare.node.user import run_as

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

CLEAR_TIMEOUT = 10.0  # seconds


def open_job_folder(base: str, node: str, name: str | int, create: bool = False) -> int:
    """Return a descriptor of a job's folder below ``base``, which with all folders up to ``base`` is root's alone.

    Raises OSError: there is none and it is not to be created, or something else stands in its place.
    """
    path, base = os.path.split(base)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in (base, node, "jobs", str(name)):
        path = os.path.join(path, part)
        try:
            if create:
                _make(descriptor, part, 0o755)
            deeper = os.open(part, FOLDER, dir_fd=descriptor)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None  # else it would name the last part alone
        finally:
            os.close(descriptor)
        descriptor = deeper
        status = os.fstat(descriptor)
        if status.st_uid != 0 or status.st_mode & 0o022:
            os.close(descriptor)
            raise PermissionError(errno.EPERM, "is not root's alone", path)
        if create and stat.S_IMODE(status.st_mode) != 0o755:
            os.fchmod(descriptor, 0o755)  # the umask of slurmd is the site's
    return descriptor


def _make(folder: int, name: str, mode: int) -> None:
    try:
        os.mkdir(name, mode, dir_fd=folder)
    except FileExistsError:
        pass  # made by an earlier job, or by an earlier prolog of this one


def lock_job_folder(base: str, node: str, name: str | int, wait: bool = True) -> int | None:
    """Return a descriptor of a job's folder while nobody else gives back what is in it.

    None where there is none, or where somebody does and ``wait`` is false. Raises OSError as open_job_folder does.
    """
    path = os.path.join(base, node, "jobs", str(name))
    while True:
        try:
            folder = open_job_folder(base, node, name)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.path.samestat(os.lstat(path), os.fstat(folder)):
                return folder
        except BlockingIOError:
            os.close(folder)
            return None
        except FileNotFoundError:
            pass  # who had it has removed it, or put it aside
        os.close(folder)


def make_work(folder: int, uid: int, gid: int) -> None:
    """Make the user's own folder; raises OSError when it cannot be made or is there already."""
    os.mkdir("work", 0o700, dir_fd=folder)
    descriptor = os.open("work", FOLDER, dir_fd=folder)
    try:
        os.fchmod(descriptor, 0o700)
        os.fchown(descriptor, uid, gid)
    finally:
        os.close(descriptor)


def remove_work(folder: int) -> None:
    """Remove the user's folder if it is there.

    Its content is removed as its owner, who can do no harm, and what others put there by root in a child, which a file
    system of the user's could keep waiting. Raises OSError when something is left.
    """
    try:
        descriptor = os.open("work", FOLDER, dir_fd=folder)
    except FileNotFoundError:
        return
    try:
        said = ""
        status = os.fstat(descriptor)
        for who, group in ((status.st_uid, status.st_gid), (0, 0)):
            if not os.listdir(descriptor):
                break
            said = run_as(who, group, lambda: os.close(folder) or empty(descriptor), CLEAR_TIMEOUT)[1]
    finally:
        os.close(descriptor)
    try:
        os.rmdir("work", dir_fd=folder)
    except OSError as error:
        raise OSError(error.errno, f"work folder: {error.strerror} {said.strip()}") from None


def empty(folder: int) -> bool:
    """Remove all that is in ``folder`` and tell whether all is gone.

    A folder's own folders are moved up into ``folder``, so the depth does not matter, to the stack or to open files.
    """
    stuck: set[str] = set()
    fresh = 0
    while names := [name for name in os.listdir(folder) if name not in stuck]:
        for name in names:
            try:
                fresh = _remove(folder, name, fresh)
            except FileNotFoundError:
                pass  # gone by itself
            except OSError as error:
                os.write(2, f"{name!r}: {error.strerror}; ".encode(errors="replace"))
                stuck.add(name)
    return not stuck


def _remove(folder: int, name: str, fresh: int) -> int:
    if _unlink(folder, name):
        return fresh
    _unlock(folder, name)
    inner = os.open(name, FOLDER, dir_fd=folder)
    try:
        for child in os.listdir(inner):
            if not _unlink(inner, child):
                _unlock(inner, child)
                while True:
                    fresh += 1
                    try:
                        os.rename(child, f".{fresh}", src_dir_fd=inner, dst_dir_fd=folder)
                        break
                    except OSError as error:
                        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                            raise
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=folder)
    return fresh


def _unlink(folder: int, name: str) -> bool:
    """Remove what is no folder; tell whether it was none."""
    try:
        os.unlink(name, dir_fd=folder)
        return True
    except IsADirectoryError:
        return False


def _unlock(folder: int, name: str) -> None:
    """Give an owner back the rights on a folder; root needs none, and a link put there must not lead it astray."""
    if os.geteuid() != 0:
        os.chmod(name, 0o700, dir_fd=folder)


def write_file(folder: int, name: str, text: str, gid: int) -> None:
    """Write a file of root's with mode 0440 and group ``gid`` into ``folder``, whole or not at all."""
    partial = name + ".partial"
    remove_file(folder, partial)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(partial, flags, 0o400, dir_fd=folder), "w", encoding="utf-8") as stream:
        os.fchown(stream.fileno(), 0, gid)
        os.fchmod(stream.fileno(), 0o440)
        stream.write(text)
    os.rename(partial, name, src_dir_fd=folder, dst_dir_fd=folder)


def remove_file(folder: int, name: str) -> None:
    """Remove a file of ``folder`` if it is there."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass


def remove_record(run_dir: str, node: str, job_id: int) -> None:
    """Remove the folder that says that a job runs here, if it is there; raises OSError."""
    try:
        folder = open_job_folder(run_dir, node, job_id)
    except FileNotFoundError:
        return
    try:
        for name in ("launch.json", "launch.json.partial", "ended"):
            remove_file(folder, name)
        os.rmdir(os.path.join(run_dir, node, "jobs", str(job_id)))
    finally:
        os.close(folder)


def put_aside(path: str) -> str:
    """Rename a job's folder, unless it is so named already, by when this was; return its path.

    It must not stand in the way of the job's next run, and is no reason to take the node out of service.
    """
    if ".left." in os.path.basename(path):
        return path
    aside = f"{path}.left.{time_ns() // 10**9}"
    os.rename(path, aside)
    return aside
