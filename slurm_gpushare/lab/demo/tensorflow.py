"""Four jobs with a quarter of a GPU each train a network with TensorFlow, in a container: `make demo-tensorflow`."""

import time

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab import cluster
from slurm_gpushare.lab.demo import scenario
from slurm_gpushare.lab.demo.command import run, say
from slurm_gpushare.lab.inside import run_text
from slurm_gpushare.lab.params import LabParams
from slurm_gpushare.lab.progress import Progress
from slurm_gpushare.lab.samples import TENSORFLOW, put_samples

LAB = "demotf"
TRAIN = (
    "exec gpu-workload --gpu 0 --sm 20 --memory 3G -- "
    "python3 /opt/benchmark/cnn_benchmark.py --model=lenet --data_dir=/datasets/digits --num_batches=300"
)
OPTIONS = ("--partition=bitfusion", f"--container-image={TENSORFLOW.path}", "--dataset=digits")
JOBS = [scenario.Job(user, "gpu:0.25", OPTIONS, TRAIN) for user in ("alice", "bob", "alice", "bob")]
DEADLINE = 400.0  # seconds: four TensorFlows start on what processors this machine has
GOOD = 0.9  # of the digits that it has not seen


def demonstrate() -> None:
    """Run the whole demonstration; raises LabError."""
    progress = Progress(say)
    say("== A whole Slurm cluster on this machine: real daemons, Apptainer and TensorFlow; the GPUs are stand-ins")
    cluster.up(LabParams(name=LAB), progress)
    put_samples(LAB, progress, TENSORFLOW)
    began = time.monotonic()
    say("\n== Four quarters of the pool's one GPU: each trains a convolutional network on images of digits")
    numbers = [scenario.submit(LAB, job, say) for job in JOBS]
    ended = scenario.follow(LAB, numbers, say, DEADLINE)
    if max(start for _, start, _ in ended.values()) >= min(end for _, _, end in ended.values()):
        raise LabError(f"the four quarters did not run at one time: {ended}")
    for job, number in zip(JOBS, numbers, strict=True):
        text = run_text(LAB, ["cat", f"/home/{job.user}/{number}.out"])
        say(f"\n== What job {number} of {job.user} printed, in its container")
        words = ("Framework", "Model", "Dataset", "total images/sec", "Accuracy")
        lines = [line for line in text.splitlines() if line.startswith(words)]
        for line in lines:
            say(line)
        right = [float(line.split()[4]) for line in lines if line.startswith("Accuracy")]
        if not right or right[0] < GOOD:
            raise LabError(f"job {number} did not learn the digits: {right or 'no accuracy told'}")
    say("\n== root# gpushare report jobs")
    say(run_text(LAB, ["env", "COLUMNS=132", "gpushare", "report", "jobs"]).rstrip())
    say(
        f"\nFour jobs trained with TensorFlow at one time, a quarter of one GPU each: {time.monotonic() - began:.0f} s."
    )
    say(f"The lab stays up: .venv/bin/gpushare lab exec --name {LAB} --user alice -- sbatch …")
    say(f"To stop it: .venv/bin/gpushare lab down --name {LAB}")


if __name__ == "__main__":
    run(demonstrate)
