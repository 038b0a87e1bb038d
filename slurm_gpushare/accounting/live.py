"""What agents measure just now: the newest sample of each node and server, in memory alone, for whom it concerns."""

import threading
import time
from collections.abc import Callable, Container
from dataclasses import asdict, dataclass

from slurm_gpushare.metrics.live import LiveGpu, LiveJob, LiveSample
from slurm_gpushare.metrics.live_sender import PAUSE

SILENT = 4 * PAUSE  # seconds after which a sample no longer says how things are
FORGOTTEN = 7 * 86400.0  # seconds after which an agent is not missed any more


@dataclass(frozen=True)
class _Kept:
    measured: float  # by our clock: those of the nodes may differ
    sample: LiveSample


class LiveBoard:
    """The newest samples; safe for several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._born = clock()
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], _Kept] = {}

    def put(self, sample: LiveSample) -> None:
        """Take a sample that has just arrived."""
        now = self._clock()
        with self._lock:
            self._kept[sample.kind, sample.name] = _Kept(now - sample.age, sample)

    def view(self, uid: int | None, seen: Container[tuple[int, int]] = ()) -> dict:
        """Return what ``uid`` may see: its own jobs, and those in ``seen`` (job's id, uid); None sees all.

        ``{"listening": SECONDS, "agents": [{"kind", "name", "age", "silent", "gpus": […], "jobs": […]}, …]}``. Who may
        not see all sees those jobs, and how busy a GPU is where nobody else's program is on it. Of an agent that is
        silent nothing is told but since when.
        """
        now = self._clock()
        with self._lock:
            self._kept = {key: kept for key, kept in self._kept.items() if now - kept.measured < FORGOTTEN}
            kept = sorted(self._kept.items())
        return {"listening": now - self._born, "agents": [_agent(one, now, uid, seen) for _, one in kept]}


def _agent(kept: _Kept, now: float, uid: int | None, seen: Container[tuple[int, int]]) -> dict:
    def shown(job: LiveJob) -> bool:
        return uid in (None, job.uid) or (job.job_id, job.uid) in seen

    sample, age = kept.sample, max(0.0, now - kept.measured)
    silent = age > SILENT
    jobs = [] if silent else [job for job in sample.jobs if shown(job)]
    others = {job.gpu for job in sample.jobs if not shown(job)}
    own = {job.gpu for job in sample.jobs} - others
    return {
        "kind": sample.kind,
        "name": sample.name,
        "age": age,
        "silent": silent,
        # What is on a GPU that no job is known to hold is somebody's all the same.
        "gpus": [
            _gpu(gpu, silent or gpu.number in others or (uid is not None and gpu.number not in own and gpu.memory != 0))
            for gpu in sample.gpus
        ],
        "jobs": [asdict(job) for job in jobs],
    }


def _gpu(gpu: LiveGpu, bare: bool) -> dict:
    return {**asdict(gpu), **({"sm": None, "memory": None, "power": None} if bare else {})}
