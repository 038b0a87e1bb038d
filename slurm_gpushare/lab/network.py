"""A network that exists inside the lab alone: a veth pair with both ends in the lab's own network namespace.

Slurm needs an address that is not loopback: with ``lo`` alone getaddrinfo (AI_ADDRCONFIG) finds no name at all.
"""

import subprocess
from collections.abc import Iterable

from slurm_gpushare.lab.params import ADDRESS

COMMANDS = (
    ("link", "set", "lo", "up"),
    ("link", "add", "lab0", "type", "veth", "peer", "name", "lab1"),
    ("address", "add", f"{ADDRESS}/24", "dev", "lab0"),
    ("link", "set", "lab0", "up"),
    ("link", "set", "lab1", "up"),
)


def make_network(further: Iterable[str] = ()) -> None:
    """Set up the network of the caller's network namespace, with ``further`` addresses; raises CalledProcessError."""
    for command in (*COMMANDS, *(("address", "add", f"{address}/24", "dev", "lab0") for address in further)):
        subprocess.run(["ip", *command], check=True)
