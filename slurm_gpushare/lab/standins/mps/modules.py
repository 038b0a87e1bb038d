"""Protocol 3: named servers side by side, and commands of the form ``module verb``."""

import asyncio
import re
import shutil
from collections.abc import Callable, Sequence

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.mps.assumed import CONNECTION_FAILED
from slurm_gpushare.lab.standins.mps.daemon import Daemon, Refused
from slurm_gpushare.lab.standins.mps.limits import (
    EVERY_DEVICE,
    Limits,
    find_device,
    format_size,
    parse_percentage,
    parse_size,
)
from slurm_gpushare.lab.standins.mps.servers import Server

SERVER_COLUMNS = ("name", "uid", "pid", "status", "pipe-directory", "allowed-devices", "context-ids")
CLIENT_COLUMNS = ("pid", "server", "device", "namespace", "cmd")
NAMESPACE_COLUMNS = (
    *("name", "server", "server-status", "pinned-memory-limit", "active-thread-percentage", "client-priority"),
    "pipe-directory",
)
FORMATS = ("table", "csv", "table,noheader", "csv,noheader")


class Modules(Daemon):
    """The daemon under protocol 3."""

    OVERRIDES = TAKES_ARGUMENTS = True

    def __init__(self, pipe: str, log: str, multiuser: bool) -> None:
        """Read the GPUs, and the limits in the environment. Raises LabError."""
        super().__init__(pipe, log, multiuser)
        self._listening: dict[str, dict[str, asyncio.Server]] = {}  # by server and folder below its own
        self._doors: dict[str, Callable] = {}  # who becomes a client of each server
        # (module, verb): names of the positional words (in brackets: may be missing), options, what to do
        self.commands: dict[tuple[str, str], tuple[tuple[str, ...], tuple[str, ...], Callable]] = {
            ("server", "create"): (("[name]",), ("uid", "allowed-devices"), self.server_create),
            ("server", "delete"): (("name",), ("force",), self.server_delete),
            ("server", "list"): (("[name]",), ("format",), self.server_list),
            ("server", "set"): (("name",), ("pinned-memory-limit", "active-thread-percentage"), self.server_set),
            ("server", "get"): (("name", "field"), (), self.server_get),
            ("namespace", "create"): (("name",), ("server",), self.namespace_create),
            ("namespace", "delete"): (("name",), ("server", "force"), self.namespace_delete),
            ("namespace", "list"): (("[name]",), ("server", "format"), self.namespace_list),
            ("namespace", "set"): (
                *(("name",), ("server", "pinned-memory-limit", "active-thread-percentage")),
                self.namespace_set,
            ),
            ("namespace", "get"): (("name", "server", "field"), (), self.namespace_get),
            ("client", "list"): ((), ("server", "all", "format"), self.client_list),
            ("client", "get"): (("pid", "field"), (), self.client_get),
            ("client", "terminate"): (("pid",), (), self.client_terminate),
        }

    async def command(self, words: Sequence[str]) -> str:
        """Do one command. Raises LabError."""
        if list(words) == ["quit"]:
            await self.quit(0)
            return ""
        module, verb, *arguments = [*words, ""][:2] + list(words[2:])
        if (module, verb) not in self.commands:
            known = ", ".join(" ".join(names) for names in self.commands)
            raise LabError(f"{' '.join(words)!r} is no command: known are {known}")
        positions, options, act = self.commands[module, verb]
        given: dict[str, str] = {}
        positional = []
        for argument in arguments:
            name, equals, value = argument.partition("=")
            if not argument.startswith("--") and not equals:
                positional.append(argument)
                continue
            name = name.removeprefix("--")
            if name not in options or name in given or (name in ("force", "all")) == bool(equals):
                raise LabError(f"{module} {verb}: {argument} is no option of it, or doubled, or its value is wrong")
            given[name] = value
        fewest = sum(not name.startswith("[") for name in positions)
        if not fewest <= len(positional) <= len(positions):
            raise LabError(f"{module} {verb}: takes {' '.join(positions) or 'no words'}, not {positional}")
        output = act(*positional, **{name.replace("-", "_"): value for name, value in given.items()})
        return await output if asyncio.iscoroutine(output) else output

    async def server_for(self, uid: int) -> Server:
        """Return the server of this user's, made when it is not there."""
        owner = 0 if self.multiuser else uid
        return self._find(f"uid_{owner}") or await self._create(f"uid_{owner}", owner, self.devices)

    # Servers

    def _find(self, name: str) -> Server | None:
        return next((server for server in self.running.values() if server.name == name), None)

    def _named(self, name: str) -> Server:
        server = self._find(name)
        if server is None:
            raise LabError(f"server {name!r} does not exist")
        return server

    async def _create(self, name: str, uid: int, devices: Sequence[str]) -> Server:
        server = await self.start_server(name, uid, devices)

        async def this_server(client: int) -> Server:
            if client != uid and not self.multiuser:
                raise Refused(CONNECTION_FAILED, f"server {name} is of user {uid}, not {client}")
            if self._find(name) is not server:
                raise Refused(CONNECTION_FAILED, f"server {name} has ended")
            return server

        self._doors[name] = this_server
        self._listening[name] = {}
        for part in ("", "default"):
            await self._open(name, part)
        return server

    async def _open(self, name: str, part: str) -> None:
        """Let clients in by a socket in a folder of the server's: `part` is its namespace, or "" for the server."""
        folder = self.pipe / name / part
        folder.mkdir(parents=True, exist_ok=True)
        self._listening[name][part] = await self.listen(folder, self._doors[name], part or "default")

    def _ended(self, server: Server) -> None:
        super()._ended(server)
        self._doors.pop(server.name, None)
        for listening in self._listening.pop(server.name, {}).values():
            listening.close()
        shutil.rmtree(self.pipe / server.name, ignore_errors=True)

    async def server_create(self, name: str = "", uid: str = "", allowed_devices: str = "") -> str:
        if not name and not uid:
            raise LabError("server create: a name or --uid must be given")
        if uid and not uid.isdecimal():
            raise LabError(f"server create: --uid={uid}: it must be a number")
        owner = int(uid or 0)  # commands come from root alone, or from the daemon's own user
        if self.multiuser and owner != 0:
            raise LabError(f"server create: --uid={uid}: in multiuser mode only 0 is allowed")
        name = name or f"uid_{owner}"
        check_name("server create", name)
        devices = []
        for word in allowed_devices.split(",") if allowed_devices else ():
            found = find_device(word, self.devices)
            if not found:
                raise LabError(f"server create: {word!r} is no device of this daemon")
            devices += found
        async with self.turn:
            if self._find(name):
                raise LabError(f"server {name!r} exists already")
            await self._create(name, owner, devices or self.devices)
        return ""

    async def server_delete(self, name: str, force: str | None = None) -> str:
        server = self._named(name)
        if server.clients and force is None:
            raise LabError(f"server {name!r} has active clients: --force terminates them")
        await server.end()
        if server.watcher:
            await server.watcher
        return ""

    def server_set(self, name: str, pinned_memory_limit: str = "", active_thread_percentage: str = "") -> str:
        set_limits("server set", self._named(name).namespaces["default"], pinned_memory_limit, active_thread_percentage)
        return ""

    async def _server_row(self, server: Server) -> dict[str, str]:
        status = "Ready" if await server.status() == "ACTIVE" else "Fault"
        folder, devices = str(self.pipe / server.name), ";".join(server.devices)
        values = server.name, server.uid, server.pid, status, folder, devices, "-"
        return dict(zip(SERVER_COLUMNS, map(str, values), strict=True))

    async def server_list(self, name: str = "", format: str = "table") -> str:
        servers = [self._named(name)] if name else list(self.running.values())
        return table(SERVER_COLUMNS, [await self._server_row(server) for server in servers], format)

    async def server_get(self, name: str, field: str) -> str:
        return value(await self._server_row(self._named(name)), field, SERVER_COLUMNS[:-1])

    # Namespaces

    def _in(self, server: str, name: str) -> tuple[Server, Limits]:
        found = self._named(server)
        if name not in found.namespaces:
            raise LabError(f"namespace {name!r} does not exist on server {server!r}")
        return found, found.namespaces[name]

    async def namespace_create(self, name: str, server: str = "") -> str:
        check_name("namespace create", name)
        found = self._named(server)
        if name in found.namespaces:
            raise LabError(f"namespace {name!r} exists already on server {server!r}")
        found.namespaces[name] = Limits()
        await self._open(server, name)
        return ""

    async def namespace_delete(self, name: str, server: str = "", force: str | None = None) -> str:
        found, _ = self._in(server, name)
        if name == "default":
            raise LabError(f"namespace 'default' is server {server!r} itself")
        clients = [client.pid for client in found.clients.values() if client.namespace == name]
        if clients and force is None:
            raise LabError(f"namespace {name!r} has active clients: --force terminates them")
        for pid in clients:
            await found.ask(f"mps-terminate {pid}")
        del found.namespaces[name]
        self._listening[server].pop(name).close()
        shutil.rmtree(self.pipe / server / name, ignore_errors=True)
        return ""

    def namespace_set(
        self, name: str, server: str = "", pinned_memory_limit: str = "", active_thread_percentage: str = ""
    ) -> str:
        set_limits("namespace set", self._in(server, name)[1], pinned_memory_limit, active_thread_percentage)
        return ""

    async def _namespace_row(self, server: Server, name: str) -> dict[str, str]:
        limits = server.namespaces[name]
        memory = format_size(limits.memory[EVERY_DEVICE]) if EVERY_DEVICE in limits.memory else "-"
        threads = "-" if limits.threads is None else f"{limits.threads:g}"
        status = (await self._server_row(server))["status"]
        values = name, server.name, status, memory, threads, "0", str(self.pipe / server.name / name)
        return dict(zip(NAMESPACE_COLUMNS, values, strict=True))

    async def namespace_list(self, name: str = "", server: str = "", format: str = "table") -> str:
        servers = [self._named(server)] if server else list(self.running.values())
        found = [(one, part) for one in servers for part in one.namespaces if name in ("", part)]
        return table(NAMESPACE_COLUMNS, [await self._namespace_row(one, part) for one, part in found], format)

    async def namespace_get(self, name: str, server: str, field: str) -> str:
        return value(await self._namespace_row(self._in(server, name)[0], name), field, NAMESPACE_COLUMNS)

    # Clients

    def _client_rows(self, servers: Sequence[Server]) -> list[dict[str, str]]:
        rows = []
        for server in servers:
            for client in server.clients.values():
                for device in client.devices:
                    values = client.pid, server.name, self.devices.index(device), client.namespace, client.command
                    rows.append(dict(zip(CLIENT_COLUMNS, map(str, values), strict=True)))
        return rows

    def client_list(self, server: str = "", all: str | None = None, format: str = "table") -> str:
        if server and all is not None:
            raise LabError("client list: --server and --all do not go together")
        servers = [self._named(server)] if server else list(self.running.values())
        return table(CLIENT_COLUMNS, self._client_rows(servers), format)

    def _client(self, pid: str) -> tuple[Server, dict[str, str]]:
        for server in self.running.values():
            for row in self._client_rows([server]):
                if row["pid"] == pid:
                    return server, row
        raise LabError(f"client {pid} does not exist")

    def client_get(self, pid: str, field: str) -> str:
        return value(self._client(pid)[1], field, ("pid", "server", "device", "cmd"))

    async def client_terminate(self, pid: str) -> str:
        server, _ = self._client(pid)
        await server.ask(f"mps-terminate {pid}")
        return ""


