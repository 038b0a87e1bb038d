"""Protocol 2: one server at a time, and the commands of the interactive shell."""

import asyncio
import os
from collections.abc import Callable, Sequence

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.mps.assumed import CONNECTION_FAILED, FIRST_CAPABILITY_WITH_STATIC_PARTITIONS
from slurm_gpushare.lab.standins.mps.daemon import Daemon, Refused
from slurm_gpushare.lab.standins.mps.limits import format_size, parse_percentage, parse_size
from slurm_gpushare.lab.standins.mps.partitions import Partition, Partitions
from slurm_gpushare.lab.standins.mps.servers import Server

PRIORITIES = ("0", "1")


class Legacy(Daemon):
    """The daemon under protocol 2."""

    def __init__(self, pipe: str, log: str, multiuser: bool, static: bool = False) -> None:
        """Read the GPUs, and the limits in the environment. Raises LabError."""
        super().__init__(pipe, log, multiuser, static)
        self.priority = os.environ.get("CUDA_MPS_CLIENT_PRIORITY", "0")
        if self.priority not in PRIORITIES:
            raise LabError(f"CUDA_MPS_CLIENT_PRIORITY={self.priority!r}: it must be 0 or 1")
        self.commands: dict[str, tuple[int, int, Callable]] = {
            # name: fewest and most words after it
            "get_server_list": (0, 0, self.get_server_list),
            "get_server_status": (1, 1, self.get_server_status),
            "start_server": (2, 2, self.start_server_command),
            "shutdown_server": (1, 2, self.shutdown_server),
            "get_client_list": (1, 1, self.get_client_list),
            "get_device_client_list": (0, 1, self.get_device_client_list),
            "set_default_active_thread_percentage": (1, 1, self.set_default_percentage),
            "get_default_active_thread_percentage": (0, 0, lambda: percentage(self.defaults.threads)),
            "set_active_thread_percentage": (2, 2, self.set_percentage),
            "get_active_thread_percentage": (1, 1, lambda pid: percentage(self.limits(pid).threads)),
            "set_default_device_pinned_mem_limit": (2, 2, self.set_default_memory),
            "get_default_device_pinned_mem_limit": (1, 1, lambda device: memory(self.defaults.memory, device)),
            "set_device_pinned_mem_limit": (3, 3, self.set_memory),
            "get_device_pinned_mem_limit": (2, 2, lambda pid, device: memory(self.limits(pid).memory, device)),
            "terminate_client": (2, 2, self.terminate_client),
            "ps": (0, 2, self.ps),
            "set_default_client_priority": (0, 1, self.set_priority),
            "get_default_client_priority": (0, 0, lambda: f"{self.priority}\n"),
            "device_query": (0, 2, self.device_query),
            "sm_partition": (3, 3, self.sm_partition),
            "lspart": (0, 0, lambda: self.static().table(self.partitions_in_use())),
            "quit": (0, 2, self.quit_command),
        }

    async def command(self, words: Sequence[str]) -> str:
        """Do one line of the shell. Raises LabError."""
        name, *arguments = words
        if name not in self.commands:
            raise LabError(f"Unknown command {name!r}: known are {', '.join(self.commands)}")
        fewest, most, act = self.commands[name]
        if not fewest <= len(arguments) <= most:
            raise LabError(f"{name}: wrong number of arguments: {len(arguments)}")
        output = act(*arguments)
        return await output if asyncio.iscoroutine(output) else output

    async def server_for(self, uid: int) -> Server:
        """Return the one server, when it is this user's: behind another user's clients a client waits."""
        owner = 0 if self.multiuser else uid
        async with self.changed:
            await self.changed.wait_for(lambda: not any(s.clients for s in self.running.values() if s.uid != owner))
        return await self._one_server(owner)

    async def _one_server(self, owner: int) -> Server:
        for server in list(self.running.values()):
            if server.uid == owner:
                return server
            self.log(f"Requesting server {server.pid} of user {server.uid} to exit")
            await server.end()
            self.running.pop(server.pid, None)
        if self.quitting:
            raise Refused(CONNECTION_FAILED, "the daemon ends")
        return await self.start_server("", owner, self.devices)

    def limits(self, pid: str):
        """Return the limits of the server of that process id. Raises LabError."""
        return self.server(pid).namespaces["default"]

    # Servers and clients

    def get_server_list(self) -> str:
        return "".join(f"{pid}\n" for pid in self.running)

    async def get_server_status(self, pid: str) -> str:
        return f"{await self.server(pid).status()}\n"

    async def start_server_command(self, option: str, uid: str) -> str:
        if option != "-uid" or not uid.isdecimal():
            raise LabError(f"start_server: {option} {uid}: -uid and a user id must follow")
        if self.multiuser and int(uid) != 0:
            raise LabError(f"start_server: user {uid}: the server of -multiuser-server is root's, 0")
        busy = [server for server in self.running.values() if server.uid != int(uid) and server.clients]
        if busy:
            raise LabError(f"start_server: server {busy[0].pid} of user {busy[0].uid} has clients")
        async with self.turn:
            await self._one_server(int(uid))
        return ""

    async def shutdown_server(self, pid: str, force: str = "") -> str:
        if force not in ("", "-f"):
            raise LabError(f"shutdown_server: {force!r}: only -f may follow the process id")
        server = self.server(pid)
        if not force:
            async with self.changed:
                await self.changed.wait_for(lambda: not server.clients)
        await server.end()
        self.running.pop(server.pid, None)
        return ""

    def get_client_list(self, pid: str) -> str:
        return "".join(f"{client}\n" for client in self.server(pid).clients)

    def get_device_client_list(self, pid: str = "") -> str:
        servers = [self.server(pid)] if pid else list(self.running.values())
        lines = []
        for device in self.devices:
            clients = [c.pid for server in servers for c in server.clients.values() if device in c.devices]
            lines += [f"Device: {device}\n", *(f"{client}\n" for client in clients)]
        return "".join(lines)

    async def terminate_client(self, server_pid: str, pid: str) -> str:
        server = self.server(server_pid)
        if not pid.isdecimal() or int(pid) not in server.clients:
            raise LabError(f"Client {pid} not found on server {server_pid}")
        await server.ask(f"mps-terminate {pid}")
        return "0\n"

    def ps(self, option: str = "", pid: str = "") -> str:
        if option not in ("", "-p") or bool(option) != bool(pid):
            raise LabError(f"ps: {option} {pid}: only -p with a server's process id may follow")
        rows = [("PID", "ID", "SERVER", "DEVICE", "NAMESPACE", "COMMAND")]
        for server in [self.server(pid)] if pid else list(self.running.values()):
            for client in server.clients.values():
                for device in client.devices:
                    row = client.pid, client.id, server.pid, device[:22], client.pid_namespace, client.command
                    rows.append(tuple(map(str, row)))
        return "".join(f"{p:<8} {i:<4} {s:<8} {d:<22} {n:<12} {c}\n" for p, i, s, d, n, c in rows)

    # Limits

    def set_default_percentage(self, share: str) -> str:
        self.defaults.threads = parse_percentage(share)
        return percentage(self.defaults.threads)

    def set_percentage(self, pid: str, share: str) -> str:
        limits = self.limits(pid)
        limits.threads = parse_percentage(share)
        return percentage(limits.threads)

    def set_default_memory(self, device: str, size: str) -> str:
        self.defaults.set_memory(device, parse_size(size, "MG"))
        return ""

    def set_memory(self, pid: str, device: str, size: str) -> str:
        self.limits(pid).set_memory(device, parse_size(size, "MG"))
        return ""

    def set_priority(self, priority: str = "0") -> str:
        if priority not in PRIORITIES:
            raise LabError(f"set_default_client_priority: {priority!r}: it must be 0 or 1")
        self.priority = priority
        return ""

    # Static partitions

    def static(self) -> Partitions:
        """Return the partitions. Raises LabError where there are none."""
        if self.partitions is None:
            raise LabError("static partitioning is not enabled: the daemon was started without -S")
        return self.partitions

    def partitions_in_use(self) -> set[Partition]:
        """Return the partitions that have clients."""
        clients = [client for server in self.running.values() for client in server.clients.values()]
        return {client.partition for client in clients if client.partition}

    def sm_partition(self, verb: str, device: str, amount: str) -> str:
        partitions, used = self.static(), self.partitions_in_use()
        if verb == "add":
            old = [card for card in self.cards if float(card["capability"]) < FIRST_CAPABILITY_WITH_STATIC_PARTITIONS]
            if any(card["uuid"].startswith(device) for card in old):
                raise LabError(f"sm_partition: {device} is older than Ampere")
            if any(partition.device.startswith(device) for partition in used):
                raise LabError(f"sm_partition: {device} has clients")
            return f"Partition {partitions.add(device, amount).name} created\n"
        if verb == "rm":
            partition = partitions.find(f"{device}/{amount}")
            if partition in used:
                raise LabError(f"sm_partition: {partition.name} has clients")
            partitions.remove(partition)
            return ""
        raise LabError(f"sm_partition: {verb!r}: it must be add or rm")

    # The rest

    def device_query(self, *words: str) -> str:
        csv = "--csv" in words
        pids = [word for word in words if word != "--csv"]
        devices = self.server(pids[0]).devices if pids else self.devices
        rows = [("Device Ordinal", "Device UUID", "Name")]
        for ordinal, device in enumerate(devices):
            card = next(card for card in self.cards if card["uuid"] == device)
            rows.append((str(ordinal), device, card["name"]))
        return "".join((",".join(row) if csv else "  ".join(row)) + "\n" for row in rows)

    async def quit_command(self, option: str = "", seconds: str = "") -> str:
        if option not in ("", "-t") or bool(option) != seconds.isdecimal():
            raise LabError(f"quit: {option} {seconds}: only -t with seconds may follow")
        await self.quit(float(seconds) if option else None)
        return ""


def percentage(share: float | None) -> str:
    """Return a percentage as the shell prints it; not set is 100."""
    return f"{100.0 if share is None else share:.1f}\n"


def memory(limits: dict[str, int], device: str) -> str:
    """Return the limit of exactly that name as the shell prints it."""
    return f"{format_size(limits[device])}\n" if device in limits else "\n"
