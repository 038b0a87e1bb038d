"""A share of the GPUs of a Bitfusion pool, placed by Slurm's licences.

The facts on the client are from its public documentation and logs: ``run -n N -p FRACTION -- cmd`` allocates, runs and
releases; ``request_gpus``, ``client -- cmd`` and ``release_gpus -f FILE`` do the same in three steps. Its allocation is
a file ``bitfusion<digits>`` in the temporary folder, so TMPDIR of the client's own process, and of nothing else, is the
job's work folder: whoever has that folder knows every allocation of the job.
Standard library only and few imports: the launcher runs for every task.
"""

import _signal as signal  # the module signal costs every task 6 ms for the names of its numbers
import fcntl
import os
import stat
from errno import ENOENT

from slurm_gpushare.errors import (
    EXIT_CANNOT_EXECUTE,
    EXIT_TRY_AGAIN,
    EXIT_UNAVAILABLE,
    BackendError,
    BrokenInstallation,
    GpushareError,
)

# -p is a partition of the memory alone; clients have server processes of their own.
ENFORCES = {"memory": "enforced", "compute": "none", "faults": "enforced"}
REMOTE = True

# What the client needs besides its own program, where the node has it. ~/.bitfusion lies in the home folder.
CLIENT_FILES = ("/opt/bitfusion", "/etc/bitfusion", "/usr/share/bitfusion", "/var/lib/bitfusion", "/var/run/bitfusion")

# What the client says when no server answers; how it says that all are full is not publicly known.
UNREACHABLE = ("none of the servers responded", "Error contacting server")

COMMAND = "/usr/bin/bitfusion"  # where its packages put it

DEFAULT_SIGNALS = [signal.SIGPIPE, signal.SIGXFSZ]  # Python ignores these two, and exec would pass that on


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


def fraction_text(fraction: float) -> str:
    """Return ``fraction`` as -p takes it: at most six decimals, no exponent, no zeros at the end."""
    return f"{fraction:.6f}".rstrip("0").rstrip(".")


def share_argv(grant) -> list[str]:
    """Return the options of the client that say how much."""
    return ["-n", str(grant.gpus), "-p", fraction_text(grant.fraction)]


def task_argv(grant, settings, step: str, command: list[str], tmpdir: str | None) -> list[str]:
    """Return the command under the client.

    The batch script holds the job's allocation (``run``); every other step uses one (``client``). ``tmpdir`` is the
    user's TMPDIR, None for none, which ``env`` gives back to the command.

    Raises
    ------
    GpushareError
        ``env`` would take the command for an assignment.
    """
    if "=" in command[0]:
        raise _failed(f"{command[0]!r}: a command with '=' in its name cannot run here: rename it", EXIT_CANNOT_EXECUTE)
    how = ["run", *share_argv(grant)] if step == "batch" else ["client"]
    restore = ["env", "-u", "TMPDIR"] if tmpdir is None else ["env", f"TMPDIR={tmpdir}"]
    return [settings.command or COMMAND, *how, "--", *restore, *command]


def task_environment(work: str) -> dict[str, str]:
    """Return what makes the client keep its allocation files in the job's work folder."""
    return {"TMPDIR": work}


def binds(settings) -> list[str]:
    """Return the paths of the client that this node has, to be bound at the same place in a container."""
    return [path for path in (settings.command or COMMAND, *CLIENT_FILES) if os.path.exists(path)]


def allocation_files(work: str, uid: int) -> list[str]:
    """Return the allocation files in ``work``: regular files of ``uid`` named bitfusion…; links are not followed."""
    found = []
    for name in sorted(os.listdir(work)):
        if name.startswith("bitfusion"):
            path = os.path.join(work, name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and status.st_uid == uid:
                found.append(path)
    return found


def prepare(grant, settings, step: str, work: str, environment: dict[str, str]) -> None:
    """Make the job's allocation on this node unless there is one; the batch script makes its own.

    Of several tasks that start at once one makes it and the others wait; where it failed, the other tasks of the
    same step fail alike and do not wait for the pool one after the other.

    Raises
    ------
    GpushareError
        No server answered (status 69), the pool stayed full (75), or the client is not usable (78).
    """
    if step == "batch":
        return
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock = os.open(os.path.join(work, "lock"), flags, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if allocation_files(work, os.getuid()):
            return
        failed_step, _, failure = os.pread(lock, 4096, 0).decode(errors="replace").partition("\n")
        if failed_step == step:
            status, _, text = failure.partition(" ")
            raise _failed(text, int(status))
        try:
            _request(grant, settings, work, environment)
        except GpushareError as error:
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{step}\n{error.exit_status} {error}".encode(errors="replace")[:4096], 0)
            raise
    finally:
        os.close(lock)


def _failed(text: str, status: int) -> BackendError:
    error = BackendError(text)
    error.exit_status = status
    return error


def _request(grant, settings, work: str, environment: dict[str, str]) -> None:
    argv = [settings.command or COMMAND, "request_gpus", *share_argv(grant)]
    status, output = run_client(argv, {**environment, **task_environment(work)})
    if status == 0:
        if not allocation_files(work, os.getuid()):
            raise BrokenInstallation(f"{argv[0]} request_gpus left no allocation file in TMPDIR={work}")
        return
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith("Error")), (lines or [f"status {status}"])[-1])
    if any(text in output for text in UNREACHABLE):
        # The client says so too where the cause is on this side: a ~/.bitfusion that the user may not write.
        said += "".join(f" ({line})" for line in lines if line.startswith("[WARN]"))
        raise _failed(f"the Bitfusion pool cannot be reached: {said}", EXIT_UNAVAILABLE)
    raise _failed(f"the Bitfusion pool gave no GPUs: {said}", EXIT_TRY_AGAIN)


def run_client(argv: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Run the client to its end; return its exit status and all that it wrote.

    Raises
    ------
    BrokenInstallation
        It cannot be executed.
    """
    # Not a pipe: what the client leaves running could hold its end open for ever.
    capture = os.memfd_create("bitfusion")
    try:
        pid = os.posix_spawn(
            argv[0],
            argv,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, capture, 1),
                (os.POSIX_SPAWN_DUP2, capture, 2),
            ],
            setsigdef=DEFAULT_SIGNALS,
        )
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return status, os.pread(capture, 1 << 20, 0).decode(errors="replace")
    except OSError as error:
        hint = ": install the Bitfusion client on this node" if error.errno == ENOENT else ""
        raise BrokenInstallation(f"{argv[0]}: {error.strerror}{hint}") from None
    finally:
        os.close(capture)


def epilog(settings, work: str, environment: dict[str, str]) -> bool:
    """Release every allocation of the job; return whether all of it went well (an allocation gone already may not)."""
    well = True
    for path in allocation_files(work, os.getuid()):
        argv = [settings.command or COMMAND, "release_gpus", "-f", path]
        status, output = run_client(argv, {**environment, **task_environment(work)})
        if status != 0:
            well = False
            os.write(2, f"{' '.join(argv)}: status {status}: {output.strip()}\n".encode())
    return well
