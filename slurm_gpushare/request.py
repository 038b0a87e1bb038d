"""A request in sbatch's own words, and the decision on it: Python's door to etc/slurm/gpushare.lua.

Standard library only.
"""

from dataclasses import dataclass, field

from slurm_gpushare.grant import Grant
from slurm_gpushare.units import parse_nodes, parse_slurm_memory

GRANTED = "granted"
UNTOUCHED = "untouched"
REFUSED = "refused"


@dataclass(frozen=True)
class Request:
    """What a user gives sbatch; None is what was not given. Texts are as written on the command line."""

    gres: str | None = None
    gpus: str | None = None
    gpus_per_node: str | None = None
    gpus_per_task: str | None = None
    gpus_per_socket: str | None = None
    tres_per_task: str | None = None
    cpus_per_gpu: str | None = None
    mem_per_gpu: str | None = None
    ntasks_per_gpu: int | None = None
    cpus_per_task: int | None = None
    mem: str | None = None
    partition: str | None = None
    nodes: str | None = None
    ntasks: int | None = None
    ntasks_per_node: int | None = None
    licenses: str | None = None
    extra: str | None = None
    user: str | None = None
    account: str | None = None
    qos: str | None = None
    options: dict[str, str] = field(default_factory=dict)  # SPANK options: gpu_share, container_image, dataset, …

    def job_desc(self) -> dict[str, object]:
        """Return the fields of Slurm's job_desc that sbatch 24.11 makes of these options (None ones left away).

        A typed share and --gpus-per-task are what cli_filter keeps from being refused or lost.

        Raises
        ------
        ValueError
            The number of nodes, or the amount of memory, is not one.
        """
        low, high = (None, None) if self.nodes is None else parse_nodes(self.nodes)
        # --gpus-per-node and --gres share one field, in this order.
        per_node = ",".join(_gres(text, name) for text, name in ((self.gpus_per_node, "gpu"), (self.gres, "")) if text)
        per_task = ",".join(text for text in (_per_task(self.gpus_per_task), self.tres_per_task) if text)
        options = [f"_SLURM_SPANK_OPTION_gpushare_{name}={text}" for name, text in self.options.items()]
        fields = {
            "tres_per_node": per_node or None,
            "gres": per_node or None,  # the older name of the same field
            "tres_per_job": self.gpus and _gres(self.gpus, "gpu"),
            "tres_per_task": per_task or None,
            "tres_per_socket": self.gpus_per_socket and _gres(self.gpus_per_socket, "gpu"),
            "cpus_per_tres": self.cpus_per_gpu and _gres(self.cpus_per_gpu, "gpu"),
            "mem_per_tres": self.mem_per_gpu and _gres(str(parse_slurm_memory(self.mem_per_gpu)), "gpu"),
            "ntasks_per_tres": self.ntasks_per_gpu,
            "cpus_per_task": self.cpus_per_task,
            "min_mem_per_node": None if self.mem is None else parse_slurm_memory(self.mem),
            "num_tasks": self.ntasks,
            "ntasks_per_node": self.ntasks_per_node,
            "user_name": self.user,
            "account": self.account,
            "qos": self.qos,
            "partition": self.partition,
            "min_nodes": low,
            "max_nodes": high,
            "licenses": self.licenses,
            "extra": self.extra,
            "spank_job_env": options or None,
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True)
class Decision:
    """What gpushare.lua decided."""

    outcome: str  # GRANTED | UNTOUCHED | REFUSED
    grant: Grant | None
    set: dict[str, object]  # fields of the job that change; with a grant, ``extra`` is its text
    message: str | None  # one line for the user
    rule: str
    observed: str | None = None  # what the policy would have done, where it only observes and would have done something


def _per_task(text: str | None) -> str | None:
    return text and _gres(text, "gpu")


def _gres(text: str, name: str) -> str:
    """Return a list as Slurm's clients send it from 23.11 on: each part begins with ``gres/``."""
    return ",".join(f"gres/{name}:{part}" if name else f"gres/{part}" for part in text.split(","))
