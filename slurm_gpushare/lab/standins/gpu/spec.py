"""What a card is, as the configuration of the stand-ins describes it."""

import re
from dataclasses import MISSING, dataclass, fields

from slurm_gpushare.errors import LabError

# The last driver branch that knows Pascal.
DRIVER_VERSION = "580.95.05"
# By nvmlComputeMode_t.
COMPUTE_MODES = {"DEFAULT": 0, "PROHIBITED": 2, "EXCLUSIVE_PROCESS": 3}


# As the driver names the profiles of MIG's instances; +me, +gfx and the like follow.
PROFILE = r"([1-7])g\.([1-9]\d{0,2})gb(\+[a-z.]+)?"


@dataclass(frozen=True)
class MigSpec:
    """One GPU instance of MIG, with one compute instance that has all of it."""

    uuid: str
    profile: str
    gpu_instance: int
    memory_mib: int

    def __post_init__(self) -> None:
        """Refuse what no instance could be. Raises LabError, which names the value."""
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not field.type:
                raise LabError(f"{field.name} of a MIG instance is {value!r}: it must be a {field.type.__name__}")
        if not re.fullmatch(r"MIG-[0-9A-Za-z-]{1,80}", self.uuid):
            raise LabError(f"uuid of a MIG instance is {self.uuid!r}: it must be MIG- and letters, digits or dashes")
        if not re.fullmatch(PROFILE, self.profile):
            raise LabError(f"profile of a MIG instance is {self.profile!r}: it must be written as 1g.5gb")
        if not 0 <= self.gpu_instance <= 14:
            raise LabError(f"gpu_instance of a MIG instance is {self.gpu_instance}: it must be 0 to 14")
        if self.memory_mib < 1:
            raise LabError(f"memory_mib of a MIG instance is {self.memory_mib}: it must be at least 1")

    @property
    def slices(self) -> int:
        """Return how many of the card's compute slices it has."""
        return int(self.profile[0])

    @property
    def profile_gb(self) -> int:
        """Return the gigabytes of memory that its profile is named after."""
        return int(re.fullmatch(PROFILE, self.profile)[2])


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
    compute_mode: str = "DEFAULT"
    mig: tuple = ()  # of MigSpec; with any, the card is in MIG mode

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
        if self.mig and not self.has_mig:
            raise LabError(f"capability of a GPU with mig is {self.capability!r}: it must be 8.0, 9.0 or 10.0")
        if self.compute_mode not in COMPUTE_MODES:
            raise LabError(
                f"compute_mode of a GPU is {self.compute_mode!r}: it must be one of {', '.join(COMPUTE_MODES)}"
            )

    @property
    def before_volta(self) -> bool:
        """Return whether the card is older than compute capability 7.0."""
        return float(self.capability) < 7.0

    @property
    def has_mig(self) -> bool:
        """Return whether MIG could be switched on: A100 and the large cards after it (NVIDIA's MIG user guide)."""
        return float(self.capability) in (8.0, 9.0, 10.0)

    @property
    def has_gpm(self) -> bool:
        """Return whether it has GPM: Hopper and later (nvml.h)."""
        return float(self.capability) >= 9.0

    @property
    def pci_bus_id(self) -> str:
        """Return where the card sits, in NVML's long form; made from the minor number, so it is unique as that is."""
        return f"00000000:{self.minor + 1:02X}:00.0"


def parse_specs(document: object) -> list[GpuSpec]:
    """Return the GPUs of ``{"gpus": [{…}, …]}``; raise LabError on anything unknown, missing or doubled."""
    keys = set(document) - {"driver_version"} if isinstance(document, dict) else set()
    if keys != {"gpus"} or not isinstance(document["gpus"], list):
        raise LabError('the configuration must be an object with the key "gpus", a list, and at most "driver_version"')
    names = {field.name for field in fields(GpuSpec)}
    needed = {field.name for field in fields(GpuSpec) if field.default is MISSING}
    specs = []
    for entry in document["gpus"]:
        if not isinstance(entry, dict) or not needed <= set(entry) <= names:
            may = ", ".join(sorted(names - needed))
            raise LabError(f"a GPU is {entry!r}: it must have the keys {', '.join(sorted(needed))} and may have {may}")
        specs.append(GpuSpec(**{**entry, "mig": _parse_instances(entry.get("mig", []))}))
    for key in ("uuid", "minor"):
        values = [getattr(spec, key) for spec in specs]
        if len(set(values)) != len(values):
            raise LabError(f"two GPUs have the same {key}: {values}")
    return specs


def _parse_instances(entries: object) -> tuple[MigSpec, ...]:
    names = {field.name for field in fields(MigSpec)}
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and set(entry) == names for entry in entries):
        raise LabError(f"mig of a GPU is {entries!r}: it must be a list of objects with {', '.join(sorted(names))}")
    instances = tuple(MigSpec(**entry) for entry in entries)
    if len({instance.gpu_instance for instance in instances}) != len(instances):
        raise LabError("two MIG instances of a GPU have the same gpu_instance")
    return instances


def parse_driver_version(document: dict) -> str:
    """Return the driver's version in the document of ``parse_specs``. Raises LabError."""
    version = document.get("driver_version", DRIVER_VERSION)
    if not isinstance(version, str) or not re.fullmatch(r"\d{3}\.\d{2,3}(\.\d{2})?", version):
        raise LabError(f"driver_version is {version!r}: it must be written as 580.95.05")
    return version
