"""A share of the GPUs of a Bitfusion pool, placed by Slurm's licences.

The facts on the client are from its public documentation and logs: ``request_gpus`` allocates and leaves a file
``bitfusion<digits>`` in the temporary folder, ``client -- cmd`` runs a command in that allocation, ``release_gpus -f
FILE`` ends it. TMPDIR of the client's own process, and of nothing else, is a folder of the job's: whoever has that
folder knows every allocation of the job. ``run -- cmd``, the three in one, is not used: it would wait, speak and end in
its own way, and what it allocated could be named by nobody where it was killed.
Standard library only and few imports: the launcher runs for every task.
"""

import fcntl
import os
import stat
from time import monotonic

from slurm_gpushare.backends import bitfusion_token
from slurm_gpushare.backends.bitfusion_allocation import COMMAND, Allocation, failed
from slurm_gpushare.backends.client import Client, Endings, words
from slurm_gpushare.errors import (
    EXIT_CANNOT_EXECUTE,
    EXIT_REFUSED,
    EXIT_TRY_AGAIN,
    EXIT_UNAVAILABLE,
    GpushareError,
)

# -p is a partition of the memory alone; clients have server processes of their own.
ENFORCES = {"memory": "enforced", "compute": "none", "faults": "enforced"}
MODES = {"Bitfusion's partition of the memory (`-p`), a server process for each client": ENFORCES}
REMOTE = True
SAMPLED = True
SEES = "share"

# What the client needs besides its own program, where the node has it. ~/.bitfusion lies in the home folder.
CLIENT_FILES = ("/opt/bitfusion", "/etc/bitfusion", "/usr/share/bitfusion", "/var/lib/bitfusion", "/var/run/bitfusion")

ANSWER = 9.0  # seconds for all releases of a job together: the epilog gives this module ten
AT_ONCE = 16  # releases
MOST_NAMES = 10_000  # that are looked at in a user's folder


def licences(text: str) -> dict[str, int]:
    """Read SLURM_JOB_LICENSES, such as ``bitfusion:25,matlab``, or from 25.05 on ``a:25|b:25`` (any one of them).

    Returns how many of each; raises ValueError when a count is not a number.
    """
    counts = {}
    for item in text.replace("|", ",").split(","):
        if item:
            name, _, count = item.partition(":")
            if count and not (count.isascii() and count.isdigit()):
                raise ValueError(f"{item!r} is not NAME:COUNT")
            counts[name] = int(count or "1")
    return counts


def agrees(grant, environment: dict[str, str], settings) -> str | None:
    """Return why the grant is not believed: the job holds other licences than its share costs."""
    text = environment.get("SLURM_JOB_LICENSES", "")
    need = grant.slices * grant.nodes
    try:
        held = licences(text).get(settings.licence, 0)
    except ValueError as error:
        return f"SLURM_JOB_LICENSES: {error}"
    if held != need:
        return f"the grant costs {need} licences {settings.licence!r}, but Slurm gave this job {text or 'none'!r}"
    return None


def begin(record, settings, environment: dict[str, str]) -> dict:
    """Return nothing: the first task asks the pool, as the user."""
    return {}


def finish(job_id: int, node: str, settings) -> None:
    """Do nothing: what the job holds in the pool is the user's, and ``epilog`` gives it back."""


def fraction_text(fraction: float) -> str:
    """Return ``fraction`` as -p takes it: at most six decimals, no exponent, no zeros at the end."""
    return f"{fraction:.6f}".rstrip("0").rstrip(".")


def share_argv(grant, place=None) -> list[str]:
    """Return the options of ``request_gpus`` that say how much, and where if that is known.

    Of the same GPUs of one server (``--server_list``) any will do (``--filter`` with several values of one key).
    """
    argv = ["-n", str(grant.gpus), "-p", fraction_text(grant.fraction)]
    if place is not None:
        argv += ["--server_list", place.address]
        for number in place.gpus:
            argv += ["--filter", f"device.id={number}"]
    return argv


def task_argv(grant, settings, step: str, command: list[str], tmpdir: str | None) -> list[str]:
    """Return the command under the client, in the allocation that is there.

    ``tmpdir`` is the user's TMPDIR, None for none, which ``env`` gives back to the command.

    Raises
    ------
    GpushareError
        ``env`` would take the command for an assignment.
    """
    if "=" in command[0]:
        raise failed(f"{command[0]!r}: a command with '=' in its name cannot run here: rename it", EXIT_CANNOT_EXECUTE)
    restore = ["env", "-u", "TMPDIR"] if tmpdir is None else ["env", f"TMPDIR={tmpdir}"]
    return [settings.command or COMMAND, "client", "--", *restore, *command]


def task_environment(work: str, settings=None, place=None) -> dict[str, str]:
    """Return what makes the client keep its allocation file in the folder ``work``."""
    return {"TMPDIR": work}


def binds(settings) -> list[str]:
    """Return the paths of the client that this node has, to be bound at the same place in a container."""
    return [path for path in (settings.command or COMMAND, *CLIENT_FILES) if os.path.exists(path)]


