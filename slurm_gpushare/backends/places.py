"""Which GPUs of a pool a job was given, read from its licences: one count for each GPU, gpuN@SERVER. Pure.

etc/slurm/gpushare/pool.lua asks for them; what it writes and what is read here belong together. Standard library only.
"""

from slurm_gpushare.errors import RefusedError
from slurm_gpushare.launch import Place


def agrees(grant, environment: dict[str, str], settings) -> str | None:
    """Return None: for a backend that has licences of each GPU alone, find_places says what is not believed."""
    return None


def is_open(licences: str) -> bool:
    """Tell whether Slurm chose among these licences (``a:25|b:25``): which it gave, slurmctld alone knows."""
    return "|" in licences


def find_places(licences: str, grant, settings, slices_per_gpu: int, node: int) -> tuple[Place, ...]:
    """Return where the allocations of the job's node number ``node`` (from 0) lie, one for each in order.

    ``licences`` is what Slurm gave the whole job, as SLURM_JOB_LICENSES or LicensesAlloc has it; the user's own stand
    among them. The allocations take the GPUs in the order of this text: those of the first node, then of the second.

    Raises
    ------
    RefusedError
        The licences are not what the grant costs, or an allocation would not lie in equal parts on one server.
    """
    held = _held(licences, settings.servers)
    size, allocations = grant.gpus, grant.nodes * grant.tasks
    each = grant.slices // (grant.tasks * size)
    found: list[Place] = []
    for first in range(0, len(held), size):
        group = held[first : first + size]
        server, _, count = group[0]
        equal = len(group) == size and all((of, n) == (server, count) for of, _, n in group)
        if not equal or each < 1 or count % each or not 0 < count <= slices_per_gpu:
            raise _doubt(licences, f"an allocation is {each} slices of each of {size} GPUs of one server")
        place = Place(server, settings.servers[server], tuple(sorted(gpu for _, gpu, _ in group)))
        found += [place] * (count // each)
    if len(found) != allocations or each * size * grant.tasks != grant.slices:
        raise _doubt(licences, f"the grant costs {allocations} x {each} slices of each of {size} GPUs")
    if not 0 <= node < grant.nodes:
        raise _doubt(licences, f"the grant is for {grant.nodes} nodes, and this is another one")
    return tuple(found[node * grant.tasks : (node + 1) * grant.tasks])


def _held(licences: str, servers: dict[str, str]) -> list[tuple[str, int, int]]:
    """Return (server, GPU, count) of each licence of a GPU of these servers, in the order of the text."""
    held = []
    for item in licences.replace(";", ",").split(","):
        name, _, count = item.partition(":")
        gpu, _, server = name.partition("@")
        digits = gpu[3:]
        if gpu.startswith("gpu") and digits.isdigit() and count.isdigit() and item.isascii() and server in servers:
            held.append((server, int(digits), int(count)))
    if len({(server, gpu) for server, gpu, _ in held}) != len(held):
        raise _doubt(licences, "a GPU stands in them twice")
    return held


def _doubt(licences: str, why: str) -> RefusedError:
    shown = licences if len(licences) <= 200 else licences[:200] + "..."
    return RefusedError(f"the job's grant does not agree with what Slurm allocated: {shown or 'no licences'}: {why}")
