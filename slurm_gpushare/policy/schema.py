"""Every setting of the policy, once: its type, default, unit and meaning."""

import posixpath
import re
from decimal import Decimal
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from slurm_gpushare.units import parse_memory

# Names that also stand in Slurm's own lists, where : , | = have meanings.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("a name begins with a letter or digit and has only letters, digits, _, . and -")
    return text


def _server_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,62}", text):
        raise ValueError("a server's name has only small letters (sacctmgr keeps no others), digits, _, . and -")
    return text


def _licence(text: str) -> str:
    for name in text.split("@", 1):
        _name(name)
    return text


def _rule_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,39}", text):
        raise ValueError("a rule's name has up to 40 letters, digits, blanks, _, . and -")
    return text


def _path(text: str) -> str:
    if not text.startswith("/") or ".." in text.split("/") or re.search(r"[\x00-\x1f\x7f:,]", text):
        raise ValueError("write an absolute path without .., colon, comma or control characters")
    return posixpath.normpath(text.replace("//", "/"))


def _image(text: str) -> str:
    """A folder, a pattern of folders, or a source such as ``docker://registry.example.org/group``."""
    scheme, mark, rest = text.partition("://")
    if not mark:
        return _path(text)
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) or not rest or ".." in rest.split("/"):
        raise ValueError("write an absolute path, or a source such as docker://registry.example.org/group")
    if re.search(r"[\x00-\x20\x7f,]", rest):
        raise ValueError("a source has no spaces, commas or control characters")
    return f"{scheme}://{posixpath.normpath(rest).lstrip('/')}"


def _runtime(text: str) -> str:
    if text.startswith("/"):
        return _path(text)
    if text not in ("auto", "apptainer", "singularity"):
        raise ValueError("write auto, apptainer, singularity, or the absolute path of one")
    return text


def _variable(text: str) -> str:
    if not text.isascii() or not text.isidentifier():
        raise ValueError("a variable's name has letters, digits and _")
    return text


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


def _off(value: object) -> object:
    return "off" if value is False else value  # which YAML reads where somebody writes off


Off = BeforeValidator(_off)
Name = Annotated[str, AfterValidator(_name)]
AbsolutePath = Annotated[str, AfterValidator(_path)]
Image = Annotated[str, AfterValidator(_image)]
Memory = Annotated[int, BeforeValidator(parse_memory)]
ServerName = Annotated[str, AfterValidator(_server_name)]
Names = Annotated[list[Name], Field(min_length=1)]

# Settings in bytes that people write with a unit.
AMOUNT_OF_MEMORY = ("gpu_memory", "host_memory_per_gpu")


class Settings(BaseModel):
    """Base of all sections: types are taken as they are written, unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


UNIT = "with its unit"  # of amounts of memory


def _setting(meaning: str, default: object = ..., unit: str | None = None, **limits: object) -> Field:
    return Field(default, description=meaning, json_schema_extra={"unit": unit} if unit else None, **limits)


class Server(Settings):
    """One server of the pool."""

    name: ServerName | None = _setting("how its licences call it: gpu0@NAME; null: the placement is flat", None)
    address: Annotated[str, AfterValidator(_address)] = _setting("where its Bitfusion service listens, HOST:PORT")
    gpus: int = _setting("its GPUs", ge=1, le=1024)
    gpu_memory: Memory | None = _setting("memory of each of its GPUs; null where it is not known", None, UNIT)


class Bitfusion(Settings):
    """GPUs of a pool, reached over the network; Slurm's licences place them."""

    servers: list[Server] = _setting("the servers of the pool", min_length=1)
    placement: Literal["flat", "pinned", "first_fit"] = _setting(
        "flat: one count of licences for the whole pool, the client finds a server; pinned: licences for each GPU, "
        "gpu0@NAME, of which job_submit chooses; first_fit: the same, of which Slurm chooses (from 25.05 on)",
        "flat",
    )
    licence: Annotated[str, AfterValidator(_licence)] = _setting(
        "Slurm's licence for a flat placement, NAME or NAME@SERVER; its count is slices_per_gpu for each GPU",
        "bitfusion",
    )
    gres: Name = _setting("the count-only gres of the client nodes that carries the same slices", "bitfusion")
    command: AbsolutePath = _setting("the client's program on the nodes", "/usr/bin/bitfusion")
    client: Literal["inside", "outside"] = _setting(
        "whether the client runs inside the container, or the container inside the client", "inside"
    )
    wait: float = _setting("how long a job waits for a pool that is full or away", 60.0, "seconds", ge=0, le=86400)
    on_failure: Literal["fail", "requeue"] = _setting(
        "what becomes of a batch job that got no GPUs within that time", "fail"
    )
    requeue_limit: int = _setting("how often such a job is requeued before it fails", 3, ge=1, le=100)
    requeue_delay: float = _setting(
        "how long it then stays in the queue; twice as long each time", 60.0, "seconds", ge=1, le=86400
    )


