"""The socket on which the epilog says that a job has ended."""

import os
import selectors
import socket
import struct
import time
from collections.abc import Callable

_LONGEST_REQUEST = 64  # bytes of one line
_REQUEST_SECONDS = 5.0  # a connection that says nothing for so long is closed


class EndSocket:
    """One line `end JOBID` in, one line `ok` or `error: …` out. For root alone."""

    def __init__(self, path: str, selector: selectors.BaseSelector, end: Callable[[int], None]):
        self._selector = selector
        self._end = end
        self._open: dict[socket.socket, tuple[float, bytes]] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        mask = os.umask(0o177)
        try:
            self._socket.bind(path)
        finally:
            os.umask(mask)
        self._socket.listen(64)
        selector.register(self._socket, selectors.EVENT_READ, self._accept)

    def sweep(self) -> None:
        """Close connections that say nothing."""
        for connection, (since, _) in list(self._open.items()):
            if time.monotonic() - since > _REQUEST_SECONDS:
                self._close(connection)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        connection.setblocking(False)
        uid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if uid not in (0, os.geteuid()):
            connection.close()
            return
        self._open[connection] = (time.monotonic(), b"")
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(connection))

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(_LONGEST_REQUEST + 1)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        since, text = self._open[connection]
        text += data
        if data and b"\n" not in text and len(text) <= _LONGEST_REQUEST:
            self._open[connection] = (since, text)
            return
        if text:
            try:
                connection.send(self._answer(text.partition(b"\n")[0]))
            except OSError:
                pass  # the epilog waits no longer than a second; what it asked for is done all the same
        self._close(connection)

    def _answer(self, line: bytes) -> bytes:
        word, _, number = line.partition(b" ")
        if word != b"end" or not number.isdigit():
            return b"error: write: end JOBID\n"
        try:
            self._end(int(number))
        except OSError as error:
            return f"error: {error}\n".encode()
        return b"ok\n"

    def _close(self, connection: socket.socket) -> None:
        self._open.pop(connection)
        self._selector.unregister(connection)
        connection.close()
