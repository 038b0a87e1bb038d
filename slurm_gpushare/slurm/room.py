"""Whether a waiting job would find room now, why not, and what would. Pure."""

import re

from slurm_gpushare.slurm.job import Job
from slurm_gpushare.slurm.nodes import Gpu, Node
from slurm_gpushare.slurm.view import Answer, View
from slurm_gpushare.units import format_fraction

SHARDS = "shard"
_PER_GPU = re.compile(r"gpu[0-9]+@.+")  # the licence of one GPU of a pool: gpu0@SERVER
NODES_SHOWN = 8
GPUS_SHOWN = 16


def for_room(view: View) -> Answer:
    """Return what the job lacks: slices, one GPU that has them together, processors, nodes, or its turn."""
    job = view.job
    here = [node for node in view.nodes if not job.partitions or set(node.partitions) & set(job.partitions)]
    usable = [node for node in here if not node.away]
    away = [
        f"{node.name} is {'+'.join(node.state)}{': ' + node.reason if node.reason else ''}"
        for node in here
        if node.away
    ]
    pool, gpus = _pool_licence(view), _pool_gpus(view)
    if len(usable) < job.nodes:
        some = f"{len(usable)} of {len(here)} nodes" if usable else "no node"
        answer = Answer("nodes_away", [f"{some} of partition {_names(job)} take{'' if usable else 's'} jobs now"])
        if usable:
            answer.why[0] += f", and it needs {job.nodes}"
    elif gpus:
        answer = _on_gpus_of_pool(view, usable, gpus)
    else:
        answer = _in_pool(view, usable, pool) if pool else _on_nodes(view, usable)
    answer.details += away[:NODES_SHOWN]
    if (pool or gpus) and view.pool_away:
        answer.details += [f"the pool's server {text}" for text in view.pool_away]
        if answer.kind in ("priority", "soon") and not gpus:
            return Answer("pool_away", ["the pool does not answer: it could not run now"], answer.details)
    if answer.kind in ("full", "fragmented", "nodes_away"):
        answer.sooner += _elsewhere(view)
    return answer


def _pool_licence(view: View) -> str | None:
    """Return the licence that pays for the job's grant, None for GPUs of the nodes."""
    job = view.job
    if job.grant is None:
        return None
    need = job.grant.slices * job.grant.nodes
    return next((name for name, count in job.licences.items() if name in view.licences and count == need), None)


def _pool_gpus(view: View) -> list[dict[str, int]]:
    """Return what of a pool's GPUs the job's grant may be paid with: of any one entry all; empty for another grant."""
    if view.job.grant is None:
        return []
    found = (
        {name: n for name, n in choice.items() if _PER_GPU.fullmatch(name) and name in view.licences}
        for choice in view.job.choices
    )
    return [choice for choice in found if choice]


def _on_gpus_of_pool(view: View, usable: list[Node], choices: list[dict[str, int]]) -> Answer:
    job, size = view.job, slices_per_gpu(view.job)
    gpus = {name: view.licences[name] for choice in choices for name in choice}
    if any(all(gpus[name].free >= count for name, count in choice.items()) for choice in choices):
        state = _free(
            sum(gpu.free for gpu in gpus.values()), sum(gpu.total for gpu in gpus.values()), size, "in the pool"
        )
        return _processors(job, usable, state) if _rooms(job, usable) < job.nodes else _turn(view, state)
    absent = sorted({name.partition("@")[2] for name, gpu in gpus.items() if gpu.withheld >= gpu.total})
    if len(choices) == 1:
        short = [
            f"{name} ({gpus[name].free} of {count})" for name, count in choices[0].items() if gpus[name].free < count
        ]
        those = "these GPUs of the pool together" if len(gpus) > 1 else "one GPU of the pool, chosen at its submission"
        answer = Answer("full", [f"it needs {those}, free of what it needs: {', '.join(short)}"])
        need = max(choices[0].values())
        others = [one for name, one in view.licences.items() if _PER_GPU.fullmatch(name) and one.free >= need]
        if len(gpus) == 1 and others:
            answer.sooner.append(f"submitted again it may get another one: {others[0].name} has room now")
    else:
        need = min(count for choice in choices for count in choice.values())
        most, free = max(gpu.free for gpu in gpus.values()), sum(gpu.free for gpu in gpus.values())
        state = _free(free, sum(gpu.total for gpu in gpus.values()), size, "in the pool")
        if most:
            state += f", at most {_share(most, size)} on one GPU"
        state += f"; it needs {_share(need, size)} of one GPU"
        together = "enough is free in sum, but no single GPU of the pool has it"
        answer = Answer("fragmented", [together, state]) if free >= need else Answer("full", [state])
        if most and job.grant.tasks == 1:
            answer.sooner.append(f"{request_text(most, size, 1)} would find room in the pool now")
    answer.details += [f"{name} has {gpu.free} of {gpu.total} free" for name, gpu in sorted(gpus.items())][:GPUS_SHOWN]
    if len(gpus) > GPUS_SHOWN:
        answer.details.append(f"{len(gpus) - GPUS_SHOWN} more GPUs: `scontrol show licenses`")
    answer.details += [f"the pool's server {name} is out of use: `gpushare pool` tells why" for name in absent]
    return answer


