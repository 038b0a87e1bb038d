"""Every setting of the policy, once: its type, default, unit and meaning."""

import posixpath
import re
from decimal import Decimal
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from slurm_gpushare.units import parse_memory

# Names that also stand in Slurm's own lists, where : , | = have meanings.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("a name begins with a letter or digit and has only letters, digits, _, . and -")
    return text


def _path(text: str) -> str:
    if not text.startswith("/") or ".." in text.split("/") or re.search(r"[\x00-\x1f\x7f:,]", text):
        raise ValueError("write an absolute path without .., colon, comma or control characters")
    return posixpath.normpath(text.replace("//", "/"))


def _target(text: str) -> str:
    if (path := _path(text)) == "/":
        raise ValueError("write a folder below /")
    return path


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]", host) or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("write HOST:PORT")
    return text


def _service_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or re.search(r"\s", text):
        raise ValueError("write http://HOST:PORT")
    return text.rstrip("/")


def _database_url(text: str) -> str:
    if "://" not in text:
        raise ValueError("write a database URL, such as sqlite:////var/lib/gpushare/usage.sqlite")
    if urlsplit(text).password is not None:
        raise ValueError(
            "everybody may read this file: keep the password in a file of the database's client "
            "(MariaDB: ?read_default_file=/root/.my.cnf, PostgreSQL: ~/.pgpass)"
        )
    return text


Name = Annotated[str, AfterValidator(_name)]
AbsolutePath = Annotated[str, AfterValidator(_path)]
Memory = Annotated[int, BeforeValidator(parse_memory)]


# Settings in bytes that people write with a unit.
AMOUNT_OF_MEMORY = ("gpu_memory",)


class Settings(BaseModel):
    """Base of all sections: types are taken as they are written, unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _setting(meaning: str, default: object = ..., unit: str | None = None, **limits: object) -> Field:
    return Field(default, description=meaning, json_schema_extra={"unit": unit} if unit else None, **limits)


class Server(Settings):
    """One server of the pool."""

    address: Annotated[str, AfterValidator(_address)] = _setting("where its Bitfusion service listens, HOST:PORT")
    gpus: int = _setting("its GPUs", ge=1, le=1024)
    gpu_memory: Memory | None = _setting(
        "memory of each of its GPUs; null where it is not known", None, "with its unit"
    )


class Bitfusion(Settings):
    """GPUs of a pool, reached over the network; Slurm's licences place them."""

    servers: list[Server] = _setting("the servers of the pool", min_length=1)
    licence: Name = _setting(
        "Slurm's licence; its count in slurm.conf is slices_per_gpu for each GPU of the pool", "bitfusion"
    )
    gres: Name = _setting("the count-only gres of the client nodes that carries the same slices", "bitfusion")
    command: AbsolutePath = _setting("the client's program on the nodes", "/usr/bin/bitfusion")


class Shard(Settings):
    """GPUs of the nodes, shared by Slurm's gres/shard."""

    gpu_memory: Memory | None = _setting("memory of each GPU; null where they differ", None, "with its unit")


class Backends(Settings):
    """The ways of sharing that this cluster has."""

    bitfusion: Bitfusion | None = _setting("GPUs of a pool, reached over the network", None)
    shard: Shard | None = _setting("GPUs of the nodes, shared by gres/shard", None)


class Containers(Settings):
    """What containers jobs may run in."""

    runtime: Literal["auto", "apptainer", "singularity"] = _setting(
        "which runtime; auto takes the first of the two", "auto"
    )
    images: list[AbsolutePath] = _setting("folders below which images may lie; none: no containers", [])
    mounts: list[AbsolutePath] = _setting("folders below which users may mount folders of the host", [])
    pid_namespace: bool = _setting("give each container its own process numbers, so that no process outlives it", True)


class Dataset(Settings):
    """A folder that users ask for by name."""

    path: AbsolutePath = _setting("the folder on the nodes")
    target: Annotated[str, AfterValidator(_target)] = _setting("where it is seen in the container")
    mode: Literal["ro", "rw"] = _setting("ro: read-only; rw: writable where the user may write to it", "ro")


class Agent(Settings):
    """The agent that measures on each node."""

    interval: float = _setting("time between two samples", 1.0, "seconds", ge=0.1, le=60)
    service: Annotated[str, AfterValidator(_service_url)] | None = _setting(
        "URL of `gpushare serve`; null: records stay in the node's spool", None
    )


class Service(Settings):
    """`gpushare serve` on the accounting host."""

    listen: Annotated[str, AfterValidator(_address)] = _setting("address and port to listen on", "0.0.0.0:6827")
    database: Annotated[str, AfterValidator(_database_url)] = _setting(
        "URL of the store: SQLite, MariaDB or PostgreSQL", "sqlite:////var/lib/gpushare/usage.sqlite"
    )


class Policy(Settings):
    """The whole file."""

    slices_per_gpu: int = _setting(
        "into how many slices a GPU is divided; shares are rounded up to it", 100, ge=1, le=10000
    )
    minimum_fraction: float | None = _setting("the smallest share; null: one slice", None, "of a GPU", gt=0, le=1)
    partitions: dict[Name, str] = _setting("which partition shares GPUs by which backend", {})
    backends: Backends = _setting("the ways of sharing that this cluster has", Backends())
    containers: Containers = _setting("what containers jobs may run in", Containers())
    datasets: dict[Name, Dataset] = _setting("folders that users ask for by --dataset=NAME", {})
    agent: Agent = _setting("the agent on each node", Agent())
    service: Service = _setting("`gpushare serve`", Service())

    @property
    def minimum_slices(self) -> int:
        """Return the smallest share in slices, at least 1."""
        if self.minimum_fraction is None:
            return 1
        return max(1, -int(-(Decimal(str(self.minimum_fraction)) * self.slices_per_gpu) // 1))


def conflicts(data: object) -> list[tuple[tuple, str]]:
    """Return what is wrong between settings, as (place, remedy); ``data`` is the YAML as read, valid or not."""
    found = []
    if not isinstance(data, dict):
        return found
    backends = data.get("backends") if isinstance(data.get("backends"), dict) else {}
    partitions = data.get("partitions") if isinstance(data.get("partitions"), dict) else {}
    for name, backend in partitions.items():
        if backend not in backends:
            known = ", ".join(sorted(map(str, backends))) or "none"
            found.append((("partitions", name), f"no such backend in this file: write one of its backends ({known})"))
    pool = backends.get("bitfusion")
    if isinstance(pool, dict) and pool.get("gres") in ("gpu", "shard", "mps"):
        found.append(
            (("backends", "bitfusion", "gres"), "Slurm's own gres of that name is another thing: write bitfusion")
        )
    least, slices = data.get("minimum_fraction"), data.get("slices_per_gpu", 100)
    numbers = isinstance(least, (int, float)) and isinstance(slices, int) and 0 < least <= 1 and slices >= 1
    if numbers and (Decimal(str(least)) * slices) % 1:
        found.append((("minimum_fraction",), f"is no multiple of 1/{slices}: write one, or change slices_per_gpu"))
    return found
