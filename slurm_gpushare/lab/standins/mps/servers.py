"""One MPS server as its control daemon has it: the process, its clients, and the questions put to it."""

import asyncio
import os
import pwd
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.gpu.answers import INSUFFICIENT_RESOURCES
from slurm_gpushare.lab.standins.mps.limits import Limits
from slurm_gpushare.lab.standins.mps.partitions import Partition

PROGRAM = "nvidia-cuda-mps-server"


class TooManyClients(LabError):
    """The server takes no client more."""


@dataclass(frozen=True)
class Client:
    """One client process, and the GPUs (UUIDs) that it enumerated."""

    pid: int
    id: int
    devices: tuple[str, ...]
    namespace: str
    partition: Partition | None = None

    @property
    def command(self) -> str:
        """Return its command line, as long as it runs."""
        try:
            words = Path(f"/proc/{self.pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            return "-"
        return " ".join(words).strip() or "-"

    @property
    def pid_namespace(self) -> str:
        """Return the inode of its pid namespace."""
        try:
            return os.readlink(f"/proc/{self.pid}/ns/pid").removeprefix("pid:[").removesuffix("]")
        except OSError:
            return "-"


class Server:
    """A running server of ``devices`` (UUIDs), with the user ``uid`` and limits by namespace."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, uid: int, devices: Sequence[str]) -> None:
        self.process = process
        self.name = name
        self.uid = uid
        self.devices = tuple(devices)
        self.namespaces: dict[str, Limits] = {"default": Limits()}
        self.clients: dict[int, Client] = {}
        self.watcher: asyncio.Future | None = None
        self._next_id = 0
        self._asking = asyncio.Lock()

    @property
    def pid(self) -> int:
        """Return the server's process id."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Return whether the process still runs, as far as is known."""
        return self.process.returncode is None

    async def ask(self, request: str) -> str:
        """Put one request to the GPUs as the server; return the values of the answer. Raises LabError."""
        async with self._asking:
            try:
                self.process.stdin.write(f"{request}\n".encode())
                answer = (await self.process.stdout.readline()).decode().rstrip("\n")
            except OSError:
                answer = ""
        kind, _, values = answer.partition(" ")
        if kind == "ok":
            return values
        code, _, reason = values.partition(" ")
        if code == str(INSUFFICIENT_RESOURCES):
            raise TooManyClients(reason)
        raise LabError(reason or f"server {self.pid} has ended")

    async def join(
        self,
        pid: int,
        visible: Sequence[str],
        threads: float,
        limits: dict[str, int],
        namespace: str,
        partition: Partition | None = None,
    ) -> Client:
        """Make process ``pid`` a client. Raises LabError."""
        words = ",".join(f"{device}={size}" for device, size in limits.items()) or "-"
        await self.ask(f"mps-client {pid} {round(threads, 3)} {words}")
        self.clients[pid] = Client(pid, self._next_id, tuple(visible), namespace, partition)
        self._next_id += 1
        return self.clients[pid]

    async def leave(self, pid: int) -> None:
        """Let the client go."""
        self.clients.pop(pid, None)
        try:
            await self.ask(f"mps-leave {pid}")
        except LabError:
            pass  # the server has ended, and with it its clients' places

    async def status(self) -> str:
        """Return ACTIVE or FAULT. Raises LabError."""
        return (await self.ask("mps-state")).partition(" ")[0]

    async def end(self) -> None:
        """End the process; what its clients still use is lost."""
        if self.alive:
            self.process.terminate()
        await self.process.wait()


async def start(name: str, uid: int, devices: Sequence[str], log: str, ended: Callable[["Server"], None]) -> Server:
    """Start a server; ``ended`` is called when its process has ended. Raises LabError."""
    program = Path(sys.argv[0]).resolve().parent / PROGRAM  # both are installed in one folder
    identity = {}
    if uid != os.geteuid():
        try:
            group = pwd.getpwuid(uid).pw_gid
        except KeyError:
            group = uid  # somebody of a container's, whom this machine does not know
        identity = {"user": uid, "group": group, "extra_groups": []}
    with open(log, "ab") as errors:
        process = await asyncio.create_subprocess_exec(
            PROGRAM,
            executable=program,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd="/",
            start_new_session=True,
            **identity,
        )
    server = Server(process, name, uid, devices)
    try:
        await server.ask(f"mps-serve {','.join(devices)}")
    except LabError:
        await server.end()
        raise

    async def watch() -> None:
        await process.wait()
        ended(server)

    server.watcher = asyncio.ensure_future(watch())
    return server
