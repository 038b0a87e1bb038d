"""The launch record: what prolog leaves on a node for the launcher, the agent and the epilog.

Standard library only, and neither dataclasses nor json: the launcher imports this file for every task, and each costs
it 10 ms.
"""

import os

from slurm_gpushare import quickjson
from slurm_gpushare.errors import GrantError
from slurm_gpushare.grant import Grant, grant_from_dict, grant_to_dict
from slurm_gpushare.record import Record

VERSION = 1


class ContainerRequest(Record):
    """What the user asked for by --container-... and --dataset; "" is what the policy says where the user does not."""

    image: str
    mounts: tuple[str, ...] = ()  # each SRC:DST or SRC:DST:ro, as written
    datasets: tuple[str, ...] = ()  # NAME or NAME:DST, names in the policy
    scope: str = ""  # "job": the batch script too runs in the container; "tasks": only what srun starts
    workdir: str = ""
    mount_home: str = ""  # "yes", "no"
    env: tuple[str, ...] = ()  # names of variables
    writable: str = ""  # "yes", "no"


class Place(Record):
    """GPUs of one server of a pool, for one allocation."""

    server: str  # its name in the policy
    address: str  # HOST:PORT
    gpus: tuple[int, ...]  # the server's numbers of them


class LaunchRecord(Record):
    """One job on one node, from prolog to epilog.

    Its options, each where it applies: those of the backend's ``begin``; "card_share", the share of GPUs that programs
    see whole, of which frameworks are told; "status", the exit status of a refusal; "image", what the job's image was
    when prolog ran (container/image.py).
    """

    job_id: int
    uid: int
    gid: int
    user: str
    node: str
    cluster: str
    started: float  # seconds since the epoch, by the node's clock, when prolog ran
    grant: Grant | None  # None: a CPU job, or whole GPUs
    gpus: tuple[int, ...] = ()  # Slurm's numbers of the GPUs of this node that the job was given
    container: ContainerRequest | None = None
    refused: str | None = None  # why every task of this job must fail, None when it may run
    sluid: str | None = None  # Slurm's unique id of the run, from 25.11 on
    places: tuple[
        Place, ...
    ] = ()  # where the job's allocations on this node lie in a pool; empty where the client finds out
    options: dict = {}  # noqa: RUF012 (never changed); what else prolog found


def record_to_json(record: LaunchRecord) -> str:
    """Return the record as one line of JSON."""
    container = None
    if record.container is not None:
        container = {
            "image": record.container.image,
            "mounts": list(record.container.mounts),
            "datasets": list(record.container.datasets),
            "scope": record.container.scope,
            "workdir": record.container.workdir,
            "mount_home": record.container.mount_home,
            "env": list(record.container.env),
            "writable": record.container.writable,
        }
    return quickjson.dumps(
        {
            "v": VERSION,
            "job_id": record.job_id,
            "uid": record.uid,
            "gid": record.gid,
            "user": record.user,
            "node": record.node,
            "cluster": record.cluster,
            "started": record.started,
            "grant": None if record.grant is None else grant_to_dict(record.grant),
            "gpus": list(record.gpus),
            "container": container,
            "refused": record.refused,
            "sluid": record.sluid,
            "places": [
                {"server": each.server, "address": each.address, "gpus": list(each.gpus)} for each in record.places
            ],
            "options": record.options,
        }
    )


def record_from_json(text: str) -> LaunchRecord:
    """Read a launch record; raises GrantError when it is not one that this version reads."""
    try:
        data = quickjson.loads(text)
        if data["v"] != VERSION:
            raise GrantError(f"launch record: version {data['v']!r} is not known here, only {VERSION}")
        box = data["container"]
        return LaunchRecord(
            job_id=int(data["job_id"]),
            uid=int(data["uid"]),
            gid=int(data["gid"]),
            user=str(data["user"]),
            node=str(data["node"]),
            cluster=str(data["cluster"]),
            started=float(data["started"]),
            grant=None if data["grant"] is None else grant_from_dict(data["grant"]),
            gpus=tuple(int(number) for number in data["gpus"]),
            container=None
            if box is None
            else ContainerRequest(
                image=str(box["image"]),
                mounts=tuple(str(mount) for mount in box["mounts"]),
                datasets=tuple(str(name) for name in box["datasets"]),
                scope=str(box["scope"]),
                # Records of jobs that run while a node is upgraded have none of these.
                workdir=str(box.get("workdir", "")),
                mount_home=str(box.get("mount_home", "")),
                env=tuple(str(name) for name in box.get("env", ())),
                writable=str(box.get("writable", "")),
            ),
            refused=data["refused"],
            sluid=data["sluid"],
            places=tuple(
                Place(str(each["server"]), str(each["address"]), tuple(int(gpu) for gpu in each["gpus"]))
                for each in data.get("places", ())
            ),
            options=dict(data["options"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GrantError(f"launch record: not readable: {type(error).__name__} {error}") from None


def read_record(path: str) -> LaunchRecord:
    """Read the record at ``path``; raises FileNotFoundError when there is none, GrantError when it is not ours.

    A record that root did not write is refused: the launcher runs as the user and must not believe a copy.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, encoding="utf-8") as stream:
        owner = os.fstat(descriptor).st_uid
        if owner != 0:
            raise GrantError(f"launch record {path} belongs to uid {owner}, not to root")
        return record_from_json(stream.read())
