"""One allocation in a Bitfusion pool: asked for, waited for, looked after, given back.

It is a file ``bitfusion<digits>`` that ``request_gpus`` leaves in TMPDIR, here a folder with nothing else of that kind,
so that ``client`` has no choice. What the file holds, what the client says and its exit statuses are not documented, so
nothing here goes by them: an allocation is there when its file is, it is alive when ``client`` runs a command in it,
and a server can be reached when ``list_gpus`` shows it, whose form is publicly known.
Standard library only and few imports: the launcher runs for every task.
"""

import os
import stat
from time import monotonic

from slurm_gpushare.backends.client import Client, Endings, run, words
from slurm_gpushare.errors import EXIT_TRY_AGAIN, EXIT_UNAVAILABLE, BackendError, BrokenInstallation

COMMAND = "/usr/bin/bitfusion"  # where its packages put it

DEAD = "dead"  # the folder of allocation files that could not be released: the epilog tries again
ALIVE = "alive"  # the file that a command in a living allocation makes

ANSWER = 15.0  # seconds for a command that has nothing to wait for; the client itself gives a server 3
FIRST_TRY = 5.0  # seconds that the first request has in any case
QUIET = 2.0  # seconds of waiting of which nothing is said
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0  # seconds between two requests


def allocation_files(folder: str, uid: int) -> list[str]:
    """Return the allocation files in ``folder``: regular files of ``uid`` named bitfusion…; links are not followed."""
    found = []
    for name in sorted(os.listdir(folder)):
        if name.startswith("bitfusion"):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and status.st_uid == uid:
                found.append(path)
    return found


def failed(text: str, status: int) -> BackendError:
    """Return an error that ends a task with ``status``."""
    error = BackendError(text)
    error.exit_status = status
    return error


