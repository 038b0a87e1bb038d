"""Run a command inside a lab: enter its namespaces, become the user, pass streams, signals and the exit status."""

import os
import pwd
import signal
import sys

from slurm_gpushare.errors import EXIT_CANNOT_EXECUTE, EXIT_NOT_FOUND, LabError
from slurm_gpushare.lab import kernel, spaces
from slurm_gpushare.lab.state import LabState

PATH = "/opt/gpushare/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
SPACES = (
    ("ipc", kernel.CLONE_NEWIPC),
    ("uts", kernel.CLONE_NEWUTS),
    ("net", kernel.CLONE_NEWNET),
    ("pid", kernel.CLONE_NEWPID),
    ("mnt", kernel.CLONE_NEWNS),
)
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def run_inside(lab: LabState, argv: list[str], user: str, node: str | None, cwd: str | None) -> int:
    """Run ``argv`` in the lab and return its exit status, 128+N when signal N ended it. Raises LabError."""
    inside = f"/proc/{lab.init}"
    descriptors = [(os.open(f"{inside}/ns/{kind}", os.O_RDONLY), flag) for kind, flag in SPACES]
    inner = spaces.open_node(lab.init, node) if node else {}
    if inner is None:
        raise LabError(f"node {node!r} is not in this lab: `gpushare lab exec -- sinfo -N` lists them")
    signal.pthread_sigmask(signal.SIG_BLOCK, {*FORWARDED, signal.SIGCHLD})
    terminal = _own_terminal()
    # The pid namespace is that of children, so the command is one.
    for descriptor, flag in descriptors:
        kernel.setns(descriptor, flag)
        os.close(descriptor)
    spaces.enter(inner)
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise LabError(f"user {user!r} is not in this lab: root, alice and bob are") from None
    parent_alive, parent_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(parent_end)
        _become(argv, account, cwd, terminal, parent_alive)
    os.close(parent_alive)
    return _wait_for(child, terminal)


def _own_terminal() -> bool:
    """Whether standard input is a terminal and this process is in its foreground."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _become(argv: list[str], account: pwd.struct_passwd, cwd: str | None, terminal: bool, parent_alive: int) -> None:
    status = EXIT_CANNOT_EXECUTE
    try:
        if terminal:
            # A shell with job control wants a process group that it can see: the caller's is outside.
            os.setpgid(0, 0)
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            os.tcsetpgrp(0, os.getpid())
            signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.umask(0o022)
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        kernel.die_with_parent(signal.SIGKILL)
        os.set_blocking(parent_alive, False)
        try:
            if os.read(parent_alive, 1) == b"":
                os._exit(status)  # the parent ended before the kernel was told to watch it
        except BlockingIOError:
            pass
        environment = {
            "PATH": PATH,
            "HOME": account.pw_dir,
            "USER": account.pw_name,
            "LOGNAME": account.pw_name,
            "SHELL": account.pw_shell,
            "LANG": "C.UTF-8",
        }
        if "TERM" in os.environ:
            environment["TERM"] = os.environ["TERM"]
        where = cwd or account.pw_dir
        try:
            os.chdir(where)
        except OSError as error:
            _complain(f"folder {where!r} in the lab: {error.strerror}")
            os._exit(status)
        for number in (signal.SIGPIPE, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        try:
            os.execvpe(argv[0], argv, environment)
        except FileNotFoundError:
            status = EXIT_NOT_FOUND
            _complain(f"command {argv[0]!r} is not in the lab")
        except OSError as error:
            _complain(f"command {argv[0]!r} in the lab: {error.strerror}")
    except OSError as error:
        _complain(f"becoming {account.pw_name} in the lab: {error}")
    finally:
        os._exit(status)


def _complain(text: str) -> None:
    os.write(2, f"gpushare: {text}\n".encode())


def _wait_for(child: int, terminal: bool) -> int:
    """Pass signals on until ``child`` ends; follow it when it stops in a terminal."""
    while True:
        information = signal.sigwaitinfo({*FORWARDED, signal.SIGCHLD})
        if information.si_signo != signal.SIGCHLD:
            # A signal of the terminal's reached the command too; one sent to this process alone did not.
            if information.si_code <= 0:
                os.kill(child, information.si_signo)
            continue
        pid, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
        if pid == 0:
            continue
        if os.WIFSTOPPED(status):
            if terminal:
                _take_terminal(os.getpgrp())
                os.kill(0, signal.SIGSTOP)
                _take_terminal(child)
                os.killpg(child, signal.SIGCONT)
            continue
        if terminal:
            _take_terminal(os.getpgrp())
        return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _take_terminal(group: int) -> None:
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(0, group)
    except OSError:
        pass  # the terminal is gone
    signal.signal(signal.SIGTTOU, before)
    sys.stdout.flush()
