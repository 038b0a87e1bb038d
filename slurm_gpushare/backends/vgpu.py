"""An NVIDIA vGPU of a node that is a virtual machine: a typed gres/gpu of Slurm's.

Its framebuffer is the hypervisor's partition; how its SMs are shared is the scheduler that the hypervisor was told.
"""

from slurm_gpushare.backends.gpu import begin, binds, epilog, finish, prepare, task_argv, task_environment
from slurm_gpushare.backends.mig import agrees

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

# The framebuffer of a vGPU is its own; the best effort scheduler limits nobody (NVIDIA's vGPU user guide).
ENFORCES = {"memory": "enforced", "compute": "none", "faults": "enforced"}
MODES = {
    "the hypervisor's framebuffer partition, best effort scheduler (its default)": ENFORCES,
    "the same, equal or fixed share scheduler, or a vGPU on a MIG partition": {**ENFORCES, "compute": "enforced"},
}
REMOTE = False
SAMPLED = False
SEES = "share"
