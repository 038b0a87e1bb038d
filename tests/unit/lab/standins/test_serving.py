"""What the stand-in servers share: their end takes their clients with it, and sockets are bound over dead ones."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.serving import EndsWithProcess, Serving, bind, peer


def test_a_signal_ends_servers_clients_and_tasks(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    ended = []

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%d %d\n" % peer(writer))
        try:
            await reader.read()
        finally:
            ended.append("client")
            writer.close()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("task")

    async def run() -> None:
        async with Serving() as serving:
            serving.add(await asyncio.start_unix_server(serving.client(client), sock=bind(path)))
            serving.task(work())
            reader, writer = await asyncio.open_unix_connection(path)
            assert await reader.readline() == b"%d %d\n" % (os.getpid(), os.geteuid())
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(serving.stopped.wait(), 20)
        assert await reader.read() == b""
        writer.close()

    asyncio.run(run())
    assert sorted(ended) == ["client", "task"]


def test_a_socket_is_bound_over_one_that_nobody_serves_and_no_other(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    bind(path).close()
    with bind(path, 0o600):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with pytest.raises(LabError, match="served already"):
            bind(path)
    with pytest.raises(LabError, match="too long"):
        bind(str(tmp_path / ("x" * 120)))


def test_the_end_of_a_process_closes_its_connection_though_a_child_has_it(tmp_path: Path) -> None:
    async def run() -> None:
        ours, theirs = socket.socketpair()
        script = "import subprocess; subprocess.Popen(['sleep', '30'], close_fds=False)"
        reader, writer = await asyncio.open_connection(sock=ours)
        process = subprocess.Popen([sys.executable, "-c", script], pass_fds=[theirs.fileno()])
        theirs.close()
        with EndsWithProcess(writer, process.pid):
            # Aborted, not closed by the other side: the child still has that.
            assert await asyncio.wait_for(reader.read(), 20) == b""
        process.wait()

    asyncio.run(run())
