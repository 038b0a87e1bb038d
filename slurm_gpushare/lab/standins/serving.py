"""What the servers of the stand-ins have in common: they end at a signal, and their clients with them."""

import asyncio
import os
import signal
import socket
import struct
from collections.abc import Awaitable, Callable

from slurm_gpushare.errors import LabError

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Serving:
    """A context around servers: left at SIGTERM or SIGINT, it closes them and ends what is still served.

    ``async with Serving() as serving: serving.add(await asyncio.start_server(serving.client(…), …)); await
    serving.stopped.wait()``
    """

    def __init__(self) -> None:
        self.stopped = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task] = set()

    async def __aenter__(self) -> "Serving":
        """From here on the two signals end the process in order."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stopped.set)
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Close the servers and end their clients."""
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def add(self, server: asyncio.Server) -> None:
        """Close ``server`` at the end."""
        self._servers.append(server)

    def client(self, serve: Handler) -> Handler:
        """Return ``serve`` as the handler of a server's connections."""

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await self._track(asyncio.current_task(), serve(reader, writer))
            except asyncio.CancelledError:
                pass  # the end; asyncio would report a cancelled client as an error

        return handler

    def task(self, work: Awaitable[None]) -> None:
        """Do ``work`` beside the servers, to its end or theirs."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _track(self, task: asyncio.Task | None, work: Awaitable[None]) -> None:
        assert task is not None
        self._tasks.add(task)
        try:
            await work
        finally:
            self._tasks.discard(task)


def bind(path: str, mode: int = 0o666) -> socket.socket:
    """Return a listening Unix socket at ``path``, in the place of one that nobody serves any more. Raises LabError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(path) == 0:
                raise LabError(f"{path} is served already: stop that daemon or name another socket")
        # It gets its name when it listens: whoever waits for the file would be refused before. A short one until then,
        # since a socket's path may have 107 bytes.
        unnamed = os.path.join(os.path.dirname(path), f".{os.getpid() % 1000}")
        if os.path.lexists(unnamed):
            os.unlink(unnamed)
        listener.bind(unnamed)
        os.chmod(unnamed, mode)
        listener.listen(128)
        os.rename(unnamed, path)
    except OSError as error:
        listener.close()
        raise LabError(f"{path}: {error.strerror or error}") from None
    except LabError:
        listener.close()
        raise
    return listener


def peer(writer: asyncio.StreamWriter) -> tuple[int, int]:
    """Return (pid, uid) of a Unix socket's other end as the kernel knows them; pid 0: not visible from here."""
    answer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", answer)
    return pid, uid


class EndsWithProcess:
    """A context in which the end of process ``pid`` closes the connection, though a child may have inherited it."""

    def __init__(self, writer: asyncio.StreamWriter, pid: int) -> None:
        self._writer = writer
        self._pid = pid
        self._process: int | None = None

    def __enter__(self) -> None:
        if not self._pid:
            return
        try:
            self._process = os.pidfd_open(self._pid)
            asyncio.get_running_loop().add_reader(self._process, self._writer.transport.abort)
        except ProcessLookupError:
            self._writer.transport.abort()
        except OSError:
            pass  # no pidfd in this kernel or sandbox: the connection alone tells

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            asyncio.get_running_loop().remove_reader(self._process)
            os.close(self._process)
