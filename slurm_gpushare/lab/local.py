"""The nodes of the local backends of a lab that was asked for them: what the files of the lab say of them. Pure.

Each has a node, a partition and a section of the policy of its name's, and nothing else of the lab changes.
"""

import uuid
from dataclasses import dataclass, field

from slurm_gpushare.lab.params import GPU_MODEL, LOCAL_NODES, SHARDS_PER_GPU, LabParams, gpu_list

V100 = {
    "name": "Tesla V100-PCIE-16GB",
    "memory_mib": 16160,
    "idle_watts": 25,
    "max_watts": 250,
    "capability": "7.0",
}
A100 = {
    "name": "NVIDIA A100-PCIE-40GB",
    "memory_mib": 40960,
    "idle_watts": 35,
    "max_watts": 250,
    "capability": "8.0",
}
# What a virtual machine sees of an A40 through the profile A40-12Q.
A40_12Q = {
    "name": "NVIDIA A40-12Q",
    "memory_mib": 12288,
    "idle_watts": 30,
    "max_watts": 300,
    "capability": "8.6",
}


@dataclass(frozen=True)
class Instance:
    """A GPU instance of MIG with its one compute instance, which is all of it."""

    profile: str
    number: int  # its id on the card
    memory_mib: int

    @property
    def capabilities(self) -> dict[str, int]:
        """Return the device nodes of the GPU instance and of the compute instance, on GPU 0: minor by name."""
        # As /proc/driver/nvidia-caps/mig-minors numbers them: nine for each GPU instance, from 3 on.
        part = f"gpu0/gi{self.number}"
        return {f"{part}/access": 3 + 9 * self.number, f"{part}/ci0/access": 4 + 9 * self.number}


# Seven slices of compute and eight of memory: the whole card. Ids as the driver numbers each profile's, memory as
# nvidia-smi shows it (NVIDIA MIG user guide, "Creating GPU instances").
INSTANCES = (
    Instance("3g.20gb", 2, 20096),
    Instance("2g.10gb", 3, 9984),
    Instance("1g.5gb", 9, 4864),
    Instance("1g.5gb", 10, 4864),
)


@dataclass(frozen=True)
class LocalNode:
    """One node, whose backend's name is its partition's."""

    backend: str
    gpus: int
    model: dict
    type: str  # Slurm's, of a whole GPU
    instances: tuple[Instance, ...] = ()
    settings: dict = field(default_factory=dict)  # of the policy's section

    @property
    def name(self) -> str:
        """Return the node's name."""
        return LOCAL_NODES[self.backend]

    @property
    def capabilities(self) -> dict[str, int]:
        """Return the number of each of its /dev/nvidia-caps/nvidia-capN by the driver's name for it."""
        return {name: minor for instance in self.instances for name, minor in instance.capabilities.items()}

    @property
    def shared(self) -> bool:
        """Whether Slurm shares its GPUs by shards."""
        return self.backend in ("mps", "hami")

    @property
    def types(self) -> dict[str, int]:
        """Return Slurm's types of its GPUs and how many there are of each."""
        if not self.instances:
            return {self.type: self.gpus}
        named = [f"{self.type}_{instance.profile}" for instance in self.instances]
        return {name: named.count(name) for name in named}

    @property
    def gres(self) -> str:
        """Return its Gres in slurm.conf."""
        words = [f"gpu:{name}:{count}" for name, count in self.types.items()]
        return ",".join(words + ([f"shard:{self.gpus * SHARDS_PER_GPU}"] if self.shared else []))

    def gres_conf(self, autodetect: bool) -> list[str]:
        """Return its lines of gres.conf; with ``autodetect`` Slurm asks NVML which parts of GPUs there are."""
        node = f"NodeName={self.name}"
        if self.instances and autodetect:
            return [f"{node} AutoDetect=nvml"]
        if self.instances:
            return [
                f"{node} Name=gpu Type={self.type}_{instance.profile} MultipleFiles=/dev/nvidia0,"
                + ",".join(f"/dev/nvidia-caps/nvidia-cap{minor}" for minor in instance.capabilities.values())
                for instance in self.instances
            ]
        devices = f"/dev/nvidia[0-{self.gpus - 1}]" if self.gpus > 1 else "/dev/nvidia0"
        lines = [f"{node} Name=gpu Type={self.type} File={devices}"]
        return lines + ([f"{node} Name=shard Count={self.gpus * SHARDS_PER_GPU}"] if self.shared else [])

    def inventory(self, lab: str) -> list[dict]:
        """Return its GPUs for the stand-in's configuration."""
        gpus = gpu_list(lab, self.name, self.gpus, self.model)
        if self.instances:
            gpus[0]["mig"] = [
                {
                    "uuid": f"MIG-{uuid.uuid5(uuid.NAMESPACE_OID, f'{lab}/{self.name}/mig/{instance.number}')}",
                    "profile": instance.profile,
                    "gpu_instance": instance.number,
                    "memory_mib": instance.memory_mib,
                }
                for instance in self.instances
            ]
        return gpus


def _memory(kind: str, model: dict) -> dict:
    memory = f"{model['memory_mib']} MiB"
    return {"gpu_memory": memory, "types": {kind: {"gpu_memory": memory}}}


NODES = (
    LocalNode("mps", 2, V100, "v100", settings=_memory("v100", V100)),
    LocalNode(
        "mig",
        1,
        A100,
        "a100",
        INSTANCES,
        {"types": {f"a100_{part.profile}": {"gpu": "A100-PCIE-40GB", "profile": part.profile} for part in INSTANCES}},
    ),
    LocalNode("vgpu", 1, A40_12Q, "a40-12q", settings={"types": {"a40-12q": {"gpu": "A40", "profile": "A40-12Q"}}}),
    LocalNode("hami", 2, GPU_MODEL, "p100", settings=_memory("p100", GPU_MODEL)),
)


def nodes(params: LabParams) -> list[LocalNode]:
    """Return the nodes of the backends that the lab was asked for."""
    return [node for node in NODES if getattr(params, node.backend)]
