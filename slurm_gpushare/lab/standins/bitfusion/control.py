"""The control port's lines. The original speaks HTTPS there; these lines are the stand-in's own.

A line is words separated by one space and ended by a newline, at most 8 KiB; words are percent-encoded. The first is
always the site's token: a wrong one is answered by ``unauthorized``. Whatever is not understood is answered by
``error REASON``. After both the connection is closed.

| request, after the token | answer |
|---|---|
| ``claim CLIENT`` | ``ok VERSION WAIT_SECONDS DISPATCHER_PORT DATA_PORT leader|member`` |
| ``gpus`` | per GPU ``gpu INDEX FREE_MIB TOTAL_MIB UTILISATION_PERCENT CAPABILITY NAME…``, then ``ok TASKS`` |
| ``request CLIENT REQUEST KIND N p FRACTION [KEY=VALUE…]`` | ``granted UUID SECRET MIB TOTAL_MIB GPU,…`` |
| | … or ``full`` (ask again), or ``never`` |
| ``attach CLIENT UUID SECRET`` | ``ok`` or ``gone`` |
| ``release CLIENT UUID SECRET`` | ``ok`` or ``gone`` |
| ``state`` | one line of JSON (``Pool.state``): for judges, no client sends it |

KIND is ``run`` or ``request_gpus``; ``m MIB`` may stand for ``p FRACTION``; KEY=VALUE are filters.
A connection that was granted a ``run``, or that has attached, is connected to the allocation until it is closed.
"""

import asyncio
import hmac
import json
import re
from fractions import Fraction
from urllib.parse import unquote

from slurm_gpushare.lab.standins.bitfusion.pool import Allocation, Pool, Request

MAX_LINE = 8192
REQUEST_SECONDS = 10
KINDS = ("run", "request_gpus")
FILTER_KEYS = frozenset(
    f"server.{key}" for key in ("addr", "hostname", "has-rdma", "cuda-version", "dirver-version", "driver-version")
) | {"device.id", "device.name", "device.phy-memory"}


class Malformed(Exception):
    """A line that is no request."""


def parse_request(words: list[str]) -> Request:
    """Return the request in the words after ``request``. Raises Malformed."""
    if len(words) < 6:
        raise Malformed("request needs CLIENT REQUEST KIND N p|m AMOUNT")
    client, request_id, kind, count, unit, amount, *filters = words
    if kind not in KINDS:
        raise Malformed(f"unknown kind {kind}")
    if not re.fullmatch(r"[1-9][0-9]{0,8}", count):
        raise Malformed(f"{count} GPUs")
    pairs = []
    for text in filters:
        key, equals, value = text.partition("=")
        if key not in FILTER_KEYS or not equals or not value:
            raise Malformed(f"unknown filter {text}")
        pairs.append((key, value))
    if unit == "m" and re.fullmatch(r"[1-9][0-9]{0,9}", amount):
        return Request(client, request_id, kind, int(count), mib=int(amount), filters=pairs)
    fraction = re.fullmatch(r"[0-9]{1,20}(\.[0-9]{1,20})?(e-[0-9]{1,3})?", amount)
    if unit == "p" and fraction and 0 < Fraction(amount) <= 1:
        return Request(client, request_id, kind, int(count), Fraction(amount), filters=pairs)
    raise Malformed(f"unknown amount {unit} {amount}")


class Connection:
    """One client's connection: what it is connected to."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.held: list[tuple[Allocation, bool]] = []

    def answer(self, line: str) -> str:
        """Return the answer to one line, without its last newline. Raises Malformed."""
        token, *words = (unquote(word) for word in line.split(" "))
        if not hmac.compare_digest(token.encode(), self.pool.config.token.encode()):
            return "unauthorized"
        self.pool.expire()
        match words:
            case ["claim", _client]:
                config = self.pool.config
                role = "leader" if config.leader else "member"
                return f"ok {config.version} {config.wait_seconds} {config.dispatcher_port} {config.data_port} {role}"
            case ["gpus"]:
                return self._gpus()
            case ["request", *rest]:
                return self._request(parse_request(rest))
            case ["attach", _client, allocation_id, secret]:
                allocation = self.pool.find(allocation_id, secret)
                if allocation:
                    self._hold(allocation, owner=False)
                return "ok" if allocation else "gone"
            case ["release", _client, allocation_id, secret]:
                allocation = self.pool.find(allocation_id, secret)
                if allocation:
                    self.pool.free(allocation, "release")
                return "ok" if allocation else "gone"
            case ["state"]:
                return json.dumps(self.pool.state(), separators=(",", ":"))
        raise Malformed(f"unknown request {' '.join(words[:1])!r} with {max(0, len(words) - 1)} words")

    def close(self) -> None:
        """End the connection's hold on its allocations."""
        held, self.held = self.held, []
        for allocation, owner in held:
            self.pool.disconnect(allocation, owner)

    def _hold(self, allocation: Allocation, owner: bool) -> None:
        self.pool.connect(allocation)
        self.held.append((allocation, owner))

    def _gpus(self) -> str:
        lines = []
        for gpu, spec in enumerate(self.pool.config.gpus):
            free, utilisation = self.pool.free_mib(gpu), self.pool.gpus.utilisation(gpu)[0]
            lines.append(f"gpu {gpu} {free} {spec.memory_mib} {utilisation} {spec.capability} {spec.name}")
        return "\n".join([*lines, f"ok {len(self.pool.allocations)}"])

    def _request(self, request: Request) -> str:
        try:
            allocation = self.pool.request(request)
        except ValueError:
            return "never"
        if allocation is None:
            return "full"
        if request.kind == "run":
            self._hold(allocation, owner=True)
        gpus = ",".join(map(str, allocation.gpus))
        return f"granted {allocation.uuid} {allocation.secret} {allocation.mib} {allocation.total_mib} {gpus}"


async def serve_control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pool: Pool) -> None:
    """Serve one client until it goes away. A connection that holds nothing must say something every ten seconds."""
    connection = Connection(pool)
    try:
        while True:
            async with asyncio.timeout(None if connection.held else REQUEST_SECONDS):
                line = await reader.readline()
            if not line.endswith(b"\n"):
                break
            try:
                answer = connection.answer(line[:-1].decode("utf-8", "replace"))
            except Malformed as error:
                answer = f"error {error}"
            writer.write(answer.encode() + b"\n")
            await writer.drain()
            if answer == "unauthorized" or answer.startswith("error "):
                break
    except (OSError, ValueError, TimeoutError):
        # The client vanished, was silent, or sent a line beyond the limit: nobody is left to answer.
        pass
    finally:
        connection.close()
        writer.close()
