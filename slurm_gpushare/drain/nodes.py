"""One GPU of a node out of service: a job of root's that holds the whole GPU, and one CPU and 1 MiB of the node.

Slurm has no state of a GPU and no way to ask for one by its number, and a reservation with `TRES=gres/gpu` on a named
node takes all its cores (seen on 24.11.5 and 26.05.5). A job with `--gres=gpu:1` gets a GPU that is idle; so as many
are started as there are idle ones, before every other job, and all but the right one are ended again.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from slurm_gpushare.drain.hold import Hold, read_comment
from slurm_gpushare.errors import RefusedError
from slurm_gpushare.node_policy import NodePolicy
from slurm_gpushare.slurm.command import SlurmError, run_slurm
from slurm_gpushare.slurm.jsondata import read_list, words
from slurm_gpushare.slurm.nodes import AWAY, Node
from slurm_gpushare.status.jobs import HeldJob, fetch_jobs, parse_jobs

TIMEOUT = 30.0  # seconds
NAME = "gpushare-drain"  # of the jobs
PARTS = ("mig", "vgpu")  # backends whose GPUs of Slurm's are parts of one

_FIRST = 4294967293  # the priority of the jobs: above what Slurm computes, below its own two special numbers


@dataclass(frozen=True)
class Holder:
    """One job that was made to hold a GPU; it may have got another one, or none."""

    job_id: int
    state: str
    hold: Hold
    gpus: tuple[tuple[str, int], ...]  # (node, GPU)

    @property
    def in_place(self) -> bool:
        """Whether it runs on the GPU that it was made for."""
        return self.state == "RUNNING" and [f"{node}:{gpu}" for node, gpu in self.gpus] == [self.hold.target]


def parse_holders(text: str) -> list[Holder]:
    """Read `squeue --json` of jobs called NAME; raises SlurmError when it is not that."""
    gpus = {job.job_id: tuple((node, gpu) for node in job.gpus for gpu in job.gpus[node]) for job in parse_jobs(text)}
    rows = read_list(text, "jobs", _row, "squeue --json")
    found = []
    for job_id, name, state, comment in rows:
        hold = read_comment(comment, "node", f"job {job_id}")
        if hold is not None and name == NAME:
            found.append(Holder(job_id, state, hold, gpus.get(job_id, ())))
    return found


def _row(data: dict) -> tuple[int, str, str, str]:
    states = words(data.get("job_state"))
    return int(data["job_id"]), str(data.get("name")), states[0] if states else "", str(data.get("comment") or "")


def fetch_holders(slurm_user: int) -> list[Holder]:
    """Ask squeue for such jobs of root and of SlurmUser (its uid); anybody may give a job that name."""
    argv = ["squeue", "--json", "--all", f"--name={NAME}", f"--user=0,{slurm_user}"]
    return parse_holders(run_slurm(argv, TIMEOUT))


def jobs_on(node: str, gpu: int, jobs: Sequence[HeldJob], ours: Sequence[int] = ()) -> list[int]:
    """Return the jobs with a share of a GPU, but for those in ``ours``."""
    return [job.job_id for job in jobs if gpu in job.gpus.get(node, {}) and job.job_id not in ours]


def check(node: Node, gpu: int, jobs: Sequence[HeldJob], policy: NodePolicy | None) -> None:
    """Raise RefusedError where Slurm cannot take this GPU out of service."""
    target = f"{node.name}:{gpu}"
    drain_node = f"`scontrol update nodename={node.name} state=drain reason=...`"
    kind = node.types[gpu] if gpu < len(node.types) else None
    if policy and any(kind in policy.backends[name].types for name in PARTS if name in policy.backends):
        raise RefusedError(
            f"{target} is a part of a GPU ({kind}), whose other parts Slurm does not know to be of the same: take the "
            f"node out of service: {drain_node}"
        )
    # A node that was resumed a moment ago does not respond yet: jobs wait for that.
    if not AWAY.isdisjoint(set(node.state) - {"NOT_RESPONDING"}):
        raise RefusedError(
            f"{target}: {node.name} is {'+'.join(node.state).lower()}, where no job starts that could hold the GPU: "
            f"`scontrol update nodename={node.name} state=resume` first, or leave the whole node out of service"
        )
    if busy := jobs_on(node.name, gpu, jobs):
        raise RefusedError(_busy(target, busy, drain_node))


def _busy(target: str, jobs: Sequence[int], drain_node: str) -> str:
    listed = " ".join(map(str, jobs))
    have, them = ("jobs {} have shares", "they have") if len(jobs) > 1 else ("job {} has a share", "it has")
    return (
        f"{target}: {have.format(listed)} of it, and Slurm cannot keep the rest of a GPU in use from jobs: `scancel "
        f"{listed}`, or wait until {them} ended, and write this again; or take the whole node out of service: "
        f"{drain_node}"
    )


def drain(node: Node, gpu: int, comment: str, partition: str, slurm_user: int, patience: float = 30.0) -> int:
    """Make a job hold the GPU, within ``patience`` seconds; return its id. What ``check`` refuses must not come here.

    Raises
    ------
    RefusedError
        Another job took the GPU first, or Slurm starts no job there now.
    SlurmError
        Slurm refuses the job, or cannot be asked.
    """
    jobs = fetch_jobs()
    idle = sum(not jobs_on(node.name, number, jobs) for number in range(len(node.gpus)))
    made: list[int] = []
    try:
        for _ in range(idle):
            made.append(_submit(node.name, partition, comment))
        kept = _await(node, gpu, made, slurm_user, patience)
        # As it was submitted it has the partition's limit, which only who runs Slurm may pass.
        run_slurm(["scontrol", "update", f"jobid={kept}", "timelimit=UNLIMITED"], TIMEOUT)
        made.remove(kept)
    finally:
        if made:
            run_slurm(["scancel", *map(str, made)], TIMEOUT)
    return kept


def _submit(node: str, partition: str, comment: str) -> int:
    argv = ["sbatch", "--parsable", f"--job-name={NAME}", f"--comment={comment}", f"--partition={partition}"]
    where = [f"--nodelist={node}", "--nodes=1", "--ntasks=1", "--cpus-per-task=1", "--mem=1M", "--gres=gpu:1"]
    how = ["--no-requeue", f"--priority={_FIRST}", "--output=/dev/null", "--chdir=/", "--wrap=exec sleep infinity"]
    try:
        return int(run_slurm([*argv, *where, *how], TIMEOUT).strip().split(";")[0])
    except SlurmError as error:
        raise SlurmError(
            f"Slurm refuses root's job that is to hold the GPU ({error}): is root let into partition {partition}? "
            "Name another of the node's by --partition"
        ) from None


def _await(node: Node, gpu: int, made: Sequence[int], slurm_user: int, patience: float) -> int:
    target = f"{node.name}:{gpu}"
    until = time.monotonic() + patience
    while True:
        holders = [each for each in fetch_holders(slurm_user) if each.job_id in made]
        for holder in holders:
            if holder.in_place and holder.hold.target == target:
                return holder.job_id
        if busy := jobs_on(node.name, gpu, fetch_jobs(), made):
            drain_node = f"`scontrol update nodename={node.name} state=drain reason=...`"
            raise RefusedError(_busy(target, busy, drain_node))
        if time.monotonic() > until:
            raise RefusedError(
                f"{target}: Slurm started no job there within {patience:g} s that could hold it: see that "
                f"{node.name} answers and has a free CPU and 1 MiB, and write this again"
            )
        time.sleep(0.25)


def resume(target: str, slurm_user: int, patience: float = 60.0) -> list[int]:
    """End all jobs that were made to hold ``target``, wherever they are, and wait for their end; return their ids.

    Raises
    ------
    SlurmError
        Slurm cannot be asked, or they do not end within ``patience`` seconds.
    """
    found = [each.job_id for each in fetch_holders(slurm_user) if each.hold.target == target]
    if not found:
        return []
    run_slurm(["scancel", *map(str, found)], TIMEOUT)
    until = time.monotonic() + patience
    while any(each.job_id in found for each in fetch_holders(slurm_user)):
        if time.monotonic() > until:
            raise SlurmError(f"{target}: job {found[0]} does not end: see `scontrol show job {found[0]}`")
        time.sleep(0.25)
    return found