class LupineServer(Settings):
    """One server that runs lupine_driver_server."""

    name: ServerName = _setting("how its licences call it: gpu0@NAME")
    address: Annotated[str, AfterValidator(_address)] = _setting("where it listens, HOST:PORT (LUPINE_PORT, 14833)")
    gpus: int = _setting("its GPUs", ge=1, le=1024)
    gpu_memory: Memory | None = _setting("memory of each of its GPUs; null where it is not known", None, UNIT)


class Lupine(Settings):
    """GPUs of servers, reached over the network by LUPINE; Slurm's licences place them, nothing enforces a share."""

    servers: list[LupineServer] = _setting("the servers", min_length=1)
    placement: Literal["pinned", "first_fit"] = _setting(
        "pinned: job_submit chooses among the licences of each GPU, gpu0@NAME; first_fit: Slurm does (from 25.05 on)",
        "pinned",
    )
    gres: Name = _setting("the count-only gres of the client nodes that carries the same slices", "lupine")
    libraries: AbsolutePath = _setting("the folder on the nodes with its libcuda.so.1 and others", "/opt/lupine/lib")


class GpuType(Settings):
    """One of Slurm's GPU types."""

    gpu_memory: Memory | None = _setting("memory of each GPU of the type; null where it is not known", None, UNIT)
    feature: Name | None = _setting(
        "the feature (slurm.conf) of the nodes that have GPUs of this type and no other, by which Slurm places its "
        "shares; null where all shared GPUs are of it",
        None,
    )


class Shard(Settings):
    """GPUs of the nodes, shared by Slurm's gres/shard."""

    gpu_memory: Memory | None = _setting("memory of each GPU; null where they differ", None, UNIT)
    types: dict[Name, GpuType] = _setting("Slurm's types of these GPUs (gres.conf), by name", {})
    over_memory: Annotated[Literal["off", "warn", "kill"], Off] = _setting(
        "what the memory watcher does with a job that holds more memory of the GPU than its share", "warn"
    )


class Mps(Shard):
    """GPUs of the nodes, shared by gres/shard, with NVIDIA MPS on each."""

    users: Literal["one_per_node", "multiuser", "time_sliced"] = _setting(
        "one_per_node: Slurm gives a node to one user at a time; multiuser: one MPS server for all users, as root; "
        "time_sliced: each user has MPS of their own, and these take turns on the GPU",
        "one_per_node",
    )
    fraction: float | None = _setting(
        "the one share that may be asked for; on GPUs in compute mode EXCLUSIVE_PROCESS MPS then holds every program "
        "to it, whatever its variables; null: any share",
        None,
        "of a GPU",
        gt=0,
        lt=1,
    )


class Hami(Shard):
    """GPUs of the nodes, shared by gres/shard, with HAMi-core's library before every program."""

    library: AbsolutePath = _setting("HAMi-core's library on the nodes", "/usr/local/vgpu/libvgpu.so")


