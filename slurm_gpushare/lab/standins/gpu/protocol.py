"""The line protocol between the GPU stand-in and its clients, and its only server-side implementation.

Two servers speak it: ``daemon.py`` on a Unix socket for the GPUs of a node, and the Bitfusion stand-in over TCP for the
GPUs of one allocation. Two clients speak it, both in C: the NVML library and ``gpu-workload``; ``control.py`` is for
scripts.

**Endpoint.** Clients take it from the environment variable ``NVML_STANDIN_ENDPOINT``:

- ``unix:PATH``: the daemon. Without the variable: ``unix:/dev/nvidia-standin/socket``.
- ``tcp:IP:PORT:ALLOCATION-UUID:TOKEN`` (IPv4): a client first sends the line ``allocation ALLOCATION-UUID TOKEN``.
  The server checks it, answers ``ok`` or ``error 9 REASON`` (and closes), then calls ``serve_connection`` with the
  allocation's view of its GPUs. This first line is the server's own business and not read here.

**Lines.** UTF-8, ended by one newline, at most 64 KiB from a client. A request is words separated by one space; it is
answered by exactly one line, in order: ``ok[ VALUE…]`` or ``error CODE REASON…`` where CODE is the number that NVML
gives that error (nvmlReturn_t). A value that may hold spaces (a card's name) is the last on its line.
GPU is an index (0…n-1), a UUID, a unique beginning of a UUID (``GPU-…``), or a PCI bus id.

| request | answer |
|---|---|
| ``call FUNCTION [GPU [ARG…]]`` | ``ok VALUE…`` of that NVML function, named without ``_vN`` (``answers.py``) |
| ``attach GPU SM MEMORY [PID]`` | ``ok HANDLE``: this process uses SM percent (0-100) and MEMORY bytes of that GPU |
| ``change HANDLE SM MEMORY`` | ``ok`` |
| ``detach HANDLE`` | ``ok`` |
| ``fault GPU`` | ``ok``: this process does what kills its contexts there, and those of all clients of its MPS server |
| ``mps-serve GPU[,GPU…]`` | ``ok``: this process is the MPS server of these GPUs, as long as the connection lives |
| ``mps-client PID THREADS LIMITS`` | ``ok``: of an MPS server: THREADS percent; LIMITS is ``-`` or ``GPU=BYTES[,…]`` |
| ``mps-leave PID`` | ``ok``: of an MPS server: the process is its client no longer, if it was |
| ``mps-terminate PID`` | ``ok``: of an MPS server: what the client uses is lost |
| ``mps-state`` | ``ok ACTIVE|FAULT CLIENTS``: of an MPS server, with the number of its clients |
| ``snapshot`` | ``ok JSON``: the whole state that this connection may see (``Gpus.snapshot``) |
| ``fail GPU FUNCTION FAILURE [MILLISECONDS]`` | ``ok``: control only; GPU and FUNCTION may be ``all`` |
| ``heal GPU FUNCTION`` | ``ok``: control only; removes every rule that the two words cover |
| ``failures`` | ``ok JSON``: control only; the list of rules |

- A connection is the life of what it attached: when it is closed, its loads are gone. The daemon also closes it when
  the client's process ends, though a child may have inherited it; over TCP only the last holder's end is seen.
- PID is refused where the server knows the peer's (a Unix socket), and required where it does not (TCP).
- Too little memory: ``error 20 out_of_memory asked BYTES free BYTES``. No such GPU: ``error 28 …`` (``attach``).
  Compute mode: ``error 19 …``.
- A line that nobody asked for is ``lost REASON``: everything that this connection attached is gone, by a fault, by the
  MPS server's end or at its request.
- FAILURE: not_supported, not_found, gpu_is_lost, no_permission, driver_mismatch, slow (with MILLISECONDS).
- ``fail all nvmlInit …`` meets functions that have no GPU; ``all`` meets every one of them.
- Anything unknown or malformed: ``error 2 REASON``; the connection stays open.

**From Python.** ``engine.Gpus(specs)`` is the state (``spec.parse_specs`` reads a configuration);
``view.View(gpus, [(gpu, memory_bytes), …])`` is the part of it that one allocation sees; both are given to
``serve_connection`` as they are. ``view.close()`` ends the view's loads and connections.
"""

