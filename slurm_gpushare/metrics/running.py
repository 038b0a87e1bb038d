"""One run of a job on this node while the agent knows it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from slurm_gpushare import backends
from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.launch import LaunchRecord
from slurm_gpushare.metrics.accumulate import Accumulator
from slurm_gpushare.metrics.attribution import Share
from slurm_gpushare.metrics.books import Key, key_of
from slurm_gpushare.metrics.pool import PoolJob
from slurm_gpushare.node_policy import NodePolicy
from slurm_gpushare.paths import PYTHON, work_dir

WHOLE_GPU = "gpu"  # the backend of a job that has GPUs of the node and no grant


@dataclass
class RunningJob:
    """One run of a job on this node, with its sums."""

    record: LaunchRecord
    began: float  # monotonic: when its prolog ran; so that a jump of the wall clock changes no duration
    seen: float  # monotonic: when its folder was last there
    gpus: dict[int, Accumulator] = field(default_factory=dict)  # by Slurm's number
    shares: dict[int, Share] = field(default_factory=dict)  # of each of them in the last interval
    pool: PoolJob | None = None
    strays: set[int] = field(default_factory=set)  # GPUs it uses without having been given them, as told already

    @property
    def key(self) -> Key:
        """What tells two runs of a requeued job apart."""
        return key_of(self.record)

    @property
    def fraction(self) -> float:
        """Its share of each of its GPUs."""
        return 1.0 if self.record.grant is None else self.record.grant.fraction

    def sums(self) -> dict[int, Accumulator]:
        """Return its sums by GPU, of a pool by the GPU's number in the job."""
        return self.gpus if self.pool is None else self.pool.sums()

    def memo(self) -> list:
        """Return when it began by this boot's clock, and for how long it was seen to run."""
        return [self.began, self.seen - self.began]


def is_remote(backend: str) -> bool:
    """Tell whether the backend's GPUs are elsewhere; one that is not known here is measured where it has GPUs here."""
    try:
        return backends.find(backend).REMOTE
    except BrokenInstallation:
        return False


def running_job(
    record: LaunchRecord,
    began: float,
    seen: float,
    policy: NodePolicy,
    longest: float,
    say: Callable[[str], None],
    python: str = PYTHON,
    state_dir: str | None = None,
) -> RunningJob:
    """Return a run with sums of nothing yet; ``longest``: seconds between two samples that belong together."""
    job, grant = RunningJob(record, began, seen), record.grant
    if grant is not None and is_remote(grant.backend):
        settings = policy.backends.get(grant.backend)
        work = work_dir(record.node, record.job_id, state_dir)
        job.pool = PoolJob(record, work, settings, python, policy.agent_interval, longest, say, began)
        return job
    kind = WHOLE_GPU if grant is None else grant.backend
    for number in record.gpus:
        name = f"{kind}:{record.node}:{number}"  # until NVML names the device
        job.gpus[number] = Accumulator(record, name, number, kind, job.fraction, "node")
    return job


def only_holder(holders: Sequence[RunningJob], ran: tuple[float, float] | None) -> int | None:
    """Return the one job that a process must be of which ran then and is gone, None where it may be several's.

    ``ran``: seconds since the epoch; None: the process was not seen to be gone.
    """
    if ran is None:
        return None
    begun = [job.record.job_id for job in holders if job.record.started <= ran[1]]
    return begun[0] if len(begun) == 1 else None