def prepare(grant, settings, step: str, work: str, environment: dict[str, str], place=None, meanwhile=None) -> None:
    """See to it that the allocation of folder ``work`` is there and alive, for every step anew.

    It may have gone: the pool releases one that nobody used for a while, and a server that was started again knows of
    none. Of several tasks that start at once one does it and the others wait; where it failed, the other tasks of the
    same step fail alike and do not wait for the pool one after the other. ``meanwhile`` is called once at most, while
    the client works; what it raises is raised here, with nothing held that was not held before.

    Raises
    ------
    GpushareError
        No server answered (status 69), the pool stayed full (75), or the client is not usable (78).
    """
    try:
        os.mkdir(work, 0o700)
    except FileExistsError:
        pass  # prolog made it, or another task
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock = os.open(os.path.join(work, "lock"), flags, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        its_step, _, outcome = os.pread(lock, 4096, 0).decode(errors="replace").partition("\n")
        if its_step == step:
            if outcome:
                status, _, text = outcome.partition(" ")
                raise failed(text, int(status))
            return
        with Endings() as endings:
            try:
                held = _hold(grant, settings, step, work, environment, place, endings, meanwhile)
                outcome = ""
            except GpushareError as error:
                held, outcome = False, f"{error.exit_status} {error}"
                raise
            finally:
                # A task that was ended while it waited leaves the matter to the others.
                if held or outcome:
                    os.ftruncate(lock, 0)
                    os.pwrite(lock, f"{step}\n{outcome}".encode(errors="replace")[:4096], 0)
    finally:
        os.close(lock)


def _hold(
    grant, settings, step: str, work: str, environment: dict[str, str], place, endings: Endings, meanwhile
) -> bool:
    reason = bitfusion_token.refusal(environment.get("HOME", ""))
    if reason is not None:
        raise failed(reason, EXIT_REFUSED)
    command, servers = settings.command or COMMAND, list(settings.servers.values())
    address = None if place is None else place.address
    allocation = Allocation(command, share_argv(grant, place), work, environment, endings, address, servers, meanwhile)
    try:
        return allocation.hold(settings.wait)
    except GpushareError as error:
        if (
            step != "batch"
            or settings.requeue_limit == 0
            or error.exit_status not in (EXIT_TRY_AGAIN, EXIT_UNAVAILABLE)
        ):
            raise
        from slurm_gpushare.backends import requeue  # most tasks never need it

        outcome = requeue.ask(work, settings, environment, endings, str(error))
        raise failed(f"{error}; {outcome}", error.exit_status) from None


def left_files(work: str, uid: int) -> list[str]:
    """Return what may be allocation files anywhere in ``work``, the oldest first: a user may have moved or faked some.

    Each is a regular file of ``uid`` that is not empty, once under one of its names. Folders are opened up on the way.
    """
    found: dict[int, tuple[float, str]] = {}
    folders, looked = [work], 0
    while folders and looked < MOST_NAMES:
        folder = folders.pop()
        try:
            if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                os.chmod(folder, 0o700)
            paths = [os.path.join(folder, name) for name in os.listdir(folder)][: MOST_NAMES - looked]
        except OSError:
            continue  # root's, in which there is nothing of the job's
        looked += len(paths)
        for path in paths:
            try:
                status = os.lstat(path)
            except OSError:
                continue  # a path of more than 4096 characters
            if stat.S_ISDIR(status.st_mode):
                folders.append(path)
            elif os.path.basename(path).startswith("bitfusion") and _is_own(status, uid) and status.st_size:
                found.setdefault(status.st_ino, (status.st_mtime, path))
    return [path for _, path in sorted(found.values())]


def _is_own(status: os.stat_result, uid: int) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_uid == uid


def epilog(settings, work: str, environment: dict[str, str]) -> bool:
    """Release every allocation of the job; return whether all of it went well (an allocation gone already may not).

    Several at once: a server that does not answer keeps the others waiting no longer than they must. A job that is
    to be requeued is given its time.
    """
    from slurm_gpushare.backends import requeue

    deadline = monotonic() + ANSWER
    left, well = left_files(work, os.getuid()), True
    folders = [work, *(os.path.join(work, name) for name in os.listdir(work) if name.isdigit())]
    later = [client for folder in folders if (client := requeue.later(folder, os.getuid(), environment)) is not None]
    for first in range(0, len(left), AT_ONCE):
        clients = []
        for path in left[first : first + AT_ONCE]:
            argv = [settings.command or COMMAND, "release_gpus", "-f", path]
            clients.append(Client(argv, {**environment, "TMPDIR": os.path.dirname(path)}))
        for client in clients:
            well = _finish(client, deadline) and well
    for client in later:
        _finish(client, deadline)  # where it fails, Slurm's own delay stays
    return well


def _finish(client: Client, deadline: float) -> bool:
    client.wait(max(0.0, deadline - monotonic()))
    client.end()
    if client.status != 0:
        os.write(2, f"{' '.join(client.argv)}: status {client.status}: {words(client)}\n".encode())
    client.close()
    return client.status == 0
