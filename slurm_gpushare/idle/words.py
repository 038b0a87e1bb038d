"""What is said of a job that does not use its share: to its owner, and in accounting. Pure."""

from slurm_gpushare.idle.candidate import END, REQUEUE, WARN
from slurm_gpushare.status.jobs import HeldJob
from slurm_gpushare.watch.words import SAYS

_NOW = {END: "the job is ended now", REQUEUE: "the job goes back into the queue now"}
_THEN = {END: "ended", REQUEUE: "put back into the queue"}
_DONE = {WARN: "warned", END: "ended", REQUEUE: "requeued"}


def warned(job: HeldJob, unused: float, way: str, grace: float) -> str:
    """Return the line that the owner reads first; ``way`` is what comes ``grace`` seconds later."""
    fact = f"{SAYS}{_fact(job, unused)}: "
    if way == WARN:
        return f"{fact}others may wait for it; end the job when you no longer need it (scancel {job.name})"
    return f"{fact}unless it uses it, it is {_THEN[way]} in {duration(grace)}"


def acted(job: HeldJob, unused: float, way: str) -> str:
    """Return the line that the owner reads when the job is ended or requeued."""
    return f"{SAYS}{_fact(job, unused)}: {_NOW[way]}"


def reason(job: HeldJob, unused: float, way: str) -> str:
    """Return what was done and why, as sacct and reports show it; nothing that sacctmgr reads as its own syntax."""
    return f"{SAYS}{_DONE[way]} by the idle policy: {_fact(job, unused)}"


def duration(seconds: float) -> str:
    """Return seconds in the two largest units that say something, such as ``1 h 5 min``."""
    whole = int(seconds)
    if whole < 120:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def _fact(job: HeldJob, unused: float) -> str:
    return f"job {job.name} has held {_share(job)} for {duration(unused)} without use"


def _share(job: HeldJob) -> str:
    if job.grant is None:
        gpus = sum(len(each) for each in job.gpus.values())
        return "a GPU" if gpus == 1 else f"{gpus} GPUs"
    gpus = job.grant.gpus * job.grant.tasks * max(1, len(job.nodes))
    if job.grant.fraction == 1:
        return "a GPU" if gpus == 1 else f"{gpus} GPUs"
    return f"{job.grant.fraction:g} of {'a GPU' if gpus == 1 else f'each of {gpus} GPUs'}"
