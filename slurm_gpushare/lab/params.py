"""What a lab was asked to be. Standard library only: read on the host and inside the lab."""

import re
import uuid
from dataclasses import asdict, dataclass

from slurm_gpushare.errors import LabError

ADDRESS = "10.77.0.1"  # every daemon of Slurm; the network is the lab's own
CONTROLLER = "login"  # host name of the view that has slurmctld and the users' shells
SLURM_VERSIONS = ("24.11", "26.05")
SHARDS_PER_GPU = 100
PLACEMENTS = ("flat", "pinned", "first_fit")
SLICES_PER_GPU = 100
LOCAL_NODES = {"mps": "m1", "mig": "g1", "vgpu": "v1", "hami": "h1"}  # by backend; what they are: local.py

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
    pool_servers: int = 1
    pool_gpus: int = 1  # in each of them
    pool_placement: str = "flat"  # who places a share on the pool's GPUs: see the policy
    pool_auto_release: float = 600  # seconds after which the pool takes back an idle allocation
    pool_wait: int = 1800  # seconds that the pool's client waits for room
    pool_on_disconnect: str = "free"  # what the pool's server does with the allocation of a client that vanished
    bare: bool = False  # a site's Slurm and stand-in GPUs, nothing of this project: for the administrator's guide
    slurm: str = SLURM_VERSIONS[0]
    lupine: bool = False  # a LUPINE server (lupine.py), and a client node and partition of its own
    mps: bool = False  # a node and a partition of each of these backends (local.py)
    mig: bool = False
    vgpu: bool = False
    hami: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]{0,15}", self.name):
            raise LabError(f"name {self.name!r}: write a small letter, then small letters and digits, at most 16")
        for what, value, low, high in (
            ("nodes", self.nodes, 1, 64),
            ("gpus", self.gpus, 1, 16),
            ("clients", self.clients, 1, 64),
            ("pool-servers", self.pool_servers, 1, 64),
            ("pool-gpus", self.pool_gpus, 1, 16),
            ("pool-auto-release", self.pool_auto_release, 0, 10**6),
            ("pool-wait", self.pool_wait, 0, 10**6),
        ):
            if not low <= value <= high:
                raise LabError(f"{what} {value}: write a number from {low} to {high}")
        if self.pool_on_disconnect not in ("free", "hold"):
            raise LabError(f"pool-on-disconnect {self.pool_on_disconnect!r}: write free or hold")
        if self.slurm not in SLURM_VERSIONS:
            raise LabError(f"slurm {self.slurm!r}: write {' or '.join(SLURM_VERSIONS)}")
        if self.pool_placement not in PLACEMENTS:
            raise LabError(f"pool-placement {self.pool_placement!r}: write {', '.join(PLACEMENTS)}")
        if self.bare and (self.lupine or self.local_nodes):
            raise LabError("bare: a site without this project has GPUs of its own alone: write no other backend")
        if self.pool_placement == "first_fit" and self.slurm == "24.11":
            raise LabError("pool-placement first_fit: Slurm 24.11 knows no | between licences: write pinned or flat")

    @property
    def gpu_nodes(self) -> list[str]:
        """Names of the nodes with GPUs of their own."""
        return [f"n{number}" for number in range(1, self.nodes + 1)]

    @property
    def client_nodes(self) -> list[str]:
        """Names of the nodes without GPUs."""
        return [f"c{number}" for number in range(1, self.clients + 1)]

    @property
    def lupine_nodes(self) -> list[str]:
        """Names of the nodes that use the LUPINE server."""
        return ["l1"] if self.lupine else []

    @property
    def local_nodes(self) -> list[str]:
        """Names of the nodes of the further local backends."""
        return [node for backend, node in LOCAL_NODES.items() if getattr(self, backend)]

    @property
    def all_nodes(self) -> list[str]:
        """Names of all nodes."""
        return self.gpu_nodes + self.client_nodes + self.lupine_nodes + self.local_nodes

    def to_dict(self) -> dict:
        """Return the parameters as JSON takes them."""
        return asdict(self)


def gpu_list(lab: str, host: str, count: int, model: dict = GPU_MODEL) -> list[dict]:
    """Return the GPUs of ``host`` for a stand-in's configuration; the same names give the same UUIDs."""
    return [
        {"uuid": f"GPU-{uuid.uuid5(uuid.NAMESPACE_OID, f'{lab}/{host}/{index}')}", "minor": index, **model}
        for index in range(count)
    ]
