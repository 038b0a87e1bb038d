"""The configuration of one server: a JSON file."""

import ipaddress
import json
import re
from dataclasses import MISSING, dataclass, fields
from typing import Any

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.bitfusion import assumed
from slurm_gpushare.lab.standins.gpu.spec import GpuSpec, parse_specs

ON_DISCONNECT = ("free", "hold")


@dataclass(frozen=True)
class ServerConfig:
    """One server. Ports and ``auto_release_timeout`` (10 minutes) have the documented defaults; times are seconds.

    ``on_disconnect`` says what becomes of the allocation of a `run` that went away without releasing it.
    ``nvml`` is the socket on which the host's own NVML sees the whole cards and everybody on them; None: it has none.
    The last four are what the client's filters of the same names are compared with; None matches no filter.
    """

    listen: str
    token: str
    gpus: list[GpuSpec]
    port: int = 56001
    dispatcher_port: int = 55001
    data_port: int = 45201
    version: str = "4.0.1-7a9ad936"
    leader: bool = True
    on_disconnect: str = assumed.ON_DISCONNECT
    auto_release_timeout: float = 600
    wait_seconds: int = assumed.WAIT_SECONDS
    nvml: str | None = None
    hostname: str | None = None
    has_rdma: bool = False
    cuda_version: str | None = None
    driver_version: str | None = None


def parse_config(document: Any) -> ServerConfig:
    """Check a configuration; a GPU without ``minor`` gets its place in the list. Raises LabError on what is wrong."""
    if not isinstance(document, dict):
        raise LabError(f"the configuration is {document!r}: it must be an object")
    known = {field.name: field for field in fields(ServerConfig)}
    needed = {name for name, field in known.items() if field.default is MISSING}
    if unknown := sorted(set(document) - set(known)):
        raise LabError(f"unknown key {unknown[0]!r}: it must be one of {', '.join(known)}")
    if missing := sorted(needed - set(document)):
        raise LabError(f"the key {missing[0]!r} is missing")
    values = dict(document)
    if not isinstance(values["gpus"], list) or not all(isinstance(gpu, dict) for gpu in values["gpus"]):
        raise LabError("gpus must be a list of objects")
    values["gpus"] = parse_specs({"gpus": [{"minor": place} | gpu for place, gpu in enumerate(values["gpus"])]})
    for name in ("port", "dispatcher_port", "data_port"):
        port = values.get(name, known[name].default)
        if type(port) is not int or not 1 <= port <= 65535:
            raise LabError(f"{name} is {port!r}: it must be 1 to 65535")
    for name in ("leader", "has_rdma"):
        if type(values.get(name, False)) is not bool:
            raise LabError(f"{name} is {values[name]!r}: it must be true or false")
    for name in ("nvml", "hostname", "cuda_version", "driver_version"):
        if not isinstance(values.get(name), str | None):
            raise LabError(f"{name} is {values[name]!r}: it must be text")
    for name, most in (("version", 63), ("token", 255)):
        text = values.get(name, known[name].default)
        if not isinstance(text, str) or not re.fullmatch(f"[!-~]{{1,{most}}}", text):
            raise LabError(f"{name} is {text!r}: it must be 1 to {most} printable ASCII characters without blanks")
    try:
        if not isinstance(values["listen"], str):
            raise ValueError
        ipaddress.IPv4Address(values["listen"])
    except ValueError:
        raise LabError(f"listen is {values['listen']!r}: it must be an IPv4 address") from None
    if values.get("on_disconnect", assumed.ON_DISCONNECT) not in ON_DISCONNECT:
        raise LabError(f"on_disconnect is {values['on_disconnect']!r}: it must be one of {', '.join(ON_DISCONNECT)}")
    for name, types in (("auto_release_timeout", (int, float)), ("wait_seconds", (int,))):
        seconds = values.get(name, known[name].default)
        if type(seconds) not in types or not 0 <= seconds <= 10**6:
            raise LabError(f"{name} is {seconds!r}: it must be seconds, 0 to 1000000")
    return ServerConfig(**values)


def load_config(path: str) -> ServerConfig:
    """Read a configuration file. Raises LabError, which names the file."""
    try:
        with open(path, encoding="utf-8") as file:
            return parse_config(json.load(file))
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise LabError(f"{path} is not JSON: {error}") from None
    except LabError as error:
        raise LabError(f"{path}: {error}") from None
