"""Which jobs hold the GPUs of one server of a pool: read from the licences gpuN@SERVER that Slurm gave them."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from slurm_gpushare.errors import GpushareError
from slurm_gpushare.launch import LaunchRecord
from slurm_gpushare.node_policy import NodePolicy
from slurm_gpushare.slurm.command import SlurmError, run_slurm
from slurm_gpushare.slurm.jsondata import number, read_list, words
from slurm_gpushare.slurm.licences import parse_choices

PAUSE = 5.0  # seconds between two questions
TIMEOUT = 30.0  # seconds

_RUNNING = {"RUNNING", "SUSPENDED"}
# Those that ended are listed for MinJobAge: so no job is too short to be seen, and its end is known to the second.
_STATES = (
    "RUNNING,SUSPENDED,COMPLETING,COMPLETED,FAILED,CANCELLED,TIMEOUT,NODE_FAIL,PREEMPTED,OUT_OF_MEMORY,DEADLINE,"
    "BOOT_FAIL"
)

Run = tuple[int, float]  # job id, when it started


@dataclass(frozen=True)
class ServerJob:
    """One run of a job that has, or had, GPUs of the server."""

    record: LaunchRecord  # its node is the server, its GPUs are the server's numbers
    shares: dict[int, float]  # of each of these GPUs
    ended: float | None  # seconds since the epoch; None: it has not


@dataclass(frozen=True)
class Answer:
    """What Slurm said."""

    asked: float  # seconds since the epoch, before the question
    jobs: dict[Run, ServerJob]


def find_backend(server: str, policy: NodePolicy) -> str:
    """Return the backend that has ``server``.

    Raises
    ------
    GpushareError
        None has it, or its placement is flat, where Slurm does not know on which GPU a job is.
    """
    for name, backend in policy.backends.items():
        if server in backend.servers and backend.placement != "flat":
            return name
    placed = {name for backend in policy.backends.values() if backend.placement != "flat" for name in backend.servers}
    if placed:
        raise GpushareError(f"server {server!r} is not in the policy: write one of {', '.join(sorted(placed))}")
    raise GpushareError(
        f"server {server!r}: with a flat placement Slurm does not know whose its GPUs are: set the policy's "
        "`placement` to pinned or first_fit, or run no agent here"
    )


def parse_jobs(text: str, server: str, slices_per_gpu: int) -> dict[Run, ServerJob]:
    """Return the runs of `squeue --json` that have GPUs of ``server``; raises SlurmError when it is not that."""
    found = read_list(text, "jobs", lambda data: _job(data, server, slices_per_gpu), "squeue --json")
    return {(job.record.job_id, job.record.started): job for job in found if job is not None}


def fetch_jobs(server: str, slices_per_gpu: int) -> dict[Run, ServerJob]:
    """Ask squeue for the jobs that have, or lately had, GPUs of ``server``; raises SlurmError."""
    return parse_jobs(run_slurm(["squeue", "--json", "--all", f"--states={_STATES}"], TIMEOUT), server, slices_per_gpu)


def _job(data: dict, server: str, slices_per_gpu: int) -> ServerJob | None:
    try:
        # Of several choices only the first says which it was; older versions know no choices and have no such field.
        held = parse_choices(data.get("licenses_allocated") or data.get("licenses") or "")
    except ValueError:
        return None  # of a form that no licence of ours has
    started, states = number(data.get("start_time")), set(words(data.get("job_state")))
    # A job that was cancelled before it ran has a start too, but no node.
    if len(held) != 1 or not started or "PENDING" in states or not data.get("nodes"):
        return None
    names = ((re.fullmatch(r"gpu([0-9]{1,4})@(.+)", name), count) for name, count in held[0].items())
    shares = {int(m[1]): min(1.0, count / slices_per_gpu) for m, count in names if m is not None and m[2] == server}
    if not shares:
        return None
    record = LaunchRecord(
        job_id=int(data["job_id"]),
        uid=int(data["user_id"]),
        gid=int(data["group_id"]),
        user=str(data.get("user_name") or data["user_id"]),
        node=server,
        cluster=str(data["cluster"]),
        started=float(started),
        grant=None,
        gpus=tuple(shares),
    )
    return ServerJob(record, shares, None if states & _RUNNING else float(number(data.get("end_time")) or started))


class JobWatch(threading.Thread):
    """Asks Slurm again and again beside the loop that samples, which a slow slurmctld must not hold up."""

    def __init__(self, ask: Callable[[], dict[Run, ServerJob]], say: Callable[[str], None], pause: float = PAUSE):
        super().__init__(name="jobs", daemon=True)
        self.latest: Answer | None = None
        self._ask = ask
        self._say = say
        self._pause = pause
        self._ending = threading.Event()

    def run(self) -> None:
        """Ask until ``stop``; where there is no answer the last one stays."""
        told = ""
        while True:
            asked = time.time()
            try:
                self.latest = Answer(asked, self._ask())
                line = "Slurm tells which jobs have this server's GPUs"
            except SlurmError as error:
                line = f"Slurm does not tell which jobs have this server's GPUs: {error}"
            if line != told:
                told = line
                self._say(line)
            if self._ending.wait(self._pause):
                return

    def stop(self) -> None:
        """Ask no more."""
        self._ending.set()