def _in_pool(view: View, usable: list[Node], name: str) -> Answer:
    job, licence = view.job, view.licences[name]
    need, size = job.licences[name], slices_per_gpu(job)
    if licence.free < need:
        state = _free(licence.free, licence.total, size, "in the pool")
        answer = Answer("full", [f"{state}; it needs {_share(need, size)}"])
        fits = licence.free // (job.nodes * job.grant.gpus)
        if job.grant.tasks == 1 and fits and _rooms(job, usable) >= job.nodes:
            answer.sooner.append(f"{request_text(fits, size, job.grant.gpus)} would find room in the pool now")
        return answer
    state = _free(licence.free, licence.total, size, "in the pool")
    if _rooms(job, usable) < job.nodes:
        return _processors(job, usable, state)
    return _turn(view, state)


def _on_nodes(view: View, usable: list[Node]) -> Answer:
    job, grant = view.job, view.job.grant
    if grant is not None and grant.backend == SHARDS:
        gpus, each = grant.gpus, grant.slices // grant.gpus
    elif job.gpus_per_node:
        gpus, each = job.gpus_per_node, None  # whole
    elif _rooms(job, usable) < job.nodes:
        return _processors(job, usable, "")
    else:
        return _turn(view, "")
    fitting = [node for node in usable if sum(_has(gpu, each) for gpu in node.gpus) >= gpus]
    cards = [gpu for node in usable for gpu in node.gpus]
    size = max((gpu.total for gpu in cards), default=1)
    state = _state(job, cards, gpus, each, size)
    if len(fitting) >= job.nodes:
        return _processors(job, fitting, state) if _rooms(job, fitting) < job.nodes else _turn(view, state)
    if size > 1 and sum(gpu.free for gpu in cards) >= (each or size) * gpus * job.nodes:
        if job.nodes > 1:
            where = f"{len(fitting)} of the {job.nodes} nodes that it needs {'has' if len(fitting) == 1 else 'have'} it"
        else:
            where = "no single GPU has it" if gpus == 1 else f"no node has it on {gpus} GPUs"
        answer = Answer("fragmented", [f"enough is free in sum, but {where}", state])
    else:
        answer = Answer("full", [state])
    answer.details += [_cards(node) for node in usable if node.gpus][:NODES_SHOWN]
    answer.sooner += _smaller(job, usable, gpus, each, size)
    return answer


def _state(job: Job, cards: list[Gpu], gpus: int, each: int | None, size: int) -> str:
    """Tell what is free of what, and what the job needs on each node."""
    on = "one GPU" if gpus == 1 else f"each of {gpus} GPUs"
    nodes = f" on each of {job.nodes} nodes" if job.nodes > 1 else ""
    where = f"in partition {_names(job)}"
    if each is None:
        idle = sum(_has(gpu, None) for gpu in cards)
        needs = "one" if gpus == 1 else str(gpus)
        text = (
            f"{idle} of the {len(cards)} GPUs {where} without a job"
            if idle
            else f"all {len(cards)} GPUs {where} have jobs"
        )
        return f"{text}; it needs {needs} without{nodes}"
    most = max((gpu.free for gpu in cards), default=0)
    text = _free(sum(gpu.free for gpu in cards), sum(gpu.total for gpu in cards), size, where)
    if most:
        text += f", at most {_share(most, size)} on one GPU"
    return f"{text}; it needs {_share(each, size)} of {on}{nodes}"


def _smaller(job: Job, usable: list[Node], gpus: int, each: int | None, size: int) -> list[str]:
    """Return the largest share that as many nodes as the job needs have on as many GPUs now."""
    shares = sorted(
        (sorted((gpu.free for gpu in node.gpus), reverse=True)[gpus - 1], node.name)
        for node in usable
        if len(node.gpus) >= gpus and _room(job, node)
    )
    if len(shares) < job.nodes or size == 1:
        return []
    fits = shares[-job.nodes][0]
    if not 0 < fits < (each or size):
        return []
    where = [name for share, name in shares if share >= fits][:NODES_SHOWN]
    return [f"{request_text(fits, size, gpus)} would find room now, on {', '.join(where)}"]


