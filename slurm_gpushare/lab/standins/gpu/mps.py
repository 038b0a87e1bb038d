"""What the driver knows of MPS: which processes are servers, of which GPUs, and which processes are whose clients.

A control daemon (``lab/standins/mps``) decides who becomes a client and with which limits; here they hold.
"""

from dataclasses import dataclass, field

from slurm_gpushare.errors import LabError

# nvidia-smi shows 26 to 30 MiB of a server, on each of its GPUs.
SERVER_BYTES = 30 << 20
MAX_CLIENTS_BEFORE_VOLTA, MAX_CLIENTS, MAX_CLIENTS_FROM_R590 = 16, 48, 60


class TooManyClients(LabError):
    """A server takes no client more."""


@dataclass(eq=False)
class Client:
    """One process under MPS: its share of the SMs (percent), and the most bytes that it may have of a GPU."""

    server: "Server"
    pid: int
    threads: float
    limits: dict[int, int]


@dataclass(eq=False)
class Server:
    """One server of the GPUs with these indexes. ``faulted`` are the clients that a fatal fault has met."""

    pid: int
    gpus: tuple[int, ...]
    clients: dict[int, Client] = field(default_factory=dict)
    faulted: set[Client] = field(default_factory=set)

    @property
    def state(self) -> str:
        """Return ACTIVE, or FAULT until every client that a fault met has left."""
        return "FAULT" if self.faulted else "ACTIVE"


class Table:
    """The servers of a machine and their clients, by process."""

    def __init__(self) -> None:
        self.servers: dict[int, Server] = {}

    def add(self, pid: int, gpus: tuple[int, ...]) -> Server:
        """Make process ``pid`` a server. Raises LabError."""
        if pid in self.servers or self.client(pid):
            raise LabError(f"process {pid} is an MPS server or client already")
        self.servers[pid] = Server(pid, gpus)
        return self.servers[pid]

    def client(self, pid: int) -> Client | None:
        """Return the client that process ``pid`` is, None where it computes without MPS."""
        return next((server.clients[pid] for server in self.servers.values() if pid in server.clients), None)

    def join(self, server: Server, pid: int, threads: float, limits: dict[int, int], most: int) -> None:
        """Make ``pid`` one of at most ``most`` clients. Raises LabError."""
        if self.client(pid) or pid in self.servers:
            raise LabError(f"process {pid} is an MPS server or client already")
        if server.faulted:
            raise LabError(f"server {server.pid} is in FAULT")
        if len(server.clients) >= most:
            raise TooManyClients(f"server {server.pid} has {most} clients already")
        server.clients[pid] = Client(server, pid, threads, limits)

    def leave(self, pid: int) -> None:
        """Forget the client ``pid``; nothing where there is none."""
        client = self.client(pid)
        if client:
            del client.server.clients[pid]
            client.server.faulted.discard(client)