class Profile(Settings):
    """What one of Slurm's GPU types is: a part of a GPU that hardware or hypervisor made."""

    gpu: Name = _setting("the model of the GPU, as `gpushare policy profiles` lists them")
    profile: Name = _setting("the profile of that model, such as 1g.5gb")


class Mig(Settings):
    """Parts of GPUs that were made by MIG; each is a GPU of its own type to Slurm."""

    types: dict[Name, Profile] = _setting("Slurm's types of them (gres.conf), by name", min_length=1)


class Vgpu(Settings):
    """Nodes that are virtual machines with an NVIDIA vGPU, which is a GPU of its own type to Slurm."""

    types: dict[Name, Profile] = _setting("Slurm's types of them (gres.conf), by name", min_length=1)


class Backends(Settings):
    """The ways of sharing that this cluster has."""

    bitfusion: Bitfusion | None = _setting("GPUs of a pool, reached over the network", None)
    lupine: Lupine | None = _setting("GPUs of servers, reached over the network without any enforcement", None)
    shard: Shard | None = _setting("GPUs of the nodes, shared by gres/shard", None)
    mps: Mps | None = _setting("GPUs of the nodes, shared by gres/shard and NVIDIA MPS", None)
    hami: Hami | None = _setting("GPUs of the nodes, shared by gres/shard and HAMi-core", None)
    mig: Mig | None = _setting("parts of GPUs that MIG made", None)
    vgpu: Vgpu | None = _setting("NVIDIA vGPUs of nodes that are virtual machines", None)

    @property
    def pools(self) -> dict[str, Bitfusion | Lupine]:
        """Return the backends whose GPUs are those of servers, by name."""
        return {name: pool for name in POOLS if (pool := getattr(self, name)) is not None}

    @property
    def shared(self) -> dict[str, Shard]:
        """Return the backends that Slurm's gres/shard counts, by name."""
        return {name: section for name in SHARED if (section := getattr(self, name)) is not None}

    @property
    def divided(self) -> dict[str, Mig | Vgpu]:
        """Return the backends whose shares are GPUs of their own type to Slurm, by name."""
        return {name: section for name in DIVIDED if (section := getattr(self, name)) is not None}


SHARED = ("shard", "mps", "hami")
DIVIDED = ("mig", "vgpu")
# The sections of backends whose GPUs are those of servers.
POOLS = {
    name: kind
    for name, field in Backends.model_fields.items()
    if "servers" in (kind := get_args(field.annotation)[0]).model_fields
}


class ContainerDefaults(Settings):
    """What holds for a container where the job says nothing: neither by an option nor by a GPUSHARE_ variable."""

    scope: Literal["job", "tasks"] = _setting(
        "job: all runs in the container; tasks: the batch script stays outside, what srun starts runs in it", "job"
    )
    workdir: AbsolutePath | None = _setting(
        "the folder of the container in which commands start; null: the one that the task was started in", None
    )
    mount_home: bool = _setting("whether the user's home is seen in the container", True)
    env: list[Annotated[str, AfterValidator(_variable)]] = _setting(
        "variables of the job that the container has whatever its image sets, such as LD_LIBRARY_PATH", []
    )
    writable: bool = _setting("whether the image seems writable; what is written is gone at each task's end", False)


class Containers(Settings):
    """What containers jobs may run in."""

    runtime: Annotated[str, AfterValidator(_runtime)] = _setting(
        "apptainer, singularity (from 3.7 on), the absolute path of one, or auto: the first that is found",
        "auto",
    )
    images: list[Image] = _setting(
        "folders below which images may lie, with * and ? within a component, or sources such as docker://HOST/GROUP; "
        "none: no containers",
        [],
    )
    mounts: list[AbsolutePath] = _setting("folders below which users may mount folders of the host", [])
    owners: list[Name] | None = _setting(
        "users to whom images must belong, `self` for the job's own, in folders that they alone may change; null: "
        "they may belong to anybody",
        None,
    )
    writable: bool = _setting("whether --container-writable may be used", True)
    defaults: ContainerDefaults = _setting("what holds where the job says nothing", ContainerDefaults())
    required: bool = _setting("give GPUs, whole or shared, to jobs with --container-image alone", False)
    pid_namespace: bool = _setting(
        "give each container its own process numbers, so that no process outlives it; a program that signal N ended "
        "then ends with the status 128 + N",
        True,
    )


