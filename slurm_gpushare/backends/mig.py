"""A part of a GPU that MIG made: a typed gres/gpu of Slurm's, with memory, SMs and caches of its own.

Slurm tells the job's programs the part by CUDA_VISIBLE_DEVICES, by the UUID of the MIG device where gres.conf has
AutoDetect=nvml.
"""

from slurm_gpushare.backends import gpu
from slurm_gpushare.backends.gpu import binds, epilog, finish, prepare, task_argv, task_environment

__all__ = [
    "ENFORCES",
    "MODES",
    "REMOTE",
    "SAMPLED",
    "SEES",
    "agrees",
    "begin",
    "binds",
    "epilog",
    "finish",
    "prepare",
    "task_argv",
    "task_environment",
]

# Memory, its bandwidth, caches and SMs are apart in hardware (NVIDIA's MIG user guide).
ENFORCES = {"memory": "enforced", "compute": "enforced", "faults": "enforced"}
MODES = {"the hardware's own partitions": ENFORCES}
REMOTE = False
SAMPLED = False
SEES = "share"

# A grant has its fraction in decimals, of which Lua writes twelve.
ROUNDING = 1e-9


def begin(record, settings, environment: dict[str, str]) -> dict:
    """Return the UUIDs of the job's parts, in the order of their numbers, by which the agent finds them.

    Slurm tells them where its gres.conf has AutoDetect=nvml; from lines of device files it knows numbers alone.
    """
    devices = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if len(devices) != len(record.gpus) or not all(device.startswith("MIG-") for device in devices):
        return {}
    return {"devices": devices}


def agrees(grant, environment: dict[str, str], settings) -> str | None:
    """Return why the grant is not believed: Slurm gave another number of GPUs here, or no type is such a part."""
    if not any(
        abs(each["fraction"] - grant.fraction) < ROUNDING and each["memory"] in (None, grant.memory)
        for each in settings.types.values()
    ):
        known = ", ".join(f"{name} ({each['fraction']:.4g} of a GPU)" for name, each in settings.types.items())
        return f"the grant is of parts with {grant.fraction:.4g} of a GPU, and here are only {known or 'none'}"
    return gpu.agrees(grant, environment, settings)
