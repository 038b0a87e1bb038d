"""The control daemon: it listens in the pipe folder, lets clients in, and does what the commands say.

``Daemon`` is what both protocols share; ``legacy.py`` (2) and ``modules.py`` (3) say who becomes the client of which
server and what the commands are. A connection begins with one line:

| line | answer |
|---|---|
| ``command ["WORD",…]`` | ``{"output": …, "errors": …, "status": 0 or 1}``; then the connection is closed |
| ``arguments ["WORD",…]`` | the same; the words are not of standard input, but of the command line |
| ``client THREADS MEMORY VISIBLE PARTITION`` | ``ok SERVER-PID UUID[,UUID…]`` in its turn, or ``error CURESULT …`` |

A word of ``client`` is the value of CUDA_MPS_ACTIVE_THREAD_PERCENTAGE, CUDA_MPS_PINNED_DEVICE_MEM_LIMIT,
CUDA_VISIBLE_DEVICES or CUDA_MPS_SM_PARTITION, ``-`` where it is not set. The connection is the client's life.
"""

import asyncio
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.gpu.control import request
from slurm_gpushare.lab.standins.mps import servers
from slurm_gpushare.lab.standins.mps.assumed import (
    CONNECTION_FAILED,
    INVALID_RESOURCE_CONFIGURATION,
    MAX_CLIENTS_REACHED,
    SERVER_NOT_READY,
)
from slurm_gpushare.lab.standins.mps.limits import (
    Limits,
    constrain,
    parse_memory_variable,
    parse_percentage,
    visible,
)
from slurm_gpushare.lab.standins.mps.partitions import Partitions
from slurm_gpushare.lab.standins.mps.servers import Client, Server
from slurm_gpushare.lab.standins.serving import EndsWithProcess, Serving, bind, peer

DEFAULT_GPUS = "/dev/nvidia-standin/socket"
PID_FILE = "nvidia-cuda-mps-control.pid"
QUIT_POLL_SECONDS = 0.05


class Refused(LabError):
    """A client is not let in; ``code`` is the CUresult that it is told."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def gpu_socket() -> str:
    """Return where the GPU stand-in's daemon listens. Raises LabError where the GPUs are not this node's."""
    endpoint = os.environ.get("NVML_STANDIN_ENDPOINT") or f"unix:{DEFAULT_GPUS}"
    if not endpoint.startswith("unix:"):
        raise LabError(f"{endpoint}: MPS serves the GPUs of its own node")
    return endpoint.removeprefix("unix:")


def driver_branch() -> int:
    """Return the driver's branch, e.g. 580. Raises LabError."""
    return int(request(gpu_socket(), "call", "nvmlSystemGetDriverVersion").split(".")[0])


