"""Writes summaries of ended jobs into their AdminComment, in a thread of its own: a slow slurmdbd holds up no record.

What is to be written is compared with what stands there: an equal text is not written again, and only an empty
AdminComment or one of ours is replaced. So nothing is to be remembered: a start looks at the last days again.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from slurm_gpushare.accounting.report import match
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.accounting.summary import MOST, encode, is_ours, summarise
from slurm_gpushare.errors import StoreError
from slurm_gpushare.slurm.command import SlurmError, run_slurm
from slurm_gpushare.slurm.ended import EndedRun, fetch_ended, node_names
from slurm_gpushare.usage import UsageRecord

BATCH = 100  # jobs in one question to sacct
SETTLE = 10.0  # seconds after a record in which those of other nodes and slurmdbd's own end arrive
TIMEOUT = 20.0  # seconds for one sacctmgr
LOOK_BACK = 3 * 86400.0  # seconds before the start whose jobs are looked at again
_RETRY_FIRST = 5.0  # seconds until a job that has not ended, or whom slurmdbd did not take, is tried again; doubles ...
_RETRY_MOST = 300.0  # ... up to this
_FAILURES = 3  # of sacctmgr in a row: then it is away, and the others of the batch are not tried
_PAUSE = 1.0  # seconds between two looks at what is due
_STOP = 5.0  # seconds that a command under way gets at the end
_UNENDED = 3600.0  # seconds after which a run without an end is let go: its next record, or a start, names it again
_MOST = 100_000  # jobs that wait; beyond these the next start looks at them

Job = tuple[str, int]  # cluster, Slurm's raw id


@dataclass
class _Waiting:
    due: float
    since: float
    pause: float = _RETRY_FIRST


class Summaries:
    """The jobs whose summary is to be written."""

    def __init__(
        self,
        store: Store,
        say: Callable[[str], None],
        fetch: Callable[[str, Iterable[int]], list[EndedRun]] = fetch_ended,
        names: Callable[[str], list[str]] = node_names,
        command: Callable[[list[str], float], str] = run_slurm,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._store = store
        self._say = say
        self._fetch = fetch
        self._names = names
        self._command = command
        self._clock = clock
        self._waiting: dict[Job, _Waiting] = {}
        self._lock = threading.Lock()
        self._most = BATCH
        self._told = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="summaries", daemon=True)

    def start(self) -> None:
        """Begin, with the jobs of the last days."""
        self._thread.start()

    def stop(self) -> None:
        """End after the command under way; what is left is found again at the next start."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_STOP)

    def offer(self, records: Iterable[UsageRecord]) -> None:
        """Say that these records are in the store."""
        self._add({(record.cluster, record.job_id) for record in records})

    def look_back(self) -> None:
        """Take up the jobs with usage of the last days; raises StoreError."""
        now = time.time()
        self._add(self._store.jobs_with_usage(now - LOOK_BACK, now + 86400))

    def work(self) -> None:
        """Do all that is due."""
        now = self._clock()
        due = defaultdict(list)
        with self._lock:
            for (cluster, job_id), waiting in self._waiting.items():
                if waiting.due <= now:
                    due[cluster].append(job_id)
        for cluster, jobs in due.items():
            jobs.sort()
            while jobs and not self._stop.is_set():
                batch, jobs = jobs[: self._most], jobs[self._most :]
                if self._batch(cluster, batch):
                    self._most = min(BATCH, self._most * 2)
                    continue
                # Either Slurm is away, or one of them has more steps than it tells of in time: halves find that one,
                # and the others come before it the next time.
                self._most = max(1, len(batch) // 2)
                for job in jobs:
                    self._later(cluster, job, self._waiting[cluster, job], more=False)
                break

    def _add(self, jobs: Iterable[Job]) -> None:
        now, left = self._clock(), 0
        with self._lock:
            for job in jobs:
                if job in self._waiting or len(self._waiting) < _MOST:
                    self._waiting[job] = _Waiting(now + SETTLE, now)
                else:
                    left += 1
        if left:
            self._say(f"{left} jobs get no summary before the next start: {_MOST} wait already")

    def _run(self) -> None:
        looked = False
        while not self._stop.is_set():
            try:
                if not looked:
                    self.look_back()
                    looked = True
                self.work()
            except Exception as error:  # what goes wrong for one job must not end the summaries of all
                self._tell(f"{type(error).__name__} {error}")
            self._stop.wait(_PAUSE)

    def _batch(self, cluster: str, jobs: list[int]) -> bool:
        """Do some jobs; return False where nothing could be read of them."""
        asked = {job: self._waiting[cluster, job] for job in jobs}
        try:
            runs = self._fetch(cluster, jobs)
            records = self._store.usage_of(cluster, jobs)
        except (SlurmError, StoreError) as error:
            self._tell(f"summaries wait: {error}")
            for job, waiting in asked.items():
                self._later(cluster, job, waiting)
            return False
        last: dict[int, EndedRun] = {}
        for run in runs:
            if run.job_id in asked and (run.job_id not in last or run.key > last[run.job_id].key):
                last[run.job_id] = run
        of_run, _ = match(runs, records)
        failures = 0
        for job, waiting in asked.items():
            run = last.get(job)
            if self._stop.is_set():
                break
            # sacctmgr changes the last run of a requeued job alone.
            if run is None or run.end is None:
                over = self._clock() - waiting.since >= _UNENDED
            else:
                over = failures < _FAILURES and self._write(run, of_run[run.key])
                failures = 0 if over else failures + 1
            (self._done if over else self._later)(cluster, job, waiting)
        return True

    def _write(self, run: EndedRun, records: list[UsageRecord]) -> bool:
        """Write the summary of one run; return False where that is to be tried again."""
        if run.admin_comment and not is_ours(run.admin_comment):
            return True
        try:
            summary = summarise(run, self._names(run.nodelist), records)
            if summary is None:
                return True
            text = encode(summary)
            if text == run.admin_comment:
                return True
            if len(text) > MOST:
                self._say(f"job {run.name}: its summary has {len(text)} bytes, more than the {MOST} that Slurm keeps")
                return True
            where = ["where", f"jobid={run.name}", f"cluster={run.cluster}"]
            self._command(["sacctmgr", "-i", "modify", "job", *where, "set", f"admincomment={text}"], TIMEOUT)
        except SlurmError as error:
            self._tell(f"job {run.name}: its summary waits: {error}")
            return False
        self._tell("")
        return True

    def _later(self, cluster: str, job: int, was: _Waiting, more: bool = True) -> None:
        with self._lock:
            if self._waiting.get((cluster, job)) is was:  # else a record came meanwhile, which says when
                pause, after = (was.pause, min(_RETRY_MOST, was.pause * 2)) if more else (_RETRY_FIRST, was.pause)
                self._waiting[cluster, job] = _Waiting(self._clock() + pause, was.since, after)

    def _done(self, cluster: str, job: int, was: _Waiting) -> None:
        with self._lock:
            if self._waiting.get((cluster, job)) is was:
                del self._waiting[cluster, job]

    def _tell(self, line: str) -> None:
        """Say a failure once, not again at each try."""
        if line and line != self._told:
            self._say(line)
        elif not line and self._told:
            self._say("summaries are written again")
        self._told = line
