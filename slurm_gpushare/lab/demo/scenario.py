"""The demonstration as jobs: four quarters of one GPU at once, a fifth that waits, two jobs beside them."""

import time
from dataclasses import dataclass

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.inside import run, run_text

IMAGE = "--container-image=/data/images/digits.sif"
# The images of the lab hold no GPU code that the stand-in GPUs could run: the load is declared beside the training.
TRAIN = "exec gpu-workload --gpu 0 --sm {sm} --memory {memory} -- python3 /opt/digits/digits.py --epochs {epochs}"


@dataclass(frozen=True)
class Job:
    """One job of the demonstration."""

    user: str
    request: str
    options: tuple[str, ...]
    command: str


POOL = ("--partition=bitfusion", IMAGE, "--dataset=digits")
NODE = (IMAGE, "--dataset=digits")

JOBS = (
    *(
        Job(user, "gpu:0.25", POOL, TRAIN.format(sm=20, memory="3G", epochs=1200))
        for user in ("alice", "bob", "alice", "bob")
    ),
    Job("alice", "gpu:0.25", POOL, TRAIN.format(sm=20, memory="3G", epochs=300)),
    Job("alice", "gpu:1", NODE, TRAIN.format(sm=85, memory="9G", epochs=700)),
    Job("bob", "gpu:0.5", NODE, TRAIN.format(sm=35, memory="5G", epochs=700)),
)

OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
DEADLINE = 120.0  # seconds until the last job must have ended


def submit(lab: str, job: Job, say) -> int:
    """Submit one job and return its id; ``say`` is given what the user types and is told. Raises LabError."""
    options = ["--parsable", f"--gres={job.request}", *job.options, f"--output=/home/{job.user}/%j.out"]
    said = run(lab, ["sbatch", *options], job.user, stdin=f"#!/bin/sh\n{job.command}\n")
    number = int(said.stdout.split(";")[0])
    say(f"{job.user}$ sbatch --gres={job.request} {' '.join(job.options)} train.sh")
    for line in said.stderr.splitlines():
        say(f"  {line}")
    say(f"  Submitted batch job {number}")
    return number


def follow(lab: str, numbers: list[int], say, seconds: float = DEADLINE) -> dict[int, tuple[str, str, str]]:
    """Wait until every job has ended, telling what runs and what waits; return id → (state, start, end).

    Raises LabError when one does not end in ``seconds`` or does not succeed.
    """
    wanted = ",".join(map(str, numbers))
    before, deadline = "", time.monotonic() + seconds
    while True:
        lines = run_text(lab, ["squeue", "-h", "-a", "-o", "%i %T %r", "-j", wanted]).splitlines()
        running = [line.split()[0] for line in lines if line.split()[1] == "RUNNING"]
        waiting = [f"{line.split()[0]} ({line.split()[2]})" for line in lines if line.split()[1] == "PENDING"]
        now = f"running {' '.join(running) or 'none'}; waiting {' '.join(waiting) or 'none'}"
        if now != before:
            say(f"  {now}")
            before = now
        if not any(line.split()[1] in ("RUNNING", "PENDING", "COMPLETING", "CONFIGURING") for line in lines):
            break
        if time.monotonic() > deadline:
            raise LabError(f"jobs: {now} after {seconds:.0f} s")
        time.sleep(0.5)
    rows = run_text(lab, ["sacct", "-XnPj", wanted, "-o", "JobIDRaw,State,Start,End"]).splitlines()
    ended = {int(row.split("|")[0]): tuple(row.split("|")[1:]) for row in rows}
    for number in numbers:
        if ended.get(number, ("missing",))[0] != "COMPLETED":
            raise LabError(f"job {number} ended as {ended.get(number, ('missing',))[0]}, not COMPLETED")
    return ended


def overlap(ended: dict[int, tuple[str, str, str]], quarters: list[int]) -> tuple[bool, bool]:
    """Return whether the first four to start ran at one time, and whether the fifth began after one of them ended."""
    spans = sorted(ended[number][1:] for number in quarters)
    together = max(start for start, _ in spans[:4]) < min(end for _, end in spans[:4])
    return together, spans[4][0] >= min(end for _, end in spans[:4])