class Daemon(ABC):
    """A daemon of one pipe folder; ``multiuser``: its servers are root's and take everybody's clients."""

    OVERRIDES = TAKES_ARGUMENTS = False

    def __init__(self, pipe: str, log: str, multiuser: bool, static: bool = False) -> None:
        """Read the GPUs, and the limits in the environment; ``static``: of partitions alone. Raises LabError."""
        self.pipe = Path(pipe)
        self.log_folder = Path(log)
        self.multiuser = multiuser
        self.cards = json.loads(request(gpu_socket(), "snapshot"))
        uuids = [card["uuid"] for card in self.cards]
        self.devices = visible(os.environ.get("CUDA_VISIBLE_DEVICES"), uuids)
        self.partitions = Partitions(self.devices) if static else None
        self.defaults = Limits()
        if threads := os.environ.get("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"):
            self.defaults.threads = parse_percentage(threads)
        if memory := os.environ.get("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"):
            self.defaults.memory = parse_memory_variable(memory)
        self.running: dict[int, Server] = {}
        self.changed = asyncio.Condition()
        self.turn = asyncio.Lock()  # one client enters, or one server starts, at a time: first come, first served
        self.serving: Serving | None = None
        self.quitting = False

    # Of each protocol

    @abstractmethod
    async def command(self, words: Sequence[str]) -> str:
        """Do one command; return what it prints. Raises LabError."""

    @abstractmethod
    async def server_for(self, uid: int) -> Server:
        """Return the server of a client of the main socket, when it is its turn. Raises LabError, Refused."""

    # What servers are there

    async def start_server(self, name: str, uid: int, devices: Sequence[str]) -> Server:
        """Start a server of ``devices``. Raises LabError."""
        if not devices:
            raise LabError("no GPU is visible to the daemon")
        server = await servers.start(name, uid, devices, str(self.log_folder / "server.log"), self._ended)
        server.namespaces["default"] = self.defaults.copy()
        self.running[server.pid] = server
        self.log(f"Starting new server {server.pid} for user {uid}")
        return server

    def _ended(self, server: Server) -> None:
        self.running.pop(server.pid, None)
        self.log(f"Server {server.pid} exited with status {server.process.returncode}")
        if self.serving:
            self.serving.task(self.notify())

    async def notify(self) -> None:
        """Let those who wait for a change look again."""
        async with self.changed:
            self.changed.notify_all()

    def server(self, pid: str) -> Server:
        """Return the server of that process id. Raises LabError."""
        if not pid.isdecimal() or int(pid) not in self.running:
            raise LabError(f"Server {pid} not found")
        return self.running[int(pid)]

    async def quit(self, seconds: float | None) -> None:
        """Take no client any more, wait for those that are there (at most so long), then end."""
        self.quitting = True
        end = None if seconds is None else time.monotonic() + seconds
        while any(server.clients for server in self.running.values()) and (end is None or time.monotonic() < end):
            await asyncio.sleep(QUIT_POLL_SECONDS)
        for server in list(self.running.values()):
            await server.end()
        assert self.serving is not None
        self.serving.stopped.set()

    # Connections

    async def connection(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_for: Callable | None = None,
        namespace: str = "default",
    ) -> None:
        """Serve one connection of the main socket, or of a server's."""
        pid, uid = peer(writer)
        try:
            with EndsWithProcess(writer, pid):
                kind, _, rest = (await reader.readline()).decode("utf-8", "replace").rstrip("\n").partition(" ")
                if kind in ("command", "arguments"):
                    await self._serve_command(writer, uid, rest, kind == "arguments")
                elif kind == "client":
                    await self._serve_client(reader, writer, pid, uid, rest.split(" "), server_for, namespace)
        except (OSError, ValueError):
            pass  # the other end vanished, or sent no line: nobody is left to answer
        finally:
            writer.close()

    async def _serve_command(self, writer: asyncio.StreamWriter, uid: int, text: str, arguments: bool) -> None:
        answer = {"output": "", "errors": "", "status": 0}
        try:
            if uid not in (0, os.geteuid()):
                raise LabError("only the daemon's own user and root may give commands")
            if arguments and not self.TAKES_ARGUMENTS:
                raise LabError("protocol 2 takes its commands on standard input")
            words = json.loads(text)
            self.log(f"Command from user {uid}: {' '.join(words)}")
            answer["output"] = await self.command(words)
        except LabError as error:
            answer.update(errors=f"{error}\n", status=1)
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()

    async def _serve_client(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pid: int,
        uid: int,
        words: Sequence[str],
        server_for: Callable | None,
        namespace: str,
    ) -> None:
        # Whoever waits for a server may vanish meanwhile.
        gone = asyncio.ensure_future(reader.read())
        entering = asyncio.ensure_future(self._enter(pid, uid, words, server_for or self.server_for, namespace))
        server = None
        try:
            await asyncio.wait({gone, entering}, return_when=asyncio.FIRST_COMPLETED)
            if not entering.done():
                return
            try:
                server, client = entering.result()
            except Refused as error:
                self.log(f"Client {pid} of user {uid} refused: {error}")
                writer.write(f"error {error.code} {error}\n".encode())
                await writer.drain()
                return
            writer.write(f"ok {server.pid} {','.join(client.devices)}\n".encode())
            await writer.drain()
            await gone
        finally:
            for task in (gone, entering):
                task.cancel()
            await asyncio.gather(gone, entering, return_exceptions=True)
            if server is None and entering.done() and not entering.cancelled() and entering.exception() is None:
                server = entering.result()[0]
            if server is not None:
                await server.leave(pid)
                await self.notify()

    async def _enter(
        self, pid: int, uid: int, words: Sequence[str], server_for: Callable, namespace: str
    ) -> tuple[Server, Client]:
        """Return the server and the client that ``pid`` has become. Raises Refused."""
        if os.geteuid() != 0 and uid != os.geteuid():
            raise Refused(CONNECTION_FAILED, "User did not send valid credentials")
        if self.quitting:
            raise Refused(CONNECTION_FAILED, "the daemon ends")
        try:
            threads, memory, devices, name = (None if word == "-" else word for word in words)
            own = parse_percentage(threads) if threads else None
            tighter = parse_memory_variable(memory) if memory else {}
        except (LabError, ValueError) as error:
            raise Refused(CONNECTION_FAILED, f"the client's environment: {error}") from None
        try:
            partition = self.partitions.find(name or "") if self.partitions else None
        except LabError as error:
            raise Refused(INVALID_RESOURCE_CONFIGURATION, str(error)) from None
        self.log(f"NEW CLIENT {pid} from user {uid}")
        try:
            async with self.turn:
                server = await server_for(uid)
                share, limits = constrain(server.namespaces[namespace], server.devices, own, tighter, self.OVERRIDES)
                seen = visible(devices, server.devices)
                if partition:
                    share = partition.percentage  # a percentage of threads means nothing here
                    seen = [device for device in seen if device == partition.device]
                if await server.status() == "FAULT":
                    raise Refused(SERVER_NOT_READY, f"server {server.pid} is in FAULT")
                client = await server.join(pid, seen, share, limits, namespace, partition)
        except Refused:
            raise
        except servers.TooManyClients as error:
            raise Refused(MAX_CLIENTS_REACHED, str(error)) from None
        except LabError as error:
            raise Refused(CONNECTION_FAILED, str(error)) from None
        self.log(f"Client {pid} of user {uid} connected to server {server.pid}")
        return server, client

    # The daemon itself

    def log(self, text: str) -> None:
        """Add a line to control.log."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)) + f".{int(now * 1000) % 1000:03}"
        with open(self.log_folder / "control.log", "a", encoding="utf-8") as file:
            file.write(f"[{stamp} Control {os.getpid():5}] {text}\n")

    async def listen(
        self, folder: Path, server_for: Callable | None = None, namespace: str = "default"
    ) -> asyncio.Server:
        """Serve a socket `control` in ``folder``. Raises LabError."""
        assert self.serving is not None
        handler = self.serving.client(partial(self.connection, server_for=server_for, namespace=namespace))
        listening = await asyncio.start_unix_server(handler, sock=bind(str(folder / "control")))
        self.serving.add(listening)
        return listening

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until quit or a signal; ``ready`` is called when commands are taken. Raises LabError."""
        async with Serving() as self.serving:
            await self.listen(self.pipe)
            (self.pipe / PID_FILE).write_text(f"{os.getpid()}\n")
            self.log("Start")
            ready()
            await self.serving.stopped.wait()
            for server in list(self.running.values()):
                await server.end()
        for name in ("control", PID_FILE):
            (self.pipe / name).unlink(missing_ok=True)
        self.log("Exit")
