"""A request in sbatch's own words, and the decision on it: Python's door to etc/slurm/gpushare.lua.

Standard library only.
"""

from dataclasses import dataclass, field

from slurm_gpushare.grant import Grant
from slurm_gpushare.units import parse_nodes

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
    cpus_per_gpu: str | None = None
    mem_per_gpu: str | None = None
    ntasks_per_gpu: int | None = None
    partition: str | None = None
    nodes: str | None = None
    licenses: str | None = None
    extra: str | None = None
    options: dict[str, str] = field(default_factory=dict)  # SPANK options: container_image, dataset, …

    def job_desc(self) -> dict[str, object]:
        """Return the fields of Slurm's job_desc that sbatch 24.11 makes of these options (None ones left away).

        Raises
        ------
        ValueError
            The number of nodes is not one.
        """
        low, high = (None, None) if self.nodes is None else parse_nodes(self.nodes)
        # --gpus-per-node and --gres share one field, in this order.
        per_node = ",".join(_gres(text, name) for text, name in ((self.gpus_per_node, "gpu"), (self.gres, "")) if text)
        options = [f"_SLURM_SPANK_OPTION_gpushare_{name}={text}" for name, text in self.options.items()]
        fields = {
            "tres_per_node": per_node or None,
            "gres": per_node or None,  # the older name of the same field
            "tres_per_job": self.gpus and _gres(self.gpus, "gpu"),
            "tres_per_task": self.gpus_per_task and _gres(self.gpus_per_task, "gpu"),
            "tres_per_socket": self.gpus_per_socket and _gres(self.gpus_per_socket, "gpu"),
            "cpus_per_tres": self.cpus_per_gpu and _gres(self.cpus_per_gpu, "gpu"),
            "mem_per_tres": self.mem_per_gpu and _gres(self.mem_per_gpu, "gpu"),
            "ntasks_per_tres": self.ntasks_per_gpu,
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


def _gres(text: str, name: str) -> str:
    """Return a list as Slurm's clients send it from 23.11 on: each part begins with ``gres/``."""
    return ",".join(f"gres/{name}:{part}" if name else f"gres/{part}" for part in text.split(","))
