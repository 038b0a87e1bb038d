"""CPU of the agent beside Slurm's own look at the same GPUs (gres/gpuutil, gres/gpumem), both once a second."""

from collections.abc import Iterator

from bench.agent import GPUS, PROCESSES, SECONDS
from bench.lab import Setting, run_program, running
from bench.result import Result
from slurm_gpushare.lab.params import LabParams

AGAINST = "slurmstepd of all jobs for gres/gpuutil"


def run(setting: Setting) -> Iterator[Result]:
    """Yield milliseconds of CPU time per second."""
    with running(setting, wanted=LabParams(f"{setting.lab[:12]}gpus", nodes=1, gpus=GPUS, clients=1)) as lab:
        seconds = setting.runs or SECONDS
        taken = run_program(lab, "polling", {"jobs": PROCESSES, "seconds": seconds})
    yield Result("agent-slurm: CPU per sample", AGAINST, taken["ours"] * 1e3, taken["other"] * 1e3, "ms", seconds)