class Dataset(Settings):
    """A folder that users ask for by name."""

    path: AbsolutePath = _setting("the folder on the nodes")
    target: Annotated[str, AfterValidator(_target)] = _setting("where it is seen in the container")
    mount_point: AbsolutePath | None = _setting(
        "where a file system must be mounted on the node, else jobs with the dataset fail; null: it is not looked at",
        None,
    )
    mode: Literal["ro", "rw"] = _setting("ro: read-only; rw: writable where the user may write to it", "ro")
    groups: Names | None = _setting("whose members may use it, by the system's groups; null: everybody", None)


class Partition(Settings):
    """The backends of one of Slurm's partitions; ``NAME: shard`` is short for ``NAME: {default: shard}``."""

    default: str = _setting("the backend of a job that names none")
    allowed: list[str] = _setting("further backends that --gpu-backend=NAME may choose", [])

    @property
    def choices(self) -> list[str]:
        """Return all backends, the default first."""
        return list(dict.fromkeys([self.default, *self.allowed]))


class Limits(Settings):
    """What a rule may say otherwise than the file; a setting that it leaves out is the file's."""

    maximum_fraction: float | None = _setting(
        "the most that one job gets, all its nodes and GPUs together", None, "GPUs", gt=0
    )
    minimum_fraction: float | None = _setting("the smallest share", None, "of a GPU", gt=0, le=1)
    backends: list[str] | None = _setting("which backends may be used", None)
    whole_gpus: bool | None = _setting("whether whole GPUs are given in partitions that share GPUs", None)
    host_memory_per_gpu: Memory | None = _setting(
        "main memory of a job for each GPU, in proportion to its share, where it asks for none", None, UNIT
    )
    container_required: bool | None = _setting("give GPUs to jobs with --container-image alone", None)
    images: list[Image] | None = _setting("where images may lie, instead of containers.images", None)
    mounts: list[AbsolutePath] | None = _setting("what may be mounted, instead of containers.mounts", None)
    datasets: list[Name] | None = _setting("which of the datasets may be used", None)


class Rule(Limits):
    """What holds for some jobs. All criteria that are given must match; the first rule that matches wins."""

    name: Annotated[str, AfterValidator(_rule_name)] = _setting("how the grant and messages call the rule")
    accounts: Names | None = _setting("Slurm accounts", None)
    qos: Names | None = _setting("Slurm QOS", None)
    users: Names | None = _setting("users", None)
    groups: Names | None = _setting(
        "the system's groups, whose members are looked up at `gpushare policy compile`", None
    )
    partitions: Names | None = _setting("Slurm partitions", None)


class RunningLimit(Settings):
    """How many GPUs may be in use at one time. Slurm keeps it: `gpushare policy slurm-limits` prints what to tell it.

    Slurm counts shares of the nodes' GPUs, whole GPUs and shares of the pool apart: each may reach the limit by itself.
    Where a QOS limits all its users together, Slurm does not look at what the job's account or user may have in use.
    """

    qos: Names | None = _setting("the QOS that it holds for", None)
    accounts: Names | None = _setting("the accounts that it holds for", None)
    users: Names | None = _setting("the users that it holds for", None)
    per_user: float | None = _setting("the most that one user has in use", None, "GPUs", ge=0)
    together: float | None = _setting("the most that all users of a QOS or account have in use", None, "GPUs", ge=0)