import asyncio
import inspect
import json
import re
from collections.abc import Awaitable, Callable

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.gpu import answers, mps
from slurm_gpushare.lab.standins.gpu.engine import ALL, DeviceInUse, Gpus, NoSuchGpu, NoSuchLoad, OutOfMemory
from slurm_gpushare.lab.standins.gpu.view import View

MAX_LINE = 64 * 1024


class _Connection:
    """One client: what it attached, and what it may do."""

    def __init__(
        self, gpus: Gpus, peer_pid: int | None, allow_control: bool, write: Callable[[bytes], None] = lambda line: None
    ) -> None:
        self.gpus = gpus
        self.write = write
        self.server: mps.Server | None = None
        self.peer_pid = peer_pid
        self.allow_control = allow_control
        self.handles: set[int] = set()
        self.commands: dict[str, Callable[..., str | Awaitable[str]]] = {
            "call": self.call,
            "attach": self.attach,
            "change": self.change,
            "detach": self.detach,
            "fault": self.fault,
            "mps-serve": self.mps_serve,
            "mps-client": self.mps_client,
            "mps-leave": lambda pid: self.gpus.mps.leave(self._client_of_server(pid)) or "",
            "mps-terminate": lambda pid: self.gpus.terminate(self._server(), self._client_of_server(pid)) or "",
            "mps-state": lambda: f"{self._server().state} {len(self._server().clients)}",
            "snapshot": lambda: json.dumps(gpus.snapshot(), separators=(",", ":")),
            "fail": self.fail,
            "heal": self.heal,
            "failures": self.failures,
        }
        self.signatures = {name: inspect.signature(command) for name, command in self.commands.items()}

    async def answer(self, line: str) -> str:
        """Return the answer to one request line, without its newline."""
        command, *words = line.split(" ")
        try:
            if command not in self.commands:
                raise LabError(f"{command!r} is no request: it must be one of {', '.join(self.commands)}")
            try:
                self.signatures[command].bind(*words)
            except TypeError:
                raise LabError(f"{command} does not take {len(words)} words") from None
            values = self.commands[command](*words)
            if inspect.isawaitable(values):
                values = await values
        except answers.NvmlError as error:
            return f"error {error.code} {error}"
        except OutOfMemory as error:
            return f"error {answers.MEMORY} {error}"
        except mps.TooManyClients as error:
            return f"error {answers.INSUFFICIENT_RESOURCES} {error}"
        except DeviceInUse as error:
            return f"error {answers.IN_USE} {error}"
        except NoSuchGpu as error:
            return f"error {answers.GPU_NOT_FOUND} {error}"
        except LabError as error:
            return f"error {answers.INVALID_ARGUMENT} {error}"
        return f"ok {values}" if values else "ok"

    async def call(self, function: str, *words: str) -> str:
        gpu, arguments = answers.resolve(self.gpus, function, words)
        if function in answers.ONLY_ROOT and not self.allow_control:
            raise answers.NvmlError(answers.NO_PERMISSION, "only root may do that")
        failure = self.gpus.failure(gpu, function)
        if failure and failure[0] == "slow":
            await asyncio.sleep(failure[1] / 1000)
        elif failure:
            raise answers.NvmlError(answers.FAILURE_CODES[failure[0]], f"scripted: {failure[0]}")
        return answers.answer(self.gpus, function, gpu, arguments)

    def attach(self, gpu: str, sm: str, memory: str, pid: str | None = None) -> str:
        if self.peer_pid is None and pid is None:
            raise LabError("attach needs the process id as its last word: this server cannot see its clients")
        if self.peer_pid is not None and pid is not None:
            raise LabError(f"the process id {pid} is refused: this server knows its client's, {self.peer_pid}")
        process = self.peer_pid if pid is None else _number(pid, "process id")
        if not process:
            raise LabError("the client's process cannot be seen from here (another pid namespace, not below this one)")
        wanted = _number(sm, "SM percent"), _number(memory, "memory")
        handle = self.gpus.attach(process, self.gpus.find(gpu), *wanted, on_lost=self.lost)
        self.handles.add(handle)
        return str(handle)

    def change(self, handle: str, sm: str, memory: str) -> str:
        self.gpus.change(self._own(handle), _number(sm, "SM percent"), _number(memory, "memory"))
        return ""

    def detach(self, handle: str) -> str:
        self.gpus.detach(self._own(handle))
        self.handles.discard(int(handle))
        return ""

    def lost(self, reason: str) -> None:
        self.write(f"lost {reason}\n".encode())

    def fault(self, gpu: str) -> str:
        self.gpus.fault(self._known_peer(), self.gpus.find(gpu))
        return ""

    def mps_serve(self, gpus: str) -> str:
        self.server = self.gpus.serve(self._known_peer(), [self.gpus.find(gpu) for gpu in gpus.split(",")])
        return ""

    def mps_client(self, pid: str, threads: str, limits: str) -> str:
        if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", threads) or not 0 < float(threads) <= 100:
            raise LabError(f"{threads!r} percent of the threads: it must be above 0 and at most 100")
        by_gpu = {}
        for limit in limits.split(",") if limits != "-" else ():
            gpu, _, size = limit.partition("=")
            by_gpu[self.gpus.find(gpu)] = _number(size, "memory limit")
        self.gpus.join(self._server(), _number(pid, "process id"), float(threads), by_gpu)
        return ""

    def fail(self, gpu: str, function: str, failure: str, milliseconds: str = "0") -> str:
        self._check_control()
        self._check_function(function)
        self.gpus.fail(self._gpu_or_all(gpu), function, failure, _number(milliseconds, "milliseconds"))
        return ""

    def heal(self, gpu: str, function: str) -> str:
        self._check_control()
        self._check_function(function)
        self.gpus.heal(self._gpu_or_all(gpu), function)
        return ""

    def failures(self) -> str:
        self._check_control()
        return json.dumps(self.gpus.failures(), separators=(",", ":"))

    def close(self) -> None:
        """End what this connection attached; what was lost, or was in a closed view, has ended already."""
        for handle in self.handles:
            try:
                self.gpus.detach(handle)
            except NoSuchLoad:
                pass
        if self.handles and self.peer_pid:
            self.gpus.mps.leave(self.peer_pid)
        self.handles.clear()
        if self.server:
            self.gpus.end_server(self.server)

    def _known_peer(self) -> int:
        if not self.peer_pid:
            raise LabError("the client's process cannot be seen from here")
        return self.peer_pid

    def _server(self) -> mps.Server:
        if self.server is None:
            raise LabError("this connection is no MPS server's: mps-serve comes first")
        return self.server

    def _client_of_server(self, pid: str) -> int:
        number = _number(pid, "process id")
        client = self.gpus.mps.client(number)
        if client and client.server is not self._server():
            raise LabError(f"process {pid} is the client of another server")
        return number

    def _own(self, word: str) -> int:
        handle = _number(word, "handle")
        if handle not in self.handles:
            raise LabError(f"handle {word} is not of this connection")
        return handle

    def _check_control(self) -> None:
        if not self.allow_control:
            raise answers.NvmlError(answers.NO_PERMISSION, "only root may script failures")

    @staticmethod
    def _check_function(function: str) -> None:
        if function != ALL:
            answers.check_function(function)

    def _gpu_or_all(self, word: str) -> int | None:
        return None if word == ALL else self.gpus.find(word)


def _number(word: str, what: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", word):
        raise LabError(f"{what} {word!r} is not a number: it must be decimal digits")
    return int(word)


async def serve_connection(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    gpus: Gpus,
    peer_pid: int | None,
    allow_control: bool,
) -> None:
    """Serve one client until it, or the view that it works on, is gone; then end its loads and close the connection.

    ``peer_pid`` is the client's process where the server knows it (0: it has one that cannot be seen), None where the
    client must tell it. ``allow_control`` permits scripted failures. ``reader`` should have the limit ``MAX_LINE``.
    """
    connection = _Connection(gpus, peer_pid, allow_control, writer.write)
    if isinstance(gpus, View):
        gpus.on_close.append(writer.transport.abort)
    try:
        while (line := await reader.readline()).endswith(b"\n"):
            answer = await connection.answer(line[:-1].decode("utf-8", "replace"))
            writer.write(answer.encode() + b"\n")
            await writer.drain()
    except (OSError, ValueError):
        # A client that vanished, or a line beyond the limit: there is nobody, or nothing sensible, to answer.
        pass
    finally:
        connection.close()
        if isinstance(gpus, View) and writer.transport.abort in gpus.on_close:
            gpus.on_close.remove(writer.transport.abort)
        writer.close()
