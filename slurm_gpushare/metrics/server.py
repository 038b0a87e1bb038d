"""What jobs used of the GPUs of one server of a pool, as the server's own NVML sees it.

Which of the server's processes is whose nobody tells. So a GPU's use is a job's while Slurm gave the GPU to that job
alone; while several have it, what each used is not known and nothing is divided. An interval waits for the first answer
of Slurm's that was asked for after it: only that one knows of all jobs that began or ended in it.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from slurm_gpushare.launch import LaunchRecord
from slurm_gpushare.metrics.accumulate import Accumulator
from slurm_gpushare.metrics.attribution import Holder, Process, Share, attribute
from slurm_gpushare.metrics.books import Books, key_of
from slurm_gpushare.metrics.checkpoint import Checkpoint
from slurm_gpushare.metrics.figures import Figures, GpuFigures, job_figures, newest
from slurm_gpushare.metrics.gaps import AGENT_DOWN, NO_READING
from slurm_gpushare.metrics.gpu_hours import GpuHours
from slurm_gpushare.metrics.live import SERVER, LiveJob, LiveSample, live_gpu, memory_of
from slurm_gpushare.metrics.nvml import Nvml
from slurm_gpushare.metrics.server_jobs import Answer, Run, ServerJob
from slurm_gpushare.metrics.spool import RUNNING, Outbox, Spool
from slurm_gpushare.metrics.track import Step, Track

# Slurm may forget a job that ended this long ago (MinJobAge, 300 s unless a site has it otherwise).
LONGEST_WAIT = 60.0  # seconds that an interval waits for an answer; then it is a gap

_SEVERAL = "several jobs had the GPU, and the server does not tell whose a process is"
_GRAIN = 1.0  # second: Slurm's times are whole ones, so that a job that ended at 7 was there until 8 at most


@dataclass(frozen=True)
class _Interval:
    start: float  # seconds since the epoch
    end: float
    step: Step


@dataclass
class _Run:
    """One run of a job, from when it is first told of to its record."""

    job: ServerJob
    seen: float  # seconds since the epoch: when Slurm last told of it
    gpus: dict[int, Accumulator] = field(default_factory=dict)  # by the server's number of the GPU
    shares: dict[int, Share] = field(default_factory=dict)  # of each of them in the last interval

    @property
    def record(self) -> LaunchRecord:
        return self.job.record

    def sums(self) -> dict[int, Accumulator]:
        return self.gpus

    def memo(self) -> list:
        return [list(self.job.shares.items()), self.job.ended, self.seen]

    @property
    def began(self) -> float:
        return self.job.record.started

    @property
    def over(self) -> float:
        return math.inf if self.job.ended is None else self.job.ended


class ServerMeter:
    """The GPUs of one server and the jobs that have them."""

    def __init__(
        self,
        backend: str,
        spool: Spool,
        nvml: Nvml,
        latest: Callable[[], Answer | None],
        clock: Callable[[], float],
        longest: float,
        say: Callable[[str], None] = lambda line: None,
        spooled: Callable[[], None] = lambda: None,
        name: str = "",
    ):
        self._backend = backend
        self._nvml = nvml
        self._latest = latest
        self._clock = clock
        self._longest = longest
        self._say = say
        self._born = self._asked = self._sampled = clock()
        self._tracks: dict[int, Track] = {}
        self._settled: dict[int, tuple[_Interval, list[_Run]]] = {}  # the last interval whose jobs are known
        self._waiting: dict[int, list[_Interval]] = {}
        checkpoint = Checkpoint(os.path.join(spool.folder, RUNNING), say)
        self._books = Books(checkpoint, Outbox(spool, say, spooled), GpuHours(name, "server"), say)
        self._books.load(self._go_on)  # its ended runs are those that Slurm still tells of
        self._runs: dict[Run, _Run] = self._books.runs

    def tick(self) -> None:
        """Sample all GPUs, and give what an answer of Slurm's covers to the jobs that it names."""
        self._sample()
        answer = self._latest()
        if answer is not None and answer.asked > self._asked:
            self._take(answer)
        oldest = self._clock() - LONGEST_WAIT
        for number, waiting in self._waiting.items():
            for interval in waiting:
                if interval.end <= oldest:
                    self._not_known(number, interval)
            self._waiting[number] = [each for each in waiting if each.end > oldest]
        self._books.close_hours(self._clock())
        self._books.save()

    def live(self, name: str) -> LiveSample:
        """Return the newest that Slurm has said the jobs of; a job alone on its GPU has what the GPU shows."""
        now = self._clock()
        recent = self._recent(now)
        gpus, jobs = [], []
        for number, (interval, runs) in recent.items():
            seen = live_gpu(number, interval.step.reading)
            gpus.append(seen)
            sm, memory = (seen.sm, seen.memory) if len(runs) == 1 else (None, None)
            for run in runs:
                record, (measured, used) = run.job.record, run.gpus[number].so_far
                jobs.append(
                    LiveJob(record.job_id, record.uid, number, sm, memory, None, record.started, measured, used)
                )
        age = now - min((interval.end for interval, _ in recent.values()), default=now)
        return LiveSample(SERVER, name, max(0.0, age), tuple(gpus), tuple(jobs))

    def figures(self, name: str) -> Figures:
        """Return what Prometheus is shown: the newest that Slurm has said the jobs of, and all that was added up."""
        now = self._clock()
        recent = self._recent(now)
        runs = [run for run in self._runs.values() if run.job.ended is None]
        jobs = [
            job_figures(run.record, number, sums, run.shares.get(number), now - run.began, LONGEST_WAIT)
            for run in runs
            for number, sums in run.gpus.items()
        ]
        gpus = []
        for number, (interval, _) in recent.items():
            whose = self._name(number, interval.step)
            reserved = sum(run.job.shares.get(number, 0.0) for run in runs)
            totals = self._books.hours.totals(whose)
            gpus.append(GpuFigures(live_gpu(number, interval.step.reading), whose, reserved, totals))
        return Figures(SERVER, name, self._sampled, tuple(gpus), newest(jobs))

    def streams(self) -> dict:
        """Return nothing to wait for: nothing is started here."""
        return {}

    def close(self) -> None:
        """Give the driver back. Jobs that still run get their record from the next agent."""
        self._books.close_hours(self._clock(), open_too=True)
        self._books.close()
        self._nvml.close()

    def _recent(self, now: float) -> dict[int, tuple[_Interval, list[_Run]]]:
        return {number: one for number, one in self._settled.items() if now - one[0].end < LONGEST_WAIT}

    def _sample(self) -> None:
        readings = {reading.index: reading for reading in self._nvml.read()}
        faults = {number: each.fault for number, each in readings.items() if each.fault is not None}
        readings = {number: each for number, each in readings.items() if each.fault is None}
        now = self._sampled = self._clock()
        for number in set(self._tracks) - set(readings):
            self._tracks[number].gap()
            self._settled.pop(number, None)
            self._because(number, faults.get(number, NO_READING))
        for number, reading in readings.items():
            if number not in self._tracks:
                self._tracks[number] = Track(self._longest, self._books.powers.get(reading.uuid, (None, None)))
            step = self._tracks[number].step(reading)
            if reading.uuid is not None:
                self._books.powers[reading.uuid] = self._tracks[number].powers
            if step is not None:
                self._waiting.setdefault(number, []).append(_Interval(now - step.seconds, now, step))

    def _take(self, answer: Answer) -> None:
        self._asked = answer.asked
        for key, job in answer.jobs.items():
            if key in self._runs:
                # What it was given is not told in every version once it has ended.
                self._runs[key].job = replace(self._runs[key].job, ended=job.ended)
                self._runs[key].seen = answer.asked
            elif key not in self._books.ended and (job.ended is None or job.ended >= self._born):
                self._begin(job, answer.asked)
        for key, run in self._runs.items():
            if key not in answer.jobs and run.job.ended is None:
                # Requeued or forgotten: when it ended is not known, nor whose the time since the last answer was.
                run.job = replace(run.job, ended=max(run.seen, run.began))
                for number in run.gpus:
                    waiting = self._waiting.get(number, ())
                    self._waiting[number] = [each for each in waiting if each.end <= run.seen]
                    for interval in waiting:
                        if interval.end > run.seen:
                            self._not_known(number, interval)
        for number, waiting in self._waiting.items():
            for interval in waiting:
                if interval.end <= answer.asked:
                    self._attribute(number, interval)
            self._waiting[number] = [each for each in waiting if each.end > answer.asked]
        self._finish(answer)

    def _begin(self, job: ServerJob, asked: float) -> None:
        record, run = job.record, self._run(job, asked)
        if self._born - run.began > self._longest:
            for sums in run.gpus.values():
                sums.because(AGENT_DOWN)
        self._books.begin(run)
        shares = ", ".join(f"{fraction:g} of GPU {number}" for number, fraction in job.shares.items())
        self._say(f"job {record.job_id} of {record.user}: {shares}")

    def _go_on(self, record: LaunchRecord, memo: list, same_boot: bool) -> _Run:
        """Return a run that an earlier agent measured, as _Run.memo tells of it."""
        shares, ended, seen = memo
        job = ServerJob(record, {int(number): float(fraction) for number, fraction in shares}, ended)
        return self._run(job, float(seen))

    def _run(self, job: ServerJob, seen: float) -> _Run:
        record, run = job.record, _Run(job, seen)
        for number, fraction in job.shares.items():
            name = f"{self._backend}:{record.node}:{number}"  # until NVML names the device
            run.gpus[number] = Accumulator(record, name, number, self._backend, fraction, "server")
        return run

    def _attribute(self, number: int, interval: _Interval) -> None:
        start, end, step = interval.start, interval.end, interval.step
        runs = [run for run in self._runs.values() if number in run.gpus]
        runs = [run for run in runs if run.began < end and start < run.over + _GRAIN]
        self._settled[number] = (interval, runs)
        holders = []
        for run in runs:
            run.gpus[number].describe(step.reading)
            held = min(end, run.over) - max(start, run.began)
            if held > 0:
                holders.append(Holder(key_of(run.record), run.job.shares[number], min(held, step.seconds)))
        # All of it is the job's that was alone; the processes are the server's own and do not count those of a job.
        alone = holders[0].job if len(runs) == 1 and holders else None
        device = [Process(0, alone, step.reading.sm, memory_of(step.reading))] if len(runs) <= 1 else None
        interval_of = attribute(step.seconds, step.reading.sm, holders, device, step.energy, step.idle_power)
        self._books.hours.add(self._name(number, step), step.reading.name, end, interval_of)
        for run in runs:
            sums, share = run.gpus[number], interval_of.shares.get(key_of(run.record))
            if len(runs) > 1:
                run.shares.pop(number, None)
                sums.because(_SEVERAL)
            elif share is not None:
                share = replace(share, processes=None, without_process=None, read=None)
                run.shares[number] = share
                sums.add(share, min(end, run.over) - run.began)

    def _not_known(self, number: int, interval: _Interval) -> None:
        """Take an interval of which nobody can tell whose it was."""
        step = interval.step
        whole = attribute(step.seconds, step.reading.sm, [], None, step.energy, step.idle_power)
        self._books.hours.add(self._name(number, step), step.reading.name, interval.end, whole)
        self._because(number, "Slurm did not tell whose it was")

    def _because(self, number: int, why: str) -> None:
        for run in self._runs.values():
            if number in run.gpus:
                run.shares.pop(number, None)
                run.gpus[number].because(why)

    def _name(self, number: int, step: Step) -> str:
        return step.reading.uuid or f"{self._backend}:{number}"

    def _finish(self, answer: Answer) -> None:
        waiting = [each.start for waiting in self._waiting.values() for each in waiting]
        settled = min([answer.asked, *waiting])
        for key, run in list(self._runs.items()):
            if run.over + _GRAIN <= settled:
                found = [each.record(run.over) for each in run.gpus.values()]
                self._say(f"job {run.record.job_id} ended: {len(found)} record(s)")
                self._books.ended.add(key)
                self._books.finish(key, found)
        self._books.ended &= answer.jobs.keys()
