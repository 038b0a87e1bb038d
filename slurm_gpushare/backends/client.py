"""Programs that the job's path runs and waits for, each within a time.

Whoever ends the job while one runs is not kept waiting, and the program is not left behind: see ``Endings``.
Standard library only and few imports: the launcher runs for every task.
"""

import _signal as signal  # the module signal costs every task 6 ms for the names of its numbers
import os
import select
from errno import ENOENT
from time import monotonic

from slurm_gpushare.errors import BrokenInstallation

DEFAULT_SIGNALS = [signal.SIGPIPE, signal.SIGXFSZ]  # Python ignores these two, and exec would pass that on

# What ends a process that does not care, of what Slurm and users send to a job's.
ENDINGS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

LOOK = 0.2  # seconds between two looks for such a signal
GRACE = 5.0  # seconds from SIGTERM to SIGKILL


class Endings:
    """While it is entered, a signal that would end this process waits; at the exit it does what it always does.

    So what must be put right first can be: ask ``came`` now and then.
    """

    def __enter__(self):
        wanted = [number for number in ENDINGS if signal.getsignal(number) != signal.SIG_IGN]
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
        self._wanted = set(wanted) - self._before
        return self

    def __exit__(self, *failure):
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def came(self) -> bool:
        """Tell whether one is waiting."""
        return not self._wanted.isdisjoint(signal.sigpending())

    def sleep(self, seconds: float) -> None:
        """Sleep, at most until one comes."""
        deadline = monotonic() + seconds
        while not self.came() and (left := deadline - monotonic()) > 0:
            select.select([], [], [], min(left, LOOK))


class Client:
    """A program that was started; ``status`` is None until it has ended."""

    def __init__(self, argv: list[str], environment: dict[str, str], given: str = ""):
        """Start it with the text ``given`` on its input; raises BrokenInstallation when it cannot be executed."""
        self.argv = argv
        self.status: int | None = None
        # Not a pipe: what the program leaves running could hold its end open for ever.
        self._output = os.memfd_create("output")
        source = (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
        text = None
        if given:
            text = os.memfd_create("input")
            os.pwrite(text, given.encode(), 0)
            source = (os.POSIX_SPAWN_DUP2, text, 0)
        try:
            self.pid = os.posix_spawn(
                argv[0],
                argv,
                environment,
                file_actions=[
                    source,
                    (os.POSIX_SPAWN_DUP2, self._output, 1),
                    (os.POSIX_SPAWN_DUP2, self._output, 2),
                ],
                setsigdef=DEFAULT_SIGNALS,
                setsigmask=[],
            )
        except OSError as error:
            os.close(self._output)
            hint = ": install it on this node" if error.errno == ENOENT else ""
            raise BrokenInstallation(f"{argv[0]}: {error.strerror}{hint}") from None
        finally:
            if text is not None:
                os.close(text)
        self._process = os.pidfd_open(self.pid)

    def wait(self, seconds: float, endings: Endings | None = None) -> bool:
        """Wait for its end, or for a signal that ends us; return whether it has ended."""
        deadline = monotonic() + seconds
        poll = select.poll()
        poll.register(self._process, select.POLLIN)
        while self.status is None:
            left = max(0.0, deadline - monotonic())
            if poll.poll(min(left, LOOK) * 1000):
                self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            elif left == 0 or (endings is not None and endings.came()):
                return False
        return True

    def end(self) -> None:
        """End it if it still runs: by SIGTERM, and after a while by SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.status is None:
                os.kill(self.pid, number)
                self.wait(GRACE)

    def output(self) -> str:
        """Return all that it has written so far."""
        return os.pread(self._output, 1 << 20, 0).decode(errors="replace")

    def close(self) -> None:
        """Forget it."""
        os.close(self._output)
        os.close(self._process)


def run(argv: list[str], environment: dict[str, str], seconds: float, endings: Endings | None = None) -> Client:
    """Run a program to its end, or until ``seconds`` are over or a signal ends us; return it with its status.

    Raises
    ------
    BrokenInstallation
        It cannot be executed.
    """
    client = Client(argv, environment)
    if not client.wait(seconds, endings):
        client.end()
    return client


def words(client: Client) -> str:
    """Return what a program that failed said of it: its last line that begins with Error, or its last."""
    lines = [line.strip() for line in client.output().splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("Error")]
    return (errors or lines or [f"status {client.status}"])[-1]