class Allocation:
    """The allocation of ``folder``, of which one process takes care at a time.

    ``share`` is how much ``request_gpus`` asks for and where; ``address`` the one server that may give it, None for any
    of ``servers``; ``meanwhile`` is called once, while the client works at the first thing that it is asked.
    """

    def __init__(
        self,
        command: str,
        share: list[str],
        folder: str,
        environment: dict[str, str],
        endings: Endings,
        address: str | None,
        servers: list[str],
        meanwhile=None,
    ):
        self._command = command
        self._share = share
        self._folder = folder
        self._environment = {**environment, "TMPDIR": folder}
        self._endings = endings
        self._address = address
        self._servers = servers
        self._meanwhile = meanwhile
        self._started = monotonic()
        self._told = False
        self._said = ""

    def hold(self, wait: float) -> bool:
        """See to it that there is a living allocation, for which up to ``wait`` seconds may pass.

        Returns False, early and with nothing held, when this process is to end.

        Raises
        ------
        BackendError
            No server answered (status 69), or none gave the GPUs (75).
        BrokenInstallation
            The client cannot be used.
        """
        deadline = self._started + wait
        pause = FIRST_PAUSE
        while not self._once(deadline, wait):
            if self._endings.came():
                return False
            left = deadline - monotonic()
            if left < FIRST_PAUSE:
                self._fail()
            self._tell(wait, left > QUIET and monotonic() - self._started + pause > QUIET)
            self._endings.sleep(min(pause, left - FIRST_PAUSE))
            pause = min(2 * pause, LONGEST_PAUSE)
        if self._told:
            _say(f"the Bitfusion pool gave the GPUs after {monotonic() - self._started:.0f} s")
        return True

    def _once(self, deadline: float, wait: float) -> bool:
        files = allocation_files(self._folder, os.getuid())
        if files:
            if self._alive():
                return True
            # The server may have been away for a moment: only what is dead while it answers is dead.
            if not self._reachable():
                self._said = "no server answers for the allocation that the job has"
                return False
            if self._alive():
                return True
            if self._endings.came():
                return False
            self._release(files)
        return self._request(deadline, wait)

    def _request(self, deadline: float, wait: float) -> bool:
        """Ask for the GPUs until ``deadline``: how long the client itself waits where there are none is not known."""
        client = Client([self._command, "request_gpus", *self._share], self._environment)
        try:
            try:
                self._use_the_time()
            except Exception:
                # Ended between the server's word and its file it would leave an allocation of which nobody knows.
                client.wait(FIRST_TRY, self._endings)
                client.end()
                self._release(allocation_files(self._folder, os.getuid()))
                raise
            first = self._started + FIRST_TRY
            quiet = max(0.0, self._started + QUIET - monotonic())
            ended = client.wait(quiet, self._endings)
            if not ended and not self._endings.came():
                self._tell(wait, wait > QUIET)
                ended = client.wait(max(deadline, first) - monotonic(), self._endings)
            client.end()
            files = allocation_files(self._folder, os.getuid())
            # It may have come at the last moment, or half of it.
            if files and not self._endings.came() and ((ended and client.status == 0) or self._alive()):
                return True
            self._release(files)
            if ended and client.status == 0 and not self._endings.came():
                raise BrokenInstallation(f"{self._command} request_gpus left no allocation file in TMPDIR")
            self._said = words(client) if client.output().strip() else f"no word from {self._command}"
            warned = [line for line in client.output().splitlines() if line.startswith("[WARN]")]
            # Where the cause is on this side, such as a ~/.bitfusion that cannot be written, it is told by these.
            self._said += "".join(f" ({line})" for line in dict.fromkeys(warned[-2:]))
            return False
        finally:
            client.close()

    def _alive(self) -> bool:
        """Tell whether a command runs in the allocation."""
        mark = os.path.join(self._folder, ALIVE)
        _remove(mark)
        client = Client([self._command, "client", "--", "/usr/bin/touch", mark], self._environment)
        try:
            self._use_the_time()
            client.wait(ANSWER, self._endings)
        finally:
            client.end()
            client.close()
        return _remove(mark)

    def _use_the_time(self) -> None:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()

    def _reachable(self) -> bool:
        """Tell whether a server that may give the GPUs answers, by `` - server 0 [HOST:PORT]: running 1 tasks``."""
        client = self._do(self._endings, "list_gpus")
        lines = [line for line in client.output().splitlines() if line.lstrip().startswith("- server ")]
        client.close()
        seen = {line.partition("[")[2].partition("]")[0] for line in lines}
        # Where the policy calls the servers by other names than the client, any of them must do.
        return bool(seen) and (self._address is None or self._address in seen or not seen.issubset(self._servers))

    def _release(self, files: list[str]) -> None:
        for path in files:
            self._do(None, "release_gpus", "-f", path).close()
            if os.path.lexists(path):
                os.makedirs(os.path.join(self._folder, DEAD), 0o700, exist_ok=True)
                os.rename(path, os.path.join(self._folder, DEAD, os.path.basename(path)))

    def _do(self, endings: Endings | None, *arguments: str) -> Client:
        return run([self._command, *arguments], self._environment, ANSWER, endings)

    def _tell(self, wait: float, worth: bool) -> None:
        if worth and not self._told:
            self._told = True
            why = f" ({self._said})" if self._said else ""
            _say(f"the Bitfusion pool gave no GPUs yet{why}: waiting up to {wait:g} s")

    def _fail(self) -> None:
        tried = f"(tried for {monotonic() - self._started:.0f} s): {self._said}"
        if self._reachable():
            raise failed(f"the Bitfusion pool gave no GPUs {tried}", EXIT_TRY_AGAIN)
        raise failed(f"the Bitfusion pool cannot be reached {tried}", EXIT_UNAVAILABLE)


def _say(text: str) -> None:
    os.write(2, ("gpushare: " + " ".join(text.split()) + "\n").encode(errors="backslashreplace"))


def _remove(path: str) -> bool:
    """Remove a file and tell whether it was there."""
    try:
        os.unlink(path)
        return True
    except FileNotFoundError:
        return False
