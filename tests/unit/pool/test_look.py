"""The client and the servers, asked as `gpushare pool` does, with a program and sockets that stand for them."""

import socket
from pathlib import Path

import pytest

from slurm_gpushare.errors import BackendError, BrokenInstallation
from slurm_gpushare.policy.schema import Bitfusion, Server
from slurm_gpushare.pool.look import ask_pool, refusing


def client(folder: Path, text: str, *addresses: str) -> Bitfusion:
    """Return a pool of servers at ``addresses``, whose client prints ``text``."""
    program = folder / "bitfusion"
    program.write_text(f"#!/bin/sh\n[ \"$*\" = list_gpus ] || exit 9\ncat <<'END'\n{text}\nEND\n")
    program.chmod(0o755)
    servers = [Server(address=address, gpus=1) for address in addresses]
    return Bitfusion(servers=servers, command=str(program))


def test_a_server_is_called_as_in_the_policy(tmp_path: Path) -> None:
    text = " - server 0 [127.0.0.1:56001]: running 0 tasks\n - server 1 [10.0.0.9:56001]: running 0 tasks"
    listing = ask_pool(client(tmp_path, text, "localhost:56001"))
    assert [server.address for server in listing.servers] == ["localhost:56001", "10.0.0.9:56001"]


def test_who_refuses_the_token_of_this_host_is_not_away(tmp_path: Path) -> None:
    text = "[WARN] x Error contacting server 127.0.0.1:56001: 401 Unauthorized"
    assert ask_pool(client(tmp_path, text, "127.0.0.1:56001")).silent == {}
    text = "[WARN] x Error contacting server 127.0.0.1:56001: i/o timeout\nError: none of the servers responded"
    assert ask_pool(client(tmp_path, text, "localhost:56001")).silent == {"localhost:56001": "i/o timeout"}


def test_no_client_or_one_that_says_what_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(BrokenInstallation, match=r"run this where the pool's client is installed"):
        ask_pool(Bitfusion(servers=[Server(address="a:1", gpus=1)], command=str(tmp_path / "none")))
    with pytest.raises(BackendError, match="printed 'segmentation fault'"):
        ask_pool(client(tmp_path, "segmentation fault", "a:1"))


def test_servers_that_accept_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        closed = f"127.0.0.1:{other.getsockname()[1]}"
        other.close()
        there = f"127.0.0.1:{server.getsockname()[1]}"
        assert refusing([there, closed]) == {closed: "Connection refused"}
    assert refusing([]) == {}
