"""What a card is, as the configuration of the stand-ins describes it."""

import re
from dataclasses import dataclass, fields

from slurm_gpushare.errors import LabError


@dataclass(frozen=True)
class GpuSpec:
    """One card as the configuration describes it (MiB, watts, CUDA compute capability, minor device number)."""

    uuid: str
    name: str
    memory_mib: int
    idle_watts: int
    max_watts: int
    capability: str
    minor: int

    def __post_init__(self) -> None:
        """Refuse what no card could be. Raises LabError, which names the value."""
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not field.type:
                raise LabError(f"{field.name} of a GPU is {value!r}: it must be of type {field.type.__name__}")
        if not re.fullmatch(r"GPU-[0-9A-Za-z-]{1,80}", self.uuid):
            raise LabError(f"uuid of a GPU is {self.uuid!r}: it must be GPU- and at most 80 letters, digits or dashes")
        if not re.fullmatch(r"[ -~]{1,90}", self.name):
            raise LabError(f"name of a GPU is {self.name!r}: it must be 1 to 90 printable ASCII characters")
        if not re.fullmatch(r"\d{1,2}\.\d", self.capability):
            raise LabError(f"capability of a GPU is {self.capability!r}: it must be written as 6.0")
        if self.memory_mib < 1:
            raise LabError(f"memory_mib of a GPU is {self.memory_mib}: it must be at least 1")
        if not 0 <= self.idle_watts <= self.max_watts:
            raise LabError(f"idle_watts {self.idle_watts} and max_watts {self.max_watts}: 0 <= idle <= max is needed")
        if not 0 <= self.minor <= 254:
            raise LabError(f"minor of a GPU is {self.minor}: it must be 0 to 254")

    @property
    def pci_bus_id(self) -> str:
        """Return where the card sits, in NVML's long form; made from the minor number, so it is unique as that is."""
        return f"00000000:{self.minor + 1:02X}:00.0"


def parse_specs(document: object) -> list[GpuSpec]:
    """Return the GPUs of ``{"gpus": [{…}, …]}``; raise LabError on anything unknown, missing or doubled."""
    if not isinstance(document, dict) or set(document) != {"gpus"} or not isinstance(document["gpus"], list):
        raise LabError('the configuration must be an object with one key, "gpus", whose value is a list')
    names = {field.name for field in fields(GpuSpec)}
    specs = []
    for entry in document["gpus"]:
        if not isinstance(entry, dict) or set(entry) != names:
            raise LabError(f"a GPU is {entry!r}: it must have exactly the keys {', '.join(sorted(names))}")
        specs.append(GpuSpec(**entry))
    for key in ("uuid", "minor"):
        values = [getattr(spec, key) for spec in specs]
        if len(set(values)) != len(values):
            raise LabError(f"two GPUs have the same {key}: {values}")
    return specs
