"""The jobs that hold GPUs now, and which share of which GPU each of them has, as `squeue --json` tells it."""

import re
from dataclasses import dataclass, field

from slurm_gpushare.errors import GpushareError
from slurm_gpushare.grant import Grant, decode_grant, looks_like_grant
from slurm_gpushare.slurm.command import run_slurm
from slurm_gpushare.slurm.jsondata import number, read_list, words
from slurm_gpushare.slurm.licences import parse_choices
from slurm_gpushare.slurm.nodes import gpu_indices, parse_gres

TIMEOUT = 30.0  # seconds

WHOLE = "gpu"  # the backend of a job that has GPUs of a node and no grant

_RANGE = r"[0-9]+(?:-[0-9]+)?"
_ITEM = re.compile(rf"([^,\[\]]+)(?:\[({_RANGE}(?:,{_RANGE})*)\])?")
_NODES = re.compile(rf"{_ITEM.pattern}(?:,{_ITEM.pattern})*")

Shards = tuple[int, int]  # how many of how many of a GPU's


@dataclass(frozen=True)
class HeldJob:
    """One job that holds resources."""

    job_id: int
    name: str  # as Slurm writes it: 12, or 11_2 for task 2 of array 11
    user: str
    state: str
    since: int | None  # seconds since the epoch
    grant: Grant | None
    gpus: dict[str, dict[int, Shards | None]] = field(default_factory=dict)  # node → GPU → shards, None: all of it
    licences: dict[str, int] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()
    account: str = ""
    partition: str = ""
    qos: str = ""
    batch: bool = True  # False: of salloc or srun
    requeue: bool = False  # it may be requeued
    restarts: int = 0
    heterogeneous: bool = False  # a component of one

    @property
    def backend(self) -> str | None:
        """What gave it its share; None where there is none of ours, or of a version that is not known here."""
        if self.grant is not None:
            return self.grant.backend
        whole = any(shards is None for gpus in self.gpus.values() for shards in gpus.values())
        return WHOLE if whole else None


def parse_jobs(text: str) -> list[HeldJob]:
    """Read `squeue --json`: the jobs with a grant or with GPUs of a node; raises SlurmError when it is not that."""
    jobs = read_list(text, "jobs", _job, "squeue --json")
    return [job for job in jobs if job.grant is not None or job.gpus]


def fetch_jobs() -> list[HeldJob]:
    """Ask squeue for the jobs that hold GPUs, of those that the caller may see (PrivateData); raises SlurmError."""
    states = "--states=RUNNING,SUSPENDED,COMPLETING"
    return parse_jobs(run_slurm(["squeue", "--json", "--all", states], TIMEOUT))


def expand_nodes(text: str) -> tuple[str, ...]:
    """Return the nodes of one simple list of Slurm's, such as ``n1,gpu[01-03,7]``; none where it is of another form."""
    if not _NODES.fullmatch(text):
        return ()
    found: list[str] = []
    for match in _ITEM.finditer(text):
        for part in match[2].split(",") if match[2] else ("",):
            low, _, high = part.partition("-")
            numbers = range(int(low), int(high or low) + 1) if part else ()
            found += [f"{match[1]}{number:0{len(low)}}" for number in numbers] if part else [match[1]]
    return tuple(found)


def _job(data: dict) -> HeldJob:
    array, task = number(data.get("array_job_id")), number(data.get("array_task_id"))
    nodes = _nodes(data)
    details = data.get("gres_detail") or []
    held = {}
    if len(details) == len(nodes):
        held = {node: found for node, detail in zip(nodes, details, strict=True) if (found := _shares(detail))}
    states = words(data.get("job_state"))
    return HeldJob(
        job_id=int(data["job_id"]),
        name=str(data["job_id"]) if not array or task is None else f"{array}_{task}",
        user=str(data.get("user_name") or data.get("user_id") or ""),
        state=states[0] if states else "",
        since=number(data.get("start_time")) or None,
        grant=_grant(data.get("extra")),
        gpus=held,
        licences=_licences(data),
        nodes=nodes,
        account=str(data.get("account") or ""),
        partition=str(data.get("partition") or ""),
        qos=str(data.get("qos") or ""),
        batch=bool(data.get("batch_flag", True)),
        requeue=bool(data.get("requeue")),
        restarts=number(data.get("restart_cnt")) or 0,
        heterogeneous=bool(number(data.get("het_job_id"))),
    )


def _nodes(data: dict) -> tuple[str, ...]:
    resources = data.get("job_resources")
    nodes = resources.get("nodes") if isinstance(resources, dict) else None
    allocation = nodes.get("allocation") if isinstance(nodes, dict) else None
    if isinstance(allocation, list) and allocation:
        return tuple(str(each["name"]) for each in allocation)
    return expand_nodes(str(data.get("nodes") or ""))


def _shares(detail: str) -> dict[int, Shards | None]:
    found: dict[int, Shards | None] = {}
    for name, _, inside in parse_gres(detail):
        if name == "gpu":
            found |= dict.fromkeys(sorted(gpu_indices(inside)))
        elif name == "shard":
            for index, (one, of) in enumerate(re.findall(r"([0-9]+|-)/([0-9]+)", inside)):
                if one not in ("0", "-"):
                    found[index] = (int(one), int(of))
    return found


def _grant(extra: object) -> Grant | None:
    try:
        return decode_grant(extra) if isinstance(extra, str) and looks_like_grant(extra) else None
    except GpushareError:
        return None


def _licences(data: dict) -> dict[str, int]:
    try:
        # Of several choices only the first says which it was; older versions know no choices and have no such field.
        given = parse_choices(data.get("licenses_allocated") or data.get("licenses") or "")
    except ValueError:
        return {}
    return given[0] if len(given) == 1 else {}