class Agent(Settings):
    """The agent that measures on each node."""

    interval: float = _setting("time between two samples", 1.0, "seconds", ge=0.1, le=60)
    service: Annotated[str, AfterValidator(_service_url)] | None = _setting(
        "URL of `gpushare serve`; null: records stay in the node's spool", None
    )
    metrics: Annotated[str, AfterValidator(_address)] | None = _setting(
        "HOST:PORT where Prometheus finds /metrics ([metrics.md](metrics.md)), such as 0.0.0.0:6828; null: nowhere",
        None,
    )
    metrics_series: int = _setting(
        "the most series that one agent shows; beyond them the jobs that began last are left out",
        10_000,
        ge=500,
        le=1_000_000,
    )


class Exempt(Settings):
    """Jobs that are left alone, whether they use their share or not. All criteria that are given must match."""

    accounts: Names | None = _setting("Slurm accounts", None)
    qos: Names | None = _setting("Slurm QOS", None)
    users: Names | None = _setting("users", None)
    partitions: Names | None = _setting("Slurm partitions", None)


class Idle(Settings):
    """What `gpushare idle` does with jobs that hold a share and use none of it ([idle.md](idle.md))."""

    action: Annotated[Literal["off", "warn", "end", "requeue"], Off] = _setting(
        "warn: the owner is told; end: and the job is then cancelled; requeue: and goes back into the queue, where it "
        "may be requeued, or is cancelled",
        "off",
    )
    after: float = _setting("time without use after which the owner is told", 3600.0, "seconds", ge=10, le=30 * 86400)
    grace: float = _setting(
        "time from then until the job is ended or requeued, if it is not used", 900.0, "seconds", ge=0, le=30 * 86400
    )
    threshold: float = _setting("up to so much counts as no use, the mean of a minute", 0.005, "of a GPU", ge=0, lt=1)
    interactive_after: float | None = _setting(
        "instead of `after`, for jobs of salloc and srun; null: the same", None, "seconds", ge=10, le=30 * 86400
    )
    whole_gpus: bool = _setting("whether it holds for jobs with whole GPUs of the nodes too", False)
    requeue_limit: int = _setting("how often a job is started again before it is ended instead", 1, ge=1, le=100)
    exempt: list[Exempt] = _setting("jobs that are left alone", [])


def _priced_backend(text: str) -> str:
    if text not in (known := ("gpu", *Backends.model_fields)):
        raise ValueError(f"no backend is called so: write one of {', '.join(known)}")
    return text


class Rate(Settings):
    """What a GPU-hour costs. The first whose `backend`, `gpu` and `account`, as far as they are written, fit holds."""

    rate: float = _setting("of a GPU-hour that was reserved; a quarter of a GPU costs a quarter", ge=0, le=1e9)
    backend: Annotated[str, AfterValidator(_priced_backend)] | None = _setting(
        "how the GPU was shared; `gpu`: whole GPUs of the nodes", None
    )
    gpu: str | None = _setting("the GPU's model as reports call it, with * for any text: `*A100*`", None)
    account: Name | None = _setting("the Slurm account", None)


def _currency(text: str) -> str:
    if not re.fullmatch(r"[^\W\d_][\w -]{0,14}|[€£$¥]", text):
        raise ValueError("write the currency as EUR, or the unit as credits")
    return text


class Service(Settings):
    """`gpushare serve` on the accounting host."""

    listen: Annotated[str, AfterValidator(_address)] = _setting("address and port to listen on", "0.0.0.0:6827")
    database: Annotated[str, AfterValidator(_database_url)] = _setting(
        "URL of the store: SQLite, MariaDB or PostgreSQL", "sqlite:////var/lib/gpushare/usage.sqlite"
    )
    admin_comment: bool = _setting(
        "write what each ended job used into its AdminComment, in the form of jobstats, for the tools that read it",
        False,
    )
    series_days: int = _setting(
        "how long the course of each job's use is kept; its sums are kept for ever", 365, "days", ge=1, le=36500
    )
    slurm: Literal["auto", "sacct", "sacct_json", "pyslurm"] = _setting(
        "how Slurm is asked for the runs of jobs; `auto`: by pyslurm where it is installed beside gpushare and of "
        "Slurm's version, else by sacct",
        "auto",
    )
    privacy: Literal["own", "slurm"] = _setting(
        "whose runs a user sees: `own` alone, or those that `slurm`'s PrivateData does not hide; coordinators see "
        "those of their accounts, operators all",
        "own",
    )
    rates: list[Rate] = _setting(
        "prices for `gpushare report chargeback` ([reports.md](reports.md#chargeback)); the first that fits holds", []
    )
    currency: Annotated[str, AfterValidator(_currency)] = _setting(
        "of the rates: EUR, or a unit such as credits", "credits"
    )


