"""Bring a lab up, run the scenario, print the accounting report: `make demo`."""

import time

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab import cluster
from slurm_gpushare.lab.demo import scenario
from slurm_gpushare.lab.demo.command import run, say
from slurm_gpushare.lab.inside import run_text
from slurm_gpushare.lab.params import LabParams
from slurm_gpushare.lab.progress import Progress
from slurm_gpushare.lab.samples import put_samples

LAB = "demo"


def demonstrate() -> None:
    """Run the whole demonstration; raises LabError."""
    progress = Progress(say)
    began = time.monotonic()
    say("== A whole Slurm cluster on this machine: real daemons, real Apptainer; the GPUs are stand-ins")
    cluster.up(LabParams(name=LAB), progress)
    put_samples(LAB, progress)
    say("\n== Five quarters of the pool's one GPU, and a whole and a half GPU of the nodes' own")
    numbers = [scenario.submit(LAB, job, say) for job in scenario.JOBS]
    ended = scenario.follow(LAB, numbers, say)
    together, waited = scenario.overlap(ended, numbers[:5])
    if not (together and waited):
        raise LabError(f"the four quarters did not share the GPU as they should: {ended}")
    say(f"\n== What job {numbers[0]} printed, in its container")
    for line in run_text(LAB, ["cat", f"/home/alice/{numbers[0]}.out"]).splitlines():
        if "unseen digits" in line or "Locked" in line:
            say(line)
    say("\n== When they ran")
    wanted = ",".join(map(str, numbers))
    say(run_text(LAB, ["sacct", "-Xj", wanted, "-o", "JobID%5,User%5,State,Start,End,AllocTRES%70"]).rstrip())
    say("\n== root# gpushare report jobs")
    say(run_text(LAB, ["env", "COLUMNS=132", "gpushare", "report", "jobs"]).rstrip())
    spent = time.monotonic() - began
    say(f"\nFour quarters of one GPU ran at one time, the fifth waited for one of them: {spent:.0f} s.")
    say(f"The lab stays up: .venv/bin/gpushare lab exec --name {LAB} --user alice -- sbatch …")
    say(f"To stop it: .venv/bin/gpushare lab down --name {LAB}")


if __name__ == "__main__":
    run(demonstrate)
