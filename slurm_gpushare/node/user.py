"""Do something as the user of a job, from a root process, within a time.

Standard library only: prolog and epilog import this file.
"""

import _signal as signal  # the module signal costs every prolog and epilog 5 ms for the names of its numbers
import os
import pwd
import select


def clean_environment(uid: int) -> dict[str, str]:
    """Return an environment with nothing of root's, of slurmd's or of the job's in it."""
    try:
        entry = pwd.getpwuid(uid)
        return {"PATH": "/usr/bin:/bin", "HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name}
    except KeyError:
        return {"PATH": "/usr/bin:/bin", "HOME": "/"}


def become(uid: int, gid: int) -> None:
    """Give up root for good, in this process: groups, group, user."""
    try:
        os.initgroups(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        os.setgroups([gid])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def run_as(uid: int, gid: int, action, timeout: float) -> tuple[bool, str]:
    """Call ``action`` in a child that has become the user; return whether it gave True in time, and its output.

    The child has a session of its own, / as its folder and no input; what is left of the session at the child's end,
    or after ``timeout`` seconds, is killed. A memory file takes the output: nobody can keep the caller waiting by
    holding a pipe.
    """
    capture = os.memfd_create("output")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setsid()
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(capture, 1)
            os.dup2(capture, 2)
            os.chdir("/")
            become(uid, gid)
            status = 0 if action() else 1
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode(errors="replace"))
        finally:
            os._exit(status)
    descriptor = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        in_time = bool(poll.poll(timeout * 1000))
        # It is not reaped yet, so its number is still that of its own session.
        for kill in (os.killpg, os.kill):
            try:
                kill(child, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it died before it had a session
        if not poll.poll(1000):
            # In a file system that does not answer a process cannot be killed; whoever adopts it waits for its end.
            return False, f"no end within {timeout:g} s\n"
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output = os.pread(capture, 65536, 0).decode(errors="replace")
        return in_time and status == 0, output if in_time else output + f"no end within {timeout:g} s\n"
    finally:
        os.close(descriptor)
        os.close(capture)
