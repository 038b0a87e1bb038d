"""Nodes as `scontrol show node --json` tells them: what each GPU has left."""

import re
from dataclasses import dataclass

from slurm_gpushare.slurm.command import run_slurm
from slurm_gpushare.slurm.jsondata import number, read_list, words

TIMEOUT = 30.0  # seconds

# A node in one of these takes no job.
AWAY = {"DOWN", "DRAIN", "DRAINED", "DRAINING", "FAIL", "FAILING", "NOT_RESPONDING", "UNKNOWN", "REBOOT_ISSUED"} | {
    *("MAINTENANCE", "MAINT", "POWERED_DOWN", "POWERING_DOWN", "INVALID", "INVALID_REG", "RESERVED", "BLOCKED")
}

# name[:type]:count[(detail)], where used lists write the type "(null)" up to 24.11 and leave it out later.
_GRES = re.compile(
    r"(?P<name>[^:(),]+):(?:(?P<type>\(null\)|[^:(),]+):)?(?P<count>[0-9]+)(?P<unit>[KMGT]?)(?:\((?P<detail>.*)\))?"
)
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


@dataclass(frozen=True)
class Gpu:
    """One GPU of a node, in shards; where the node has none, a GPU is one."""

    used: int
    total: int
    whole: bool  # given to a job as a whole

    @property
    def free(self) -> int:
        """Shards that a job could get."""
        return 0 if self.whole else max(0, self.total - self.used)


@dataclass(frozen=True)
class Node:
    """One node now."""

    name: str
    partitions: tuple[str, ...]
    state: tuple[str, ...]
    reason: str  # why it was taken out of service, "" where nobody said
    gpus: tuple[Gpu, ...]
    free: dict[str, int]  # of every gres by its name
    total: dict[str, int]
    cpus_free: int
    memory_free: int  # MiB that no job has reserved
    types: tuple[str | None, ...] = ()  # of each GPU, as gres.conf has it
    reason_by: str = ""  # who said why
    reason_at: int | None = None  # seconds since the epoch

    @property
    def away(self) -> bool:
        """Whether it takes no job, whatever is free on it."""
        return not AWAY.isdisjoint(self.state)


def parse_gres(text: str) -> list[tuple[str, int, str]]:
    """Read Slurm's list of generic resources: (name, count, what stands in brackets) of each.

    >>> parse_gres("gpu:(null):1(IDX:0),shard:25(0/100,25/100)")
    [('gpu', 1, 'IDX:0'), ('shard', 25, '0/100,25/100')]
    """
    found = []
    for match in _items(text):
        count = int(match["count"]) * _UNITS[match["unit"]]
        found.append((match["name"], count, match["detail"] or ""))
    return found


def parse_nodes(text: str) -> list[Node]:
    """Read `scontrol show node --json`; raises SlurmError when it is not that."""
    return read_list(text, "nodes", _node, "scontrol show node --json")


def fetch_nodes() -> list[Node]:
    """Ask slurmctld for all nodes; raises SlurmError."""
    return parse_nodes(run_slurm(["scontrol", "show", "node", "--json"], TIMEOUT))


def _node(data: dict) -> Node:
    total: dict[str, int] = {}
    for name, count, _ in parse_gres(data.get("gres") or ""):
        total[name] = total.get(name, 0) + count
    used = parse_gres(data.get("gres_used") or "")
    taken = {name: sum(count for other, count, _ in used if other == name) for name in total}
    return Node(
        name=str(data["name"]),
        partitions=words(data.get("partitions")),
        state=words(data.get("state")),
        reason=str(data.get("reason") or ""),
        gpus=_gpus(total, used),
        free={name: max(0, count - taken[name]) for name, count in total.items()},
        total=total,
        cpus_free=(number(data.get("cpus")) or 0) - (number(data.get("alloc_cpus")) or 0),
        memory_free=(number(data.get("real_memory")) or 0) - (number(data.get("alloc_memory")) or 0),
        types=_types(data.get("gres") or "", data.get("gres_used") or ""),
        reason_by=str(data.get("reason_set_by_user") or ""),
        reason_at=number(data.get("reason_changed_at")) or None,
    )


def _items(text: str) -> list[re.Match]:
    found = (_GRES.fullmatch(item.strip()) for item in re.split(r",(?![^(]*\))", text))
    return [match for match in found if match]


def _types(gres: str, used: str) -> tuple[str | None, ...]:
    """Return the type of each GPU: Slurm tells which are in use, the others stand in the order of the node's list."""
    left = [match["type"] for match in _items(gres) if match["name"] == "gpu" for _ in range(int(match["count"]))]
    types: list[str | None] = [None] * len(left)
    taken = [(match["type"], match["detail"] or "") for match in _items(used) if match["name"] == "gpu"]
    certain = {index: kind for kind, detail in taken for index in gpu_indices(detail) if index < len(left)}
    for index, kind in certain.items():
        if kind in left:
            left.remove(kind)
            types[index] = kind
    for index in range(len(types)):
        if types[index] is None and left:
            types[index] = left.pop(0)
    return tuple(types)


def _gpus(total: dict[str, int], used: list[tuple[str, int, str]]) -> tuple[Gpu, ...]:
    count = total.get("gpu", 0)
    whole = set()
    shares = []
    for name, _, detail in used:
        if name == "gpu":
            whole |= gpu_indices(detail)
        elif name == "shard":
            # From 26.05 on "-/100" is a GPU that a job has as a whole; before, its shards are 0 used.
            for one, of in re.findall(r"([0-9]+|-)/([0-9]+)", detail):
                whole |= {len(shares)} if one == "-" else set()
                shares.append((0 if one == "-" else int(one), int(of)))
    if len(shares) != count:
        each = total.get("shard", 0) // count if count else 0
        shares = [(0, each or 1)] * count
    return tuple(Gpu(one, of, index in whole) for index, (one, of) in enumerate(shares))


def gpu_indices(detail: str) -> set[int]:
    """Read the numbers of GPUs in what stands in brackets: ``IDX:0-1,3``; ``IDX:N/A`` is none."""
    found = set()
    for low, high in re.findall(r"([0-9]+)(?:-([0-9]+))?", detail.removeprefix("IDX:")):
        found |= set(range(int(low), int(high or low) + 1))
    return found
