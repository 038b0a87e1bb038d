"""The servers of a lab's GPU pool: their names, addresses, files and licences. Pure, standard library only."""

from dataclasses import dataclass

from slurm_gpushare.lab.params import GPU_MODEL, SLICES_PER_GPU, LabParams
from slurm_gpushare.lab.state import RUN_INSIDE

PORT = 56001


@dataclass(frozen=True)
class PoolServer:
    """One server of the pool, by its number from 1."""

    number: int
    gpus: int

    @property
    def name(self) -> str:
        """Return how its licences and the policy call it."""
        return f"server{self.number}"

    @property
    def ip(self) -> str:
        """Return its own address in the lab's network."""
        return f"10.77.0.{9 + self.number}"

    @property
    def address(self) -> str:
        """Return where it listens, HOST:PORT."""
        return f"{self.ip}:{PORT}"

    @property
    def daemon(self) -> str:
        """Return how its process, its log and its configuration are called: pool, pool2, ..."""
        return "pool" if self.number == 1 else f"pool{self.number}"

    @property
    def config(self) -> str:
        """Return its configuration inside the lab."""
        return f"/etc/lab/{self.daemon}.json"

    @property
    def devices(self) -> str:
        """Return the folder of the socket on which its own NVML sees its GPUs."""
        return f"{RUN_INSIDE}/nvml/{self.name}"

    def policy(self, named: bool) -> dict:
        """Return its entry in the policy."""
        entry = {"address": self.address, "gpus": self.gpus, "gpu_memory": f"{GPU_MODEL['memory_mib']} MiB"}
        return {"name": self.name, **entry} if named else entry


def servers(params: LabParams) -> list[PoolServer]:
    """Return the servers of the pool, the leader first."""
    return [PoolServer(number, params.pool_gpus) for number in range(1, params.pool_servers + 1)]


def licence_commands(params: LabParams) -> list[list[str]]:
    """Return the words after `sacctmgr -i` that make a remote licence of each GPU; none for a flat pool."""
    if params.pool_placement == "flat":
        return []
    return [add_licence(gpu, server.name, params.name) for server in servers(params) for gpu in range(server.gpus)]


def add_licence(gpu: int, server: str, cluster: str) -> list[str]:
    """Return the words after `sacctmgr -i` that make the remote licence of one GPU."""
    words = ["add", "resource", f"name=gpu{gpu}", f"server={server}", "type=license", f"count={SLICES_PER_GPU}"]
    return [*words, "allowed=100", f"cluster={cluster}"]
