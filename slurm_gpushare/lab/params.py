"""What a lab was asked to be. Standard library only: read on the host and inside the lab."""

import re
import uuid
from dataclasses import asdict, dataclass

from slurm_gpushare.errors import LabError

ADDRESS = "10.77.0.1"  # every daemon of Slurm; the network is the lab's own
POOL_ADDRESS = "10.77.0.10"  # the server of the GPU pool
CONTROLLER = "login"  # host name of the view that has slurmctld and the users' shells
SLURM_VERSIONS = ("24.11", "26.05")
SHARDS_PER_GPU = 100
SLICES_PER_GPU = 100

GPU_MODEL = {
    "name": "Tesla P100-PCIE-16GB",
    "memory_mib": 16280,
    "idle_watts": 30,
    "max_watts": 250,
    "capability": "6.0",
}


@dataclass(frozen=True)
class LabParams:
    """The size and kind of one lab."""

    name: str = "lab"
    nodes: int = 2  # nodes with GPUs of their own
    gpus: int = 2  # GPUs in each of them
    clients: int = 2  # nodes without, which use the pool
    pool_gpus: int = 1
    pool_on_disconnect: str = "free"  # what the pool's server does with the allocation of a client that vanished
    bare: bool = False  # plain Slurm, without this project and its stand-ins
    slurm: str = SLURM_VERSIONS[0]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]{0,15}", self.name):
            raise LabError(f"name {self.name!r}: write a small letter, then small letters and digits, at most 16")
        for what, value, low, high in (
            ("nodes", self.nodes, 1, 64),
            ("gpus", self.gpus, 1, 16),
            ("pool-gpus", self.pool_gpus, 1, 16),
        ):
            if not low <= value <= high:
                raise LabError(f"{what} {value}: write a number from {low} to {high}")
        if self.pool_on_disconnect not in ("free", "hold"):
            raise LabError(f"pool-on-disconnect {self.pool_on_disconnect!r}: write free or hold")
        if self.slurm not in SLURM_VERSIONS:
            raise LabError(f"slurm {self.slurm!r}: write {' or '.join(SLURM_VERSIONS)}")

    @property
    def gpu_nodes(self) -> list[str]:
        """Names of the nodes with GPUs of their own."""
        return [f"n{number}" for number in range(1, self.nodes + 1)]

    @property
    def client_nodes(self) -> list[str]:
        """Names of the nodes without GPUs."""
        return [f"c{number}" for number in range(1, self.clients + 1)]

    @property
    def all_nodes(self) -> list[str]:
        """Names of all nodes."""
        return self.gpu_nodes + self.client_nodes

    def to_dict(self) -> dict:
        """Return the parameters as JSON takes them."""
        return asdict(self)


def gpu_list(lab: str, host: str, count: int) -> list[dict]:
    """Return the GPUs of ``host`` for a stand-in's configuration; the same names give the same UUIDs."""
    return [
        {"uuid": f"GPU-{uuid.uuid5(uuid.NAMESPACE_OID, f'{lab}/{host}/{index}')}", "minor": index, **GPU_MODEL}
        for index in range(count)
    ]