def _elsewhere(view: View) -> list[str]:
    """Return the other partitions that have room for the same share of one node's GPUs, or of a pool, now."""
    job, grant = view.job, view.job.grant
    if grant is None or job.nodes != 1 or grant.tasks > 1:
        return []
    each = grant.slices // grant.gpus
    found: dict[str, str] = {}
    for node in view.nodes:
        if node.away or not _room(job, node):
            continue
        # A gres that is named like a licence is a pool's.
        pool = next((name for name in node.total if name in view.licences and name not in job.licences), None)
        if SHARDS in node.total and sum(_has(gpu, each) for gpu in node.gpus) >= grant.gpus:
            where = f"on {node.name}"
        elif pool and not view.pool_away and min(view.licences[pool].free, node.free[pool]) >= grant.slices:
            where = "in the pool"
        else:
            continue
        for partition in set(node.partitions) - set(job.partitions):
            found.setdefault(partition, where)
    request = request_text(each, slices_per_gpu(job), grant.gpus)
    return [f"-p {name} {request} would find room now, {where}" for name, where in sorted(found.items())]


def _processors(job: Job, nodes: list[Node], state: str) -> Answer:
    """Answer for a job whose GPUs are there, but not the processors or the memory beside them."""
    need = f"it needs {job.cpus_per_node} CPUs and {job.memory_per_node} MiB of memory on each node"
    few = "no node has" if job.nodes == 1 else f"fewer than {job.nodes} nodes have"
    answer = Answer("processors", [f"{few} the processors and the memory that it asks for: {need}"])
    answer.why += [state] if state else []
    answer.details = [
        f"{node.name}: {node.cpus_free} CPUs, {node.memory_free} MiB free" for node in nodes[:NODES_SHOWN]
    ]
    best = max(nodes, key=lambda node: (node.cpus_free, node.memory_free), default=None)
    if job.nodes == 1 and best is not None and best.cpus_free > 0 and best.memory_free > 0:
        cpus, memory = min(best.cpus_free, job.cpus_per_node), min(best.memory_free, job.memory_per_node)
        fits = f"{cpus} CPU{'s' if cpus > 1 else ''} and --mem={memory}M"
        answer.sooner.append(f"with {fits} it would find room now, on {best.name}")
    return answer


def _turn(view: View, state: str) -> Answer:
    """Answer for a job that all is free for: others are before it, or Slurm has not looked yet."""
    details = [state] if state else []
    if view.job.reason not in ("", "Priority", "Resources", "Licenses"):
        details.append(f"Slurm's reason: {view.job.reason}")
    if view.ahead or view.job.reason == "Priority":
        jobs = {None: "jobs", 0: "jobs", 1: "one job"}.get(view.ahead, f"{view.ahead} jobs")
        are = "is" if view.ahead == 1 else "are"
        line = f"{jobs} of its partition {are} before it in the queue; Slurm keeps for them what is free"
        shorter = "a shorter time limit (-t) lets it start before them where it ends in time"
        return Answer("priority", [line], details, [shorter])
    return Answer("soon", ["all that it needs is free: Slurm starts it when it next looks at the queue"], details)


def _has(gpu: Gpu, each: int | None) -> bool:
    """Whether ``gpu`` has so many slices free, or is idle where ``each`` is None."""
    return not gpu.whole and (gpu.used == 0 if each is None else gpu.free >= each)


def _room(job: Job, node: Node) -> bool:
    return node.cpus_free >= job.cpus_per_node and node.memory_free >= job.memory_per_node


def _rooms(job: Job, nodes: list[Node]) -> int:
    return sum(_room(job, node) for node in nodes)


def slices_per_gpu(job: Job) -> int:
    """Return into how many slices the job's grant divides a GPU."""
    return round(job.grant.slices / (job.grant.tasks * job.grant.gpus * job.grant.fraction))


def _free(free: int, total: int, size: int, where: str) -> str:
    if free == 0:
        return f"none of the {total} slices {where} is free"
    return f"{free} of the {total} slices {where} {'is' if free == 1 else 'are'} free ({_gpus(free, size)})"


def _gpus(slices: int, size: int) -> str:
    return f"{format_fraction(slices / size)} GPU" + ("s" if slices > size else "")


def _share(slices: int, size: int) -> str:
    return f"{slices} ({_gpus(slices, size)})"


def request_text(slices: int, size: int, gpus: int) -> str:
    """Return what a user writes for ``slices`` of ``size`` on each of ``gpus`` GPUs."""
    return f"--gres=gpu:{format_fraction(slices / size)}" + ("" if gpus == 1 else f":{gpus}")


def _cards(node: Node) -> str:
    cards = (
        f"GPU {index} is all of one job" if gpu.whole else f"GPU {index} has {gpu.free} of {gpu.total} free"
        for index, gpu in enumerate(node.gpus)
    )
    return f"{node.name}: {', '.join(cards)}"


def _names(job: Job) -> str:
    return ",".join(job.partitions)
