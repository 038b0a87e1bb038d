"""What a node knows of the policy: /etc/gpushare/node.json, written by `gpushare policy compile`.

Prolog, launcher, epilog and agent read it. Standard library only, and neither dataclasses nor json: the launcher
imports this file for every task, and each costs it 10 ms.
"""

import os

from slurm_gpushare import quickjson
from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.paths import NODE_POLICY
from slurm_gpushare.record import Record

VERSION = 1


class ContainerPolicy(Record):
    """What containers may be. Paths are absolute prefixes, to be compared by component with real paths."""

    runtime: str  # auto | apptainer | singularity | absolute path
    images: tuple[str, ...]
    mounts: tuple[str, ...]
    pid_namespace: bool
    owners: tuple[str, ...] | None = None  # whose images may be run, "self" for the job's user; None: anybody's
    writable: bool = True  # whether --container-writable may be used
    # What holds where the user says nothing.
    scope: str = "job"  # job | tasks
    workdir: str = ""  # "": the folder of the task
    mount_home: bool = True
    env: tuple[str, ...] = ()
    seems_writable: bool = False


class Dataset(Record):
    """A folder that users name instead of its path."""

    path: str
    target: str
    mode: str  # ro | rw
    mount_point: str | None = None  # where a file system must be mounted


class BackendPolicy(Record):
    """What a node must know of one backend; None is what does not apply or is not known."""

    gpu_memory: int | None = None  # bytes of each GPU
    command: str | None = None  # absolute path of the pool's client
    licence: str | None = None
    gres: str | None = None  # the count-only gres that carries a pool's slices
    placement: str = "flat"  # flat | pinned | first_fit
    servers: dict = {}  # noqa: RUF012 (never changed); HOST:PORT of each server by its name
    client: str = "inside"  # the pool's client inside or outside of the container
    wait: float = 0.0  # seconds that a job waits for a pool that is full or away
    requeue_limit: int = 0  # how often a batch job that got nothing is requeued
    requeue_delay: float = 0.0  # seconds, twice as long each time
    libraries: str | None = None  # the folder of the libraries that a client without a program is
    library: str | None = None  # the library that goes before every program
    users: str = "one_per_node"  # one_per_node | multiuser | time_sliced: how MPS serves several users
    fraction: float | None = None  # the one share that this backend gives
    over_memory: str = "off"  # off | warn | kill: what becomes of a job that holds more memory than its share
    types: dict = {}  # noqa: RUF012 (never changed); Slurm's GPU type -> {"fraction": of a GPU, "memory": bytes or None}


class IdlePolicy(Record):
    """What becomes of jobs that hold their share without use. Times are seconds."""

    action: str  # warn | end | requeue
    after: float  # without use, until the owner is told ...
    grace: float  # ... and from then until the job is ended or requeued
    threshold: float  # of a GPU: up to so much counts as no use
    interactive_after: float | None  # instead of after, for jobs of salloc and srun
    whole_gpus: bool  # it holds for jobs with whole GPUs of nodes too
    requeue_limit: int  # a job that was started again so often is ended instead
    exempt: tuple[dict, ...]  # {accounts|qos|users|partitions: names}, of which all that are there must fit


class NodePolicy(Record):
    """The policy as a node needs it."""

    slices_per_gpu: int
    container: ContainerPolicy
    datasets: dict[str, Dataset] = {}  # noqa: RUF012 (never changed)
    backends: dict[str, BackendPolicy] = {}  # noqa: RUF012 (never changed)
    agent_interval: float = 1.0  # seconds between two samples
    service: str | None = None  # URL of `gpushare serve`
    metrics: str | None = None  # HOST:PORT where the agent shows what it measures
    metrics_series: int = 10_000  # the most that it shows
    framework_memory: bool = True  # tell TensorFlow and JAX how much memory of the GPU is theirs
    idle: IdlePolicy | None = None  # None: off


def node_policy_from_json(text: str, path: str = NODE_POLICY) -> NodePolicy:
    """Read the compiled policy of a node; ``path`` is only for messages.

    Raises
    ------
    BrokenInstallation
        The text is not a compiled policy that this version reads.
    """
    try:
        data = quickjson.loads(text)
        if data["v"] != VERSION:
            raise BrokenInstallation(
                f"{path}: version {data['v']!r} is not known here, only {VERSION}: run `gpushare policy compile` again"
            )
        box = data["container"]
        return NodePolicy(
            slices_per_gpu=int(data["slices_per_gpu"]),
            container=ContainerPolicy(
                runtime=str(box["runtime"]),
                images=tuple(str(item) for item in box["images"]),
                mounts=tuple(str(item) for item in box["mounts"]),
                pid_namespace=bool(box["pid_namespace"]),
                owners=None if box.get("owners") is None else tuple(str(name) for name in box["owners"]),
                writable=bool(box.get("writable", True)),
                **_defaults(box.get("defaults", {})),
            ),
            datasets={
                str(name): Dataset(
                    path=str(item["path"]),
                    target=str(item["target"]),
                    mode=str(item["mode"]),
                    mount_point=item.get("mount_point"),
                )
                for name, item in data["datasets"].items()
            },
            backends={str(name): BackendPolicy(**item) for name, item in data["backends"].items()},
            agent_interval=float(data["agent"]["interval"]),
            service=data["agent"]["service"],
            metrics=data["agent"].get("metrics"),
            metrics_series=int(data["agent"].get("metrics_series", 10_000)),
            framework_memory=bool(data.get("framework_memory", True)),
            idle=_idle(data.get("idle")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenInstallation(
            f"{path}: not a compiled policy ({type(error).__name__} {error}): run `gpushare policy compile` again"
        ) from None


def _defaults(data: dict) -> dict:
    return {
        "scope": str(data.get("scope", "job")),
        "workdir": str(data.get("workdir") or ""),
        "mount_home": bool(data.get("mount_home", True)),
        "env": tuple(str(name) for name in data.get("env", ())),
        "seems_writable": bool(data.get("writable", False)),
    }


def _idle(data: dict | None) -> IdlePolicy | None:
    return None if data is None else IdlePolicy(**{**data, "exempt": tuple(data["exempt"])})


def read_node_policy(path: str = NODE_POLICY) -> NodePolicy:
    """Read the compiled policy at ``path``.

    Raises
    ------
    BrokenInstallation
        There is no such file, it cannot be read, or it is not a compiled policy.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with open(descriptor, encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BrokenInstallation(f"{path}: {reason}: run `gpushare policy compile` on this host") from None
    return node_policy_from_json(text, path)
