"""What Slurm says of a job that may be idle, and what the policy says of it. Pure, but for the question itself."""

import json
import re
from collections.abc import Iterable, Mapping

from slurm_gpushare import backends
from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.idle.measured import Part, Source
from slurm_gpushare.metrics.live import NODE, SERVER
from slurm_gpushare.node_policy import IdlePolicy
from slurm_gpushare.slurm.command import SlurmError, run_slurm
from slurm_gpushare.status.jobs import HeldJob, parse_jobs

TIMEOUT = 30.0  # seconds

WARN, END, REQUEUE = "warn", "end", "requeue"

_LICENCE = re.compile(r"gpu([0-9]{1,4})@(.+)")


def fetch(jobs: Iterable[int]) -> dict[int, HeldJob]:
    """Ask squeue for those of ``jobs`` that run or are suspended and hold GPUs; raises SlurmError."""
    chosen = ",".join(str(job) for job in sorted(jobs))
    argv = ["squeue", "--json", "--all", "--states=RUNNING,SUSPENDED", f"--jobs={chosen}"]
    try:
        text = run_slurm(argv, TIMEOUT)
    except SlurmError as error:
        if "Invalid job id" not in str(error):  # said of one job that is gone; of several the others are told
            raise
        text = json.dumps({"jobs": []})
    return {job.job_id: job for job in parse_jobs(text)}


def concerns(job: HeldJob, policy: IdlePolicy) -> bool:
    """Tell whether the policy speaks of this job at all.

    Of a heterogeneous job it does not: one of its components may wait for another.
    """
    if job.backend is None or job.heterogeneous or (job.grant is None and not policy.whole_gpus):
        return False
    mine = {"accounts": job.account, "qos": job.qos, "users": job.user, "partitions": job.partition}
    return not any(all(mine[name] in names for name, names in each.items()) for each in policy.exempt)


def after(job: HeldJob, policy: IdlePolicy) -> float:
    """Return the seconds without use after which the job's owner is told."""
    return policy.after if job.batch or policy.interactive_after is None else policy.interactive_after


def way(job: HeldJob, policy: IdlePolicy) -> str:
    """Return what becomes of the job: only a batch job that may be requeued, and was not too often, is requeued."""
    if policy.action != REQUEUE:
        return policy.action
    return REQUEUE if job.batch and job.requeue and job.restarts < policy.requeue_limit else END


def sources(job: HeldJob, measured: Mapping[Source, Part]) -> set[Source] | None:
    """Return what measures all that the job holds; None where some of it is not measured just now.

    In a pool that Slurm places on, the servers' agents count before what a sampler in the allocation, which is a
    process of the user's, says.
    """
    if not _is_remote(job):
        held = {(NODE, node, number) for node, gpus in job.gpus.items() for number in gpus}
        return held if held and held <= measured.keys() else None
    places = [_LICENCE.fullmatch(name) for name in job.licences]
    held = {(SERVER, match[2], int(match[1])) for match in places if match}
    if held and held <= measured.keys():
        return held
    held = {(NODE, node, None) for node in job.nodes}
    gpus = job.grant.gpus * job.grant.tasks
    return held if held and all(each in measured and measured[each].gpus == gpus for each in held) else None


def _is_remote(job: HeldJob) -> bool:
    try:
        return job.grant is not None and backends.find(job.grant.backend).REMOTE
    except BrokenInstallation:
        return False  # of a newer version: it is measured where Slurm names GPUs of nodes
