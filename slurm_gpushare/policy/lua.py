"""Running etc/slurm/gpushare.lua under Lua 5.1, as slurmctld does."""

import os
import sys

from lupa.lua51 import LuaError, LuaRuntime, lua_type

from slurm_gpushare.errors import BrokenInstallation, PolicyError
from slurm_gpushare.grant import decode_grant
from slurm_gpushare.paths import PREFIX
from slurm_gpushare.request import GRANTED, Decision, Request


def shipped_etc() -> str:
    """Return the folder ``etc`` that came with this package: of the source tree, or of the installation.

    Raises
    ------
    BrokenInstallation
        There is none.
    """
    places = [
        os.path.join(os.path.dirname(__file__), "..", "..", "etc"),
        os.path.join(sys.prefix, "share", "gpushare", "etc"),
        os.path.join(PREFIX, "share", "gpushare", "etc"),
    ]
    for place in places:
        if os.path.isfile(os.path.join(place, "slurm", "gpushare.lua")):
            return os.path.realpath(place)
    raise BrokenInstallation(f"slurm/gpushare.lua is not in {' or '.join(places[1:])}: install slurm-gpushare again")


class Gpushare:
    """gpushare.lua, with its parts beside it, and one compiled policy.

    Text goes in and out as bytes, so that any user's string can be tried.
    """

    def __init__(self, policy_lua: str, lua_file: str | None = None) -> None:
        """Load the code at ``lua_file`` (default: the shipped one) with the compiled policy ``policy_lua``.

        Raises
        ------
        PolicyError
            The compiled policy is not a Lua table.
        BrokenInstallation
            gpushare.lua cannot be loaded.
        """
        lua_file = lua_file or os.path.join(shipped_etc(), "slurm", "gpushare.lua")
        self.runtime = LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
        try:
            with open(lua_file, "rb") as stream:
                self.module = self.runtime.execute(stream.read(), name=b"@" + os.fsencode(lua_file))
        except (OSError, LuaError) as error:
            raise BrokenInstallation(f"{lua_file}: {error}: install slurm-gpushare again") from None
        try:
            self.policy = self.runtime.execute(policy_lua.encode("utf-8", "surrogateescape"))
        except LuaError as error:
            raise PolicyError(f"the compiled policy is not Lua: {error}") from None
        if lua_type(self.policy) != "table":
            raise PolicyError("the compiled policy is not a table")

    def decide(self, request: Request, default_partition: str | None = None) -> Decision:
        """Decide on ``request`` as slurmctld would; ``default_partition`` is the cluster's.

        Raises
        ------
        PolicyError
            The code has a fault; slurmctld refuses the job in that case.
        ValueError
            The number of nodes is not one.
        """
        parts = {} if default_partition is None else {default_partition: {"flag_default": 1}}
        try:
            read = self.module[b"read_request"](self.to_lua(request.job_desc()), self.to_lua(parts))
            read[b"client"] = True  # these words are as a client with cli_filter sends them
            return as_decision(from_lua(self.module[b"decide"](self.policy, read)))
        except LuaError as error:
            raise PolicyError(f"gpushare.lua has a fault: {error}") from None

    def open_datasets(self, request: Request, default_partition: str | None = None) -> list[str]:
        """Return the names of the datasets that the request's user may use; raises PolicyError as ``decide``."""
        parts = {} if default_partition is None else {default_partition: {"flag_default": 1}}
        try:
            read = self.module[b"read_request"](self.to_lua(request.job_desc()), self.to_lua(parts))
            return list(from_lua(self.module[b"open_datasets"](self.policy, read)).values())
        except LuaError as error:
            raise PolicyError(f"gpushare.lua has a fault: {error}") from None

    def to_lua(self, value: object) -> object:
        """Return ``value`` (None, number, text, list, dict) as Lua has it; dicts and lists become tables."""
        if isinstance(value, str):
            return value.encode("utf-8", "surrogateescape")
        if isinstance(value, dict):
            return self.runtime.table_from({self.to_lua(key): self.to_lua(item) for key, item in value.items()})
        if isinstance(value, (list, tuple)):
            return self.runtime.table_from([self.to_lua(item) for item in value])
        return value


def from_lua(value: object) -> object:
    """Return a Lua value as Python has it: tables as dicts, text decoded with surrogateescape, whole numbers as int."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if lua_type(value) == "table":
        return {from_lua(key): from_lua(item) for key, item in value.items()}
    return value


def as_decision(data: dict) -> Decision:
    """Return what ``decide`` gave as a Decision; the grant is read from the text that Slurm would keep."""
    fields = data.get("set") or {}
    grant = decode_grant(fields["extra"]) if data["outcome"] == GRANTED else None
    return Decision(data["outcome"], grant, fields, data.get("message"), data["rule"], data.get("observed"))
