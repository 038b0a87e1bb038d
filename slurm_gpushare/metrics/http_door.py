"""The door of the agent that Prometheus comes to: answers GET /metrics, and nothing else, to whoever reaches it.

What is shown is what the agent knows at that moment. Its own loop takes the copy, woken for it; where the loop does not
answer, neither does this: nothing old is said again. The jobs' records never depend on any of it.
"""

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable

from slurm_gpushare.metrics.exposition import CONTENT_TYPE, page
from slurm_gpushare.metrics.figures import Figures

_AT_ONCE = 2  # threads, each with one connection
_LONGEST = 5.0  # seconds of one connection's question, of the loop's answer, and of sending it
_LARGEST = 8192  # bytes of a question
_AGAIN = 30.0  # seconds until an address that cannot be had is tried again
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class HttpDoor:
    """Shows ``measure()`` at ``address`` (HOST:PORT)."""

    def __init__(
        self,
        address: str,
        selector: selectors.BaseSelector,
        measure: Callable[[], Figures],
        most: int,
        unsent: Callable[[], int | None] = lambda: None,
        say: Callable[[str], None] = lambda line: None,
    ):
        self.port: int | None = None  # once it listens
        self._address = address
        self._measure = measure
        self._most = most
        self._unsent = unsent
        self._say = say
        self._told_dropped = False
        self._lock = threading.Lock()
        self._asking: list[_Question] = []
        self._stop = threading.Event()
        self._listener: socket.socket | None = None
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        selector.register(self._woken, selectors.EVENT_READ, self.answer)
        self._thread = threading.Thread(target=self._open, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin to listen; an address that cannot be had is told once and tried again."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more; what is under way is left."""
        self._stop.set()
        listener, self._listener = self._listener, None
        if listener is not None:
            try:
                listener.shutdown(socket.SHUT_RDWR)  # ends what waits in accept
            except OSError:
                pass
            listener.close()

    def answer(self) -> None:
        """Give a copy of all to those who wait for one; the loop calls it."""
        try:
            self._woken.recv(4096)
        except BlockingIOError:
            pass
        with self._lock:
            asking, self._asking = self._asking, []
        if asking:
            try:
                figures = self._measure()
            except Exception as error:  # a fault in here must not end what the jobs' records come from
                self._say(f"/metrics: {type(error).__name__} {error}")
                figures = None
            for question in asking:
                question.figures = figures
                question.answered.set()

    def _open(self) -> None:
        told = False
        while not self._stop.is_set():
            try:
                self._listener = _listen(self._address)
            except OSError as error:
                if not told:
                    self._say(f"/metrics: cannot listen on {self._address}: {error.strerror or error}; trying again")
                    told = True
                self._stop.wait(_AGAIN)
                continue
            self.port = self._listener.getsockname()[1]
            self._say(f"/metrics on {self._address}")
            for _ in range(_AT_ONCE - 1):
                threading.Thread(target=self._serve, args=(self._listener,), name="metrics", daemon=True).start()
            self._serve(self._listener)
            return

    def _serve(self, listener: socket.socket) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                # Out of file descriptors, or a connection that went at once.
                self._stop.wait(0.1)
                continue
            with connection:
                try:
                    self._talk(connection)
                except OSError:
                    pass  # went away, or was too slow

    def _talk(self, connection: socket.socket) -> None:
        head = _read_head(connection, time.monotonic() + _LONGEST)
        if head is None:
            return
        status, kind, text = self._respond(head)
        body = text.encode("utf-8", "replace")
        lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close"]
        if status.startswith("405"):
            lines.append("Allow: GET, HEAD")
        start = "\r\n".join([*lines, "", ""]).encode()
        # sendall takes its time limit for all of it.
        connection.settimeout(_LONGEST)
        connection.sendall(start if head.startswith(b"HEAD ") else start + body)
        _take_leave(connection)

    def _respond(self, head: bytes) -> tuple[str, str, str]:
        plain = "text/plain; charset=utf-8"
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return "400 Bad Request", plain, "This is HTTP: GET /metrics.\n"
        if words[1].partition(b"?")[0] != b"/metrics":
            return "404 Not Found", plain, "What the agent measures is at /metrics.\n"
        if words[0] not in (b"GET", b"HEAD"):
            return "405 Method Not Allowed", plain, "Only GET and HEAD.\n"
        figures = self._ask()
        if figures is None:
            return "503 Service Unavailable", plain, f"The agent did not answer in {_LONGEST:g} s.\n"
        text, dropped = page(figures, self._most, _own() | {"gpushare_agent_unsent_bytes": self._unsent()})
        if bool(dropped) != self._told_dropped:
            self._told_dropped = bool(dropped)
            more = f"{dropped} series are left out: agent.metrics_series is {self._most}"
            self._say(f"/metrics: {more}" if dropped else "/metrics: all series are shown again")
        return "200 OK", CONTENT_TYPE, text

    def _ask(self) -> Figures | None:
        question = _Question()
        with self._lock:
            self._asking.append(question)
        try:
            self._wake.send(b"?")
        except BlockingIOError:
            pass  # it has been woken often enough
        question.answered.wait(_LONGEST)
        return question.figures


class _Question:
    def __init__(self) -> None:
        self.answered = threading.Event()
        self.figures: Figures | None = None


def _listen(address: str) -> socket.socket:
    """Return a socket that listens at ``address``; raises OSError."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family, kind, _, _, where = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, kind)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(16)
    except OSError:
        listener.close()
        raise
    return listener


def _read_head(connection: socket.socket, until: float) -> bytes | None:
    """Return the question up to its empty line; None where it does not come or is too large."""
    head = b""
    while b"\r\n\r\n" not in head:
        connection.settimeout(max(0.001, until - time.monotonic()))
        more = connection.recv(4096)
        head += more
        if not more or len(head) > _LARGEST:
            return None
    return head


def _take_leave(connection: socket.socket) -> None:
    """End the connection so that the answer arrives also where not all of the question was read."""
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(1.0)
    connection.recv(4096)


def _own() -> dict[str, float | None]:
    """Return what the agent takes itself."""
    times = os.times()
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:
            resident = int(stream.read().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        resident = None
    return {"process_cpu_seconds_total": times.user + times.system, "process_resident_memory_bytes": resident}
