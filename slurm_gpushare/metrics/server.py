"""What jobs used of the GPUs of one server of a pool, as the server's own NVML sees it.

Which of the server's processes is whose nobody tells. So a GPU's use is a job's while Slurm gave the GPU to that job
alone; while several have it, what each used is not known and nothing is divided. An interval waits for the first answer
of Slurm's that was asked for after it: only that one knows of all jobs that began or ended in it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from slurm_gpushare.metrics.accumulate import Accumulator
from slurm_gpushare.metrics.attribution import Holder, Process, attribute
from slurm_gpushare.metrics.live import SERVER, LiveJob, LiveSample, live_gpu, memory_of
from slurm_gpushare.metrics.nvml import Nvml
from slurm_gpushare.metrics.server_jobs import Answer, Run, ServerJob
from slurm_gpushare.metrics.spool import Outbox, Spool
from slurm_gpushare.metrics.track import Step, Track

# Slurm may forget a job that ended this long ago (MinJobAge, 300 s unless a site has it otherwise).
LONGEST_WAIT = 60.0  # seconds that an interval waits for an answer; then it is a gap

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
    sums: dict[int, Accumulator] = field(default_factory=dict)  # by the server's number of the GPU

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
    ):
        self._backend = backend
        self._outbox = Outbox(spool, say, spooled)
        self._nvml = nvml
        self._latest = latest
        self._clock = clock
        self._longest = longest
        self._say = say
        self._born = self._asked = clock()
        self._tracks: dict[int, Track] = {}
        self._settled: dict[int, tuple[_Interval, list[_Run]]] = {}  # the last interval whose jobs are known
        self._waiting: dict[int, list[_Interval]] = {}
        self._runs: dict[Run, _Run] = {}
        self._done: set[Run] = set()  # recorded, and still told of by Slurm

    def tick(self) -> None:
        """Sample all GPUs, and give what an answer of Slurm's covers to the jobs that it names."""
        self._sample()
        answer = self._latest()
        if answer is not None and answer.asked > self._asked:
            self._take(answer)
        oldest = self._clock() - LONGEST_WAIT
        for number, waiting in self._waiting.items():
            self._waiting[number] = [each for each in waiting if each.end > oldest]
        self._outbox.write()

    def live(self, name: str) -> LiveSample:
        """Return the newest that Slurm has said the jobs of; a job alone on its GPU has what the GPU shows."""
        now = self._clock()
        recent = {number: one for number, one in self._settled.items() if now - one[0].end < LONGEST_WAIT}
        gpus, jobs = [], []
        for number, (interval, runs) in recent.items():
            seen = live_gpu(number, interval.step.reading)
            gpus.append(seen)
            sm, memory = (seen.sm, seen.memory) if len(runs) == 1 else (None, None)
            jobs += [LiveJob(run.job.record.job_id, run.job.record.uid, number, sm, memory) for run in runs]
        age = now - min((interval.end for interval, _ in recent.values()), default=now)
        return LiveSample(SERVER, name, max(0.0, age), tuple(gpus), tuple(jobs))

    def streams(self) -> dict:
        """Return nothing to wait for: nothing is started here."""
        return {}

    def close(self) -> None:
        """Give the driver back. Jobs that still run get their record from the next agent."""
        self._nvml.close()

    def _sample(self) -> None:
        readings = {reading.index: reading for reading in self._nvml.read()}
        now = self._clock()
        for number in set(self._tracks) - set(readings):
            self._tracks[number].gap()
            self._settled.pop(number, None)
        for number, reading in readings.items():
            step = self._tracks.setdefault(number, Track(self._longest)).step(reading)
            if step is not None:
                self._waiting.setdefault(number, []).append(_Interval(now - step.seconds, now, step))

    def _take(self, answer: Answer) -> None:
        before, self._asked = self._asked, answer.asked
        for key, job in answer.jobs.items():
            if key in self._runs:
                # What it was given is not told in every version once it has ended.
                self._runs[key].job = replace(self._runs[key].job, ended=job.ended)
            elif key not in self._done and (job.ended is None or job.ended >= self._born):
                self._begin(key, job)
        for key, run in self._runs.items():
            if key not in answer.jobs and run.job.ended is None:
                # Requeued or forgotten: when it ended is not known, nor whose the time since the last answer was.
                run.job = replace(run.job, ended=max(before, run.began))
                for number in run.sums:
                    self._waiting[number] = [each for each in self._waiting.get(number, ()) if each.end <= before]
        for number, waiting in self._waiting.items():
            for interval in waiting:
                if interval.end <= answer.asked:
                    self._attribute(number, interval)
            self._waiting[number] = [each for each in waiting if each.end > answer.asked]
        self._finish(answer)

    def _begin(self, key: Run, job: ServerJob) -> None:
        record = job.record
        self._runs[key] = run = _Run(job)
        for number, fraction in job.shares.items():
            name = f"{self._backend}:{record.node}:{number}"  # until NVML names the device
            run.sums[number] = Accumulator(record, name, number, self._backend, fraction, "server")
        shares = ", ".join(f"{fraction:g} of GPU {number}" for number, fraction in job.shares.items())
        self._say(f"job {record.job_id} of {record.user}: {shares}")

    def _attribute(self, number: int, interval: _Interval) -> None:
        start, end, step = interval.start, interval.end, interval.step
        runs = [run for run in self._runs.values() if number in run.sums]
        runs = [run for run in runs if run.began < end and start < run.over + _GRAIN]
        self._settled[number] = (interval, runs)
        for run in runs:
            run.sums[number].gpu = step.reading.uuid or run.sums[number].gpu
            run.sums[number].gpu_name = step.reading.name
        if len(runs) != 1:
            return
        (run,) = runs
        held = min(end, run.over) - max(start, run.began)
        if held <= 0:
            return
        holder = Holder(0, run.job.shares[number], min(held, step.seconds))
        device = [Process(0, 0, step.reading.sm, memory_of(step.reading))]
        interval_of = attribute(step.seconds, step.reading.sm, [holder], device, step.energy, step.idle_power)
        # The processes are the server's own and do not count those of the job.
        run.sums[number].add(replace(interval_of.shares[0], processes=None))

    def _finish(self, answer: Answer) -> None:
        waiting = [each.start for waiting in self._waiting.values() for each in waiting]
        settled = min([answer.asked, *waiting])
        records = []
        for key, run in list(self._runs.items()):
            if run.over + _GRAIN <= settled:
                found = [each.record(run.over) for each in run.sums.values()]
                self._say(f"job {run.job.record.job_id} ended: {len(found)} record(s)")
                records += found
                self._done.add(key)
                del self._runs[key]
        self._done &= answer.jobs.keys()
        self._outbox.write(records)