def check_name(command: str, name: str) -> None:
    """Raise LabError unless that may be the name of a server or a namespace."""
    if not re.fullmatch(r"[a-z0-9_]{1,64}", name):
        raise LabError(f"{command}: {name!r}: lowercase letters, digits and underscores only, at most 64")


def set_limits(command: str, limits: Limits, memory: str, percentage: str) -> None:
    """Set those of a namespace's limits that are not empty. Raises LabError, and then sets none."""
    if not memory and not percentage:
        raise LabError(f"{command}: at least one option is required")
    size = parse_size(memory, "KMG") if memory else None
    threads = parse_percentage(percentage) if percentage else None
    if threads is not None and threads < 1:
        raise LabError(f"{command}: {percentage}: it must be 1 to 100")
    if size is not None:
        limits.set_memory(EVERY_DEVICE, size)
    limits.threads = limits.threads if threads is None else threads


def table(columns: Sequence[str], rows: Sequence[dict[str, str]], format: str) -> str:
    """Return rows as a table with aligned columns, or as CSV. Raises LabError."""
    if format not in FORMATS:
        raise LabError(f"--format={format}: it must be one of {', '.join(FORMATS)}")
    kind, _, noheader = format.partition(",")
    lines = [] if noheader else [[name.upper() if kind == "table" else name for name in columns]]
    lines += [[row[name] for name in columns] for row in rows]
    if kind == "csv":
        return "".join(",".join(line) + "\n" for line in lines)
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))] if lines else []
    return "".join("  ".join(map(str.ljust, line, widths)).rstrip() + "\n" for line in lines)


def value(row: dict[str, str], field: str, fields: Sequence[str]) -> str:
    """Return one unformatted field. Raises LabError."""
    if field not in fields:
        raise LabError(f"{field!r} is no field: it must be one of {', '.join(fields)}")
    return f"{row[field]}\n"
