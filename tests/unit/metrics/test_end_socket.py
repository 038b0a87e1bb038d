import os
import selectors
import socket
import stat

import pytest

from slurm_gpushare.metrics import end_socket
from slurm_gpushare.metrics.end_socket import EndSocket


class Server:
    def __init__(self, path):
        self.path = path
        self.ended = []
        self.failure = None
        self.selector = selectors.DefaultSelector()
        self.door = EndSocket(path, self.selector, self.end)

    def end(self, job_id):
        if self.failure:
            raise self.failure
        self.ended.append(job_id)

    def serve(self, seconds=0.05):
        while events := self.selector.select(seconds):
            for key, _ in events:
                key.data()

    def ask(self, *pieces):
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.path)
        for piece in pieces:
            client.sendall(piece)
            self.serve()
        client.settimeout(5)
        try:
            return client.recv(100)
        finally:
            client.close()


@pytest.fixture
def server(tmp_path):
    return Server(str(tmp_path / "agent.sock"))


def test_end_is_answered_when_it_is_done(server):
    assert server.ask(b"end 12\n") == b"ok\n"
    assert server.ask(b"en", b"d 1", b"3\n") == b"ok\n"
    assert server.ended == [12, 13]


@pytest.mark.parametrize("text", [b"end\n", b"end x\n", b"end -1\n", b"stop 1\n", b"\n", b"x" * 200, b"end 1 2\n"])
def test_anything_else_is_an_error_and_ends_nothing(server, text):
    assert server.ask(text).startswith(b"error: ")
    assert server.ended == []


def test_a_spool_that_fails_is_told(server):
    server.failure = OSError(28, "No space left on device")
    assert b"No space left" in server.ask(b"end 12\n")


def test_only_root_can_open_it_and_an_old_socket_is_replaced(server):
    assert stat.S_IMODE(os.stat(server.path).st_mode) == 0o600
    again = Server(server.path)
    assert again.ask(b"end 1\n") == b"ok\n" and again.ended == [1]


def test_a_silent_connection_is_closed_and_one_that_left_stops_nobody(server, monkeypatch):
    silent = socket.socket(socket.AF_UNIX)
    silent.connect(server.path)
    gone = socket.socket(socket.AF_UNIX)
    gone.connect(server.path)
    gone.sendall(b"end 1\n")
    gone.close()
    server.serve()
    assert server.ended == [1]
    server.door.sweep()
    monkeypatch.setattr(end_socket, "_REQUEST_SECONDS", -1.0)
    server.door.sweep()
    silent.settimeout(5)
    assert silent.recv(10) == b""
    assert server.ask(b"end 2\n") == b"ok\n"
