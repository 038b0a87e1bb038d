"""The doors to the pool and to Slurm that `gpushare pool` looks through."""

import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from slurm_gpushare.errors import BackendError, BrokenInstallation
from slurm_gpushare.policy.schema import Bitfusion
from slurm_gpushare.pool.compare import Look, licence_names
from slurm_gpushare.pool.jobs import fetch_jobs
from slurm_gpushare.pool.listing import Listing, parse_listing
from slurm_gpushare.slurm.licences import fetch_licences

CONNECT_TIMEOUT = 2.0  # seconds for a server to accept a connection
CLIENT_TIMEOUT = 20.0  # seconds for the client, and so many more for each server that it may wait for
SERVER_TIMEOUT = 5.0

BACKEND = "bitfusion"


def take_look(pool: Bitfusion) -> Look:
    """Ask Slurm, the pool, and Slurm again.

    Raises
    ------
    SlurmError
        Slurm cannot be asked.
    BrokenInstallation, BackendError
        The client is not usable here, or prints what this version cannot read.
    """
    names = set(licence_names(pool))
    before = fetch_jobs(names, BACKEND)
    listing = ask_pool(pool)
    missing = [server.address for server in pool.servers if server.address not in _addresses(listing)]
    refused = refusing(missing)
    return Look(listing, refused, fetch_licences(), before, fetch_jobs(names, BACKEND))


def ask_pool(pool: Bitfusion) -> Listing:
    """Return what the client lists, a server's address written as in the policy; a pool that is away is an empty one.

    Raises
    ------
    BrokenInstallation
        The client cannot be executed.
    BackendError
        It hangs, or its output is not readable.
    """
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": os.path.expanduser("~")}
    limit = CLIENT_TIMEOUT + SERVER_TIMEOUT * len(pool.servers)
    try:
        done = subprocess.run(
            [pool.command, "list_gpus"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BackendError(f"{pool.command} list_gpus: no end within {limit:g} s") from None
    except OSError as error:
        raise BrokenInstallation(
            f"{pool.command}: {error.strerror}: run this where the pool's client is installed"
        ) from None
    listing = parse_listing(done.stdout.decode("utf-8", "replace"))
    known = {server.address for server in pool.servers}
    as_policy = {address: server for server in known for address in _resolve(server)}
    return Listing(
        tuple(
            server
            if server.address in known
            else replace(server, address=as_policy.get(server.address, server.address))
            for server in listing.servers
        ),
        {
            address if address in known else as_policy.get(address, address): why
            for address, why in listing.silent.items()
            if "nauthorized" not in why  # it answers: the token of this host is not valid
        },
    )


def _addresses(listing: Listing) -> set[str]:
    return {server.address for server in listing.servers}


def _resolve(address: str) -> list[str]:
    """Return the numeric addresses of HOST:PORT; none where the name is not known."""
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [f"[{place[0]}]:{port}" if ":" in place[0] else f"{place[0]}:{port}" for *_, place in found]


def refusing(addresses: list[str]) -> dict[str, str]:
    """Return those servers that accept no connection, each with the reason."""

    def attempt(address: str) -> str | None:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT).close()
        except OSError as error:
            return error.strerror or str(error)
        return None

    if not addresses:
        return {}
    with ThreadPoolExecutor(max_workers=min(32, len(addresses))) as threads:
        return {address: why for address, why in zip(addresses, threads.map(attempt, addresses), strict=True) if why}
