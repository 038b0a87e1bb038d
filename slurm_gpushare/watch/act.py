"""Warns, ends and requeues jobs through Slurm's own commands, in a thread of its own: a slow slurmctld delays nothing.

Text reaches the user by `scontrol notify`: the job's slurmstepd, or srun, writes it to where the user's stderr goes, as
the user; no file of a user's is opened here. What stays is the job's system comment in slurmdbd, which sacct shows and
which no user can set: scontrol cannot set it either, sacctmgr can (24.11.5 and 26.05.5), of running and of ended jobs.
"""

import collections
import threading
import time
from collections.abc import Callable

from slurm_gpushare.slurm.command import SlurmError, run_slurm
from slurm_gpushare.watch.judge import Run

TIMEOUT = 10.0  # seconds for one command
AGAIN = 60.0  # seconds until a job that is still there is cancelled once more: KillWait is 30 by default
_RETRY = 30.0  # seconds until a reason that slurmdbd did not take is tried again ...
_RETRY_FOR = 3600.0  # ... and for how long


class Actor:
    """What is to be done, in order. ``runs`` says whether a run still has its folder here."""

    def __init__(
        self,
        runs: Callable[[Run], bool],
        say: Callable[[str], None],
        command: Callable[[list[str], float], str] = run_slurm,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._runs = runs
        self._say = say
        self._command = command
        self._clock = clock
        self._todo: collections.deque[Callable[[], None]] = collections.deque()
        self._lock = threading.Lock()
        self._cancelled: dict[Run, float] = {}
        self._unwritten: dict[Run, tuple[float, str, str]] = {}  # reasons: until when, of which job, what
        self._retry_at = 0.0
        self._wake = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._serve, name="act", daemon=True)

    def start(self) -> None:
        """Begin to act."""
        self._thread.start()

    def stop(self) -> None:
        """Do what is to be done still, and end."""
        self._stop = True
        self._wake.set()
        self._thread.join(3 * TIMEOUT)

    def warn(self, run: Run, text: str, reason: str | None = None) -> None:
        """Tell the user; and accounting, where there is a ``reason``."""
        self._add(lambda: self._warn(run, text, reason))

    def end(self, run: Run, text: str, reason: str) -> None:
        """Tell the user and cancel the job. Where that was asked for a moment ago, nothing is done."""
        self._once(run, lambda: self._end(run, text, reason))

    def requeue(self, run: Run, text: str, reason: str) -> None:
        """Tell the user and put the job back into the queue, likewise; Slurm refuses it for what is no batch job."""
        self._once(run, lambda: self._requeue(run, text, reason))

    def _once(self, run: Run, act: Callable[[], None]) -> None:
        now = self._clock()
        with self._lock:
            self._cancelled = {one: at for one, at in self._cancelled.items() if now - at < AGAIN}
            if run in self._cancelled:
                return
            self._cancelled[run] = now
        self._add(act)

    def work(self) -> None:
        """Do all that is to be done now."""
        while self._todo:
            act = self._todo.popleft()
            try:
                act()
            except Exception as error:  # what goes wrong for one job must not end the thread that guards all
                self._say(f"{type(error).__name__} {error}")
        if self._unwritten and self._clock() >= self._retry_at:
            self._write()

    def _add(self, act: Callable[[], None]) -> None:
        self._todo.append(act)
        self._wake.set()

    def _serve(self) -> None:
        stopped = False
        while not stopped:
            self._wake.wait(_RETRY)
            self._wake.clear()
            stopped = self._stop  # before the work, so that what was asked before the stop is done
            self.work()

    def _notify(self, run: Run, text: str) -> None:
        if self._runs(run):
            self._try(["scontrol", "notify", str(run[0]), text])

    def _warn(self, run: Run, text: str, reason: str | None) -> None:
        if not self._runs(run):
            return
        self._notify(run, text)
        name = None if reason is None else self._name(run[0])
        if name is not None:
            self._unwritten[run] = (self._clock() + _RETRY_FOR, name, reason)
            self._write()

    def _end(self, run: Run, text: str, reason: str) -> None:
        # A requeued job has the same number: a run that is gone must not end the next one.
        if not self._runs(run):
            return
        self._notify(run, text)
        name = self._name(run[0])
        if name is None or self._try(["scancel", name]) is None:
            with self._lock:
                self._cancelled.pop(run, None)  # so that the next sample tries again
            return
        self._say(f"cancelled job {run[0]}")
        self._unwritten[run] = (self._clock() + _RETRY_FOR, name, reason)
        self._write()

    def _requeue(self, run: Run, text: str, reason: str) -> None:
        if not self._runs(run):
            return
        self._notify(run, text)
        name = self._name(run[0])
        if name is not None:
            # First, and once: as soon as the job is in the queue again, slurmdbd takes its number for the next run.
            self._unwritten.pop(run, None)
            self._try(_comment(name, reason))
        if name is None or self._try(["scontrol", "requeue", name]) is None:
            with self._lock:
                self._cancelled.pop(run, None)
            return
        self._say(f"requeued job {run[0]}")

    def _write(self) -> None:
        self._retry_at = self._clock() + _RETRY
        for run, (until, name, reason) in list(self._unwritten.items()):
            if self._try(_comment(name, reason)) is not None or self._clock() >= until:
                del self._unwritten[run]

    def _name(self, job_id: int) -> str | None:
        """Return what scancel and sacctmgr call this job alone: a task may have its array's number, which means all."""
        text = self._try(["squeue", "--noheader", "--jobs", str(job_id), "--format", "%A %i"])
        names = dict(line.split() for line in (text or "").splitlines() if len(line.split()) == 2)
        return names.get(str(job_id))

    def _try(self, argv: list[str]) -> str | None:
        """Return what a command prints, None where it failed."""
        try:
            return self._command(argv, TIMEOUT)
        except SlurmError as error:
            self._say(str(error))
            return None


def _comment(name: str, reason: str) -> list[str]:
    return ["sacctmgr", "-i", "modify", "job", "where", f"jobid={name}", "set", f"systemcomment={reason}"]
