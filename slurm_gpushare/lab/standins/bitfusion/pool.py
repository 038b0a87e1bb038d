"""The pool of one server as a state machine: who holds how much of which GPU, since when, and what ends it.

Facts: all GPUs of a request are distinct, from this server, with the same memory each; a fraction is one of memory;
memory is strict, compute is shared. Nothing happens between two calls: time is a clock that the caller gives, and
`expire` is to be called now and then.
"""

import math
import secrets
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from slurm_gpushare.lab.standins.bitfusion.config import ServerConfig
from slurm_gpushare.lab.standins.gpu.engine import MIB, Gpus
from slurm_gpushare.lab.standins.gpu.view import View

MAX_LOG = 10_000


@dataclass(frozen=True)
class Request:
    """What a client asks for. ``kind`` is ``run`` or ``request_gpus``; ``mib`` (of each GPU) goes before ``fraction``.

    ``request_id`` is the same in every try of one waiting client; ``filters`` are (key, value) as typed.
    """

    client: str
    request_id: str
    kind: str
    count: int
    fraction: Fraction = Fraction(1)
    mib: int | None = None
    filters: Sequence[tuple[str, str]] = ()


@dataclass(eq=False)
class Allocation:
    """What was granted: ``mib`` of each of ``gpus``, until it is released."""

    request: Request
    gpus: tuple[int, ...]
    mib: int
    total_mib: int
    view: View
    granted: float
    idle_since: float
    connected: int = 0
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    secret: str = field(default_factory=lambda: secrets.token_hex(16))

    def processes(self) -> list[int]:
        """Return the ids of the processes that use its GPUs."""
        return sorted({pid for gpu in range(len(self.gpus)) for pid, _ in self.view.processes(gpu)})


class Pool:
    """The allocations of one server."""

    def __init__(self, config: ServerConfig, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self.gpus = Gpus(config.gpus)
        self.allocations: dict[str, Allocation] = {}
        self._clock = clock
        self._counts: Counter[str] = Counter(granted=0, refused=0, released=0)
        self._log: deque[dict[str, Any]] = deque(maxlen=MAX_LOG)
        self._waiting: dict[str, dict[str, Any]] = {}

    def free_mib(self, gpu: int) -> int:
        """Return how much of a GPU's memory nobody holds."""
        return self.gpus.memory(gpu)[2] // MIB

    def request(self, request: Request) -> Allocation | None:
        """Grant the request, or return None where it does not fit now. Raises ValueError where it never will."""
        possible = False
        for total in dict.fromkeys(spec.memory_mib for spec in self.config.gpus):
            size = request.mib or math.floor(request.fraction * total)
            fitting = [
                gpu
                for gpu, spec in enumerate(self.config.gpus)
                if spec.memory_mib == total and 1 <= size <= total and self._matches(gpu, request.filters)
            ]
            possible = possible or len(fitting) >= request.count
            chosen = [gpu for gpu in fitting if self.free_mib(gpu) >= size][: request.count]
            if len(chosen) == request.count:
                return self._grant(request, tuple(chosen), size, total)
        self._refuse(request, "full" if possible else "never")
        if not possible:
            raise ValueError("no such GPUs here")
        return None

    def find(self, allocation_id: str, secret: str) -> Allocation | None:
        """Return the living allocation of that id, if the secret is its own."""
        allocation = self.allocations.get(allocation_id)
        if allocation is None or not secrets.compare_digest(allocation.secret.encode(), secret.encode()):
            return None
        return allocation

    def connect(self, allocation: Allocation) -> None:
        """Note that a client is connected: the allocation is not idle."""
        allocation.connected += 1

    def disconnect(self, allocation: Allocation, owner: bool = False) -> None:
        """Note that a client has gone. ``owner``: it was the `run` that made the allocation."""
        allocation.connected -= 1
        allocation.idle_since = self._clock()
        if owner and self.config.on_disconnect == "free":
            self.free(allocation, "disconnect")

    def free(self, allocation: Allocation, reason: str) -> None:
        """End an allocation: its memory is free, its connections for data are closed. Does nothing the second time."""
        if self.allocations.pop(allocation.uuid, None) is None:
            return
        allocation.view.close()
        self._note("released", allocation.request, allocation=allocation.uuid, reason=reason)

    def expire(self) -> None:
        """Free what has been idle for ``auto_release_timeout``."""
        oldest = self._clock() - self.config.auto_release_timeout
        for allocation in list(self.allocations.values()):
            if not allocation.connected and allocation.idle_since <= oldest:
                self.free(allocation, "auto_release_timeout")

    def state(self) -> dict[str, Any]:
        """Return everything for a judge, fit for JSON: allocations, counters, and a log of what happened.

        Times are Unix seconds. A waiting client's refusals are one entry: the time of the first, how many ``times``.
        """
        return {
            "time": self._clock(),
            "gpus": [
                {"index": gpu, "uuid": spec.uuid, "total_mib": spec.memory_mib, "free_mib": self.free_mib(gpu)}
                for gpu, spec in enumerate(self.config.gpus)
            ],
            "allocations": [
                {
                    "uuid": allocation.uuid,
                    "client": allocation.request.client,
                    "kind": allocation.request.kind,
                    "gpus": list(allocation.gpus),
                    "mib": allocation.mib,
                    "granted": allocation.granted,
                    "connected": allocation.connected,
                    "processes": allocation.processes(),
                }
                for allocation in self.allocations.values()
            ],
            "counts": dict(self._counts),
            "log": list(self._log),
        }

    def _grant(self, request: Request, gpus: tuple[int, ...], size: int, total: int) -> Allocation:
        now = self._clock()
        view = View(self.gpus, [(gpu, size * MIB) for gpu in gpus])
        allocation = Allocation(request, gpus, size, total, view, now, now)
        self.allocations[allocation.uuid] = allocation
        self._waiting.pop(request.request_id, None)
        self._note("granted", request, allocation=allocation.uuid, gpus=list(gpus), mib=size)
        return allocation

    def _refuse(self, request: Request, reason: str) -> None:
        if entry := self._waiting.get(request.request_id):
            entry["times"] += 1
            self._counts["refused"] += 1
            return
        self._waiting[request.request_id] = self._note("refused", request, reason=reason, times=1)
        while len(self._waiting) > MAX_LOG:
            del self._waiting[next(iter(self._waiting))]

    def _note(self, event: str, request: Request, **details: Any) -> dict[str, Any]:
        self._counts[event] += 1
        about = {"client": request.client, "request": request.request_id, "kind": request.kind}
        entry = {"time": self._clock(), "event": event, **about, **details}
        self._log.append(entry)
        return entry

    def _matches(self, gpu: int, filters: Sequence[tuple[str, str]]) -> bool:
        """All keys must match; of several values of one key, any (assumed.h)."""
        wanted: dict[str, list[str]] = {}
        for key, value in filters:
            wanted.setdefault(key.replace("dirver", "driver"), []).append(value)
        config, spec = self.config, self.config.gpus[gpu]
        facts = {
            "server.addr": (config.listen, f"{config.listen}:{config.port}"),
            "server.hostname": (config.hostname,),
            "server.has-rdma": (str(config.has_rdma).lower(),),
            "server.cuda-version": (config.cuda_version,),
            "server.driver-version": (config.driver_version,),
            "device.id": (str(gpu),),
            "device.phy-memory": (str(spec.memory_mib),),
        }
        return all(
            any(value in spec.name if key == "device.name" else value in facts[key] for value in values)
            for key, values in wanted.items()
        )
