"""What `bitfusion list_gpus` prints, strictly read. Pure.

The two lines of it are public, of version 4.0:

     - server 0 (leader)  [10.1.202.21:56001]: running 0 tasks
       |- GPU [0]: free memory (32510 / 32510MiB) Tesla V100S-PCIE-32GB (7.0)

The client's log may stand around them, since it is not known which of it goes to stdout.
"""

import re
from dataclasses import dataclass, replace

from slurm_gpushare.errors import BackendError

_SERVER = re.compile(
    r"\s*-\s+server\s+[0-9]+\s*(\(leader\))?\s*\[([^\]\s]+:[0-9]+)\]:\s+running\s+([0-9]+)\s+tasks?\s*"
)
_GPU = re.compile(
    r"\s*\|-\s+GPU\s+\[([0-9]+)\]:\s+free memory\s+\(([0-9]+)\s*/\s*([0-9]+)\s*MiB\)\s+(\S.*?)\s+\(([0-9.]+)\)\s*"
)
_LOG = re.compile(r"\[[A-Z]+\] .*|Error: .*|\s*")
_CONTACT = re.compile(r"Error contacting server ([^\s:\]]+:[0-9]+|\[[^\]]+\]:[0-9]+):?\s*(.*)")


@dataclass(frozen=True)
class ListedGpu:
    """One GPU of a server."""

    index: int
    free_mib: int
    total_mib: int
    name: str

    @property
    def used_mib(self) -> int:
        """Return how much of its memory is given away."""
        return self.total_mib - self.free_mib


@dataclass(frozen=True)
class ListedServer:
    """One server that answered."""

    address: str  # HOST:PORT
    leader: bool
    tasks: int
    gpus: tuple[ListedGpu, ...]


@dataclass(frozen=True)
class Listing:
    """All servers that answered, and what the client says of those that did not."""

    servers: tuple[ListedServer, ...]
    silent: dict[str, str]  # HOST:PORT → why


def parse_listing(text: str) -> Listing:
    """Read `bitfusion list_gpus`, with the client's log in it or without.

    Raises
    ------
    BackendError
        A line is none that this version knows, a server or GPU stands there twice, or a GPU has more free than it has.
    """
    servers: dict[str, ListedServer] = {}
    silent: dict[str, str] = {}
    address = None
    for line in text.splitlines():
        if match := _SERVER.fullmatch(line):
            address = match[2]
            if address in servers:
                raise _unreadable(line, "that server stands there twice")
            servers[address] = ListedServer(address, match[1] is not None, int(match[3]), ())
        elif match := _GPU.fullmatch(line):
            if address is None:
                raise _unreadable(line, "it stands below no server")
            gpu = ListedGpu(int(match[1]), int(match[2]), int(match[3]), match[4])
            server = servers[address]
            if any(gpu.index == other.index for other in server.gpus):
                raise _unreadable(line, "that GPU stands there twice")
            if gpu.free_mib > gpu.total_mib or not gpu.total_mib:
                raise _unreadable(line, "more is free than there is")
            servers[address] = replace(server, gpus=(*server.gpus, gpu))
        elif not _LOG.fullmatch(line):
            raise _unreadable(line, "it is no line that this version knows")
        elif match := _CONTACT.search(line):
            silent[match[1]] = match[2].rpartition(": ")[2] or "no answer"
    return Listing(tuple(servers.values()), {name: why for name, why in silent.items() if name not in servers})


def _unreadable(line: str, why: str) -> BackendError:
    return BackendError(f"bitfusion list_gpus printed {line.strip()[:120]!r}: {why}")
