"""The few system calls that Python 3.11 has no name for.

Constants from <sched.h> and <sys/prctl.h>, the same on every Linux architecture.
"""

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``flags``; raises OSError."""
    _check(_libc.unshare(flags), "unshare")


def setns(descriptor: int, flags: int) -> None:
    """Enter the namespace that ``descriptor`` refers to; raises OSError."""
    _check(_libc.setns(descriptor, flags), "setns")


def sethostname(name: str) -> None:
    """Set the host name of this UTS namespace; raises OSError."""
    raw = name.encode()
    _check(_libc.sethostname(raw, len(raw)), "sethostname")


def die_with_parent(number: int) -> None:
    """Have the kernel send signal ``number`` to this process when its parent ends. Cleared by a change of user."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl")


def set_name(name: str) -> None:
    """Set the short name that ps and /proc/PID/comm show (15 bytes)."""
    _check(_libc.prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0), "prctl")