class Enforce(Settings):
    """Where the policy is carried out while its mode is `observe`."""

    partitions: list[Name] = _setting("Slurm partitions; a job that names several needs one of them", [])
    accounts: list[Name] = _setting("Slurm accounts, in all partitions", [])


def _short_partition(value: object) -> object:
    return {"default": value} if isinstance(value, str) else value


class Policy(Settings):
    """The whole file."""

    mode: Annotated[Literal["enforce", "observe", "off"], Off] = _setting(
        "enforce: jobs become what this file says; observe: they go to Slurm as they are, and slurmctld's log has what "
        "would have become of them (`gpushare policy observed`); off: nothing is looked at. Jobs that have a share "
        "keep it ([install.md](install.md#6-look-on))",
        "enforce",
    )
    enforce: Enforce = _setting("where it is carried out already while the mode is `observe`", Enforce())
    operators: list[Name] = _setting(
        "users who are told at submission, too, what would have become of their job while the mode is `observe`", []
    )
    slices_per_gpu: int = _setting(
        "into how many slices a GPU is divided; shares are rounded up to it", 100, ge=1, le=10000
    )
    minimum_fraction: float | None = _setting("the smallest share; null: one slice", None, "of a GPU", gt=0, le=1)
    maximum_fraction: float | None = _setting(
        "the most that one job gets, all its nodes and GPUs together; null: no limit", None, "GPUs", gt=0
    )
    whole_gpus: bool = _setting("whether whole GPUs are given in partitions that share GPUs", True)
    host_memory_per_gpu: Memory | None = _setting(
        "main memory of a job for each GPU, in proportion to its share, where it asks for none; null: Slurm's default",
        None,
        UNIT,
    )
    framework_memory: bool = _setting(
        "set the variables by which TensorFlow and JAX take no more memory than the share, where the user has not", True
    )
    require_client: bool = _setting(
        "refuse jobs of Slurm clients without etc/slurm/cli_filter.lua, which would lose --gpus-per-task=0.25", False
    )
    partitions: dict[Name, Annotated[Partition, BeforeValidator(_short_partition)]] = _setting(
        "which partition shares GPUs by which backend; one that is not named shares none", {}
    )
    rules: list[Rule] = _setting("what holds for some jobs instead; the first rule that matches wins", [])
    running_limits: list[RunningLimit] = _setting("what may be in use at one time, kept by Slurm", [])
    backends: Backends = _setting("the ways of sharing that this cluster has", Backends())
    containers: Containers = _setting("what containers jobs may run in", Containers())
    datasets: dict[Name, Dataset] = _setting("folders that users ask for by --dataset=NAME", {})
    agent: Agent = _setting("the agent on each node", Agent())
    idle: Idle = _setting("what becomes of jobs that do not use their share", Idle())
    service: Service = _setting("`gpushare serve`", Service())

    @property
    def minimum_slices(self) -> int:
        """Return the smallest share in slices, at least 1."""
        return 1 if self.minimum_fraction is None else self.slices(self.minimum_fraction)

    def slices(self, fraction: float) -> int:
        """Return a fraction that is on the grid in slices, at least 1."""
        return max(1, int(Decimal(str(fraction)) * self.slices_per_gpu))
