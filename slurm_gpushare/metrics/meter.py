"""What the agent knows: which jobs hold GPUs of this node, and what each used so far. A tick or an end moves it."""

import os
import time
from collections.abc import Callable

from slurm_gpushare.launch import LaunchRecord
from slurm_gpushare.metrics.attribution import Holder, Process, attribute
from slurm_gpushare.metrics.books import Books, Key, key_of
from slurm_gpushare.metrics.checkpoint import Checkpoint
from slurm_gpushare.metrics.figures import Figures, GpuFigures, job_figures
from slurm_gpushare.metrics.gaps import AGENT_DOWN, NO_READING
from slurm_gpushare.metrics.gpu_hours import GpuHours
from slurm_gpushare.metrics.jobs import JobFolders, ProcessTracer, is_mps_server
from slurm_gpushare.metrics.live import NODE, LiveJob, LiveSample, live_gpu
from slurm_gpushare.metrics.nvml import Nvml
from slurm_gpushare.metrics.pool import PoolAllocation
from slurm_gpushare.metrics.readings import GpuReading, slurm_number
from slurm_gpushare.metrics.running import WHOLE_GPU, RunningJob, only_holder, running_job
from slurm_gpushare.metrics.spool import RUNNING, Outbox, Spool
from slurm_gpushare.metrics.track import Step, Track
from slurm_gpushare.node_policy import NodePolicy
from slurm_gpushare.paths import PYTHON, RUN_DIR, node_dir


class Meter:
    """The jobs of one node and their GPUs."""

    def __init__(
        self,
        node: str,
        policy: NodePolicy,
        spool: Spool,
        run_dir: str = RUN_DIR,
        nvml: Nvml | None = None,
        say: Callable[[str], None] = lambda line: None,
        python: str = PYTHON,
        spooled: Callable[[], None] = lambda: None,
        state_dir: str | None = None,
    ):
        self._node = node
        self._policy = policy
        self._run_dir = run_dir
        self._say = say
        self._python = python
        self._state_dir = state_dir
        self._nvml = nvml or Nvml(say=say)
        self._folders = JobFolders(os.path.join(node_dir(node, run_dir), "jobs"), say)
        self._tracer = ProcessTracer(node)
        self._longest = 2 * policy.agent_interval + 10
        self._tracks: dict[int, Track] = {}
        self._readings: dict[int, GpuReading] = {}  # the last ones
        self._read_at = time.monotonic()
        self._nameless: set[Key] = set()  # runs that hold a share of no GPU that can be named
        checkpoint = Checkpoint(os.path.join(spool.folder, RUNNING), say)
        self._books = Books(checkpoint, Outbox(spool, say, spooled), GpuHours(node, "node"), say)
        self._books.load(self._go_on)
        self._jobs = {run.record.job_id: run for run in self._books.runs.values()}

    def tick(self) -> None:
        """Take up new jobs, sample all GPUs, and finish jobs whose folder went without a word from their epilog."""
        now = time.monotonic()
        records = self._folders.scan()
        runs = {key_of(record) for record in records.values()}
        vanished = [job for job in self._jobs.values() if job.key not in runs]
        # The last part of their time is sampled with them; they cannot have ended before the sample before.
        self._take_up({number: record for number, record in records.items() if number not in self._jobs}, now)
        self._sample()
        for job in vanished:
            self._say(f"job {job.record.job_id}: its folder went without an end from its epilog")
            self._finish(job, min(time.monotonic(), job.seen + self._policy.agent_interval))
        self._take_up(records, now)
        for job in self._jobs.values():
            job.seen = time.monotonic()
            if job.pool is not None:
                job.pool.watch(job.seen)
        self._books.ended &= runs
        self._nameless &= runs
        self._books.close_hours(time.time())
        self._books.save()

    def end(self, job_id: int) -> None:
        """Take a last sample of the job's GPUs and spool its records.

        Raises
        ------
        OSError
            The records are not on disk yet; they are kept and tried again at each tick.
        """
        now = time.monotonic()
        record = self._folders.scan().get(job_id)
        if record is not None and job_id not in self._jobs:
            self._take_up({job_id: record}, now)
        job = self._jobs.get(job_id)
        if job is None:
            return
        if job.gpus:
            self._sample(set(job.gpus))
        self._books.ended.add(job.key)
        if not self._finish(job, time.monotonic()):
            raise OSError("the spool cannot be written")

    def live(self) -> LiveSample:
        """Return what the last tick measured."""
        jobs = []
        for job in self._jobs.values():
            held = job.shares if job.pool is None else job.pool.shares()
            sums = {n: each.so_far for n, each in job.gpus.items()} if job.pool is None else job.pool.so_far()
            for number in held if job.pool is not None else job.gpus:
                share, (measured, used) = held.get(number), sums[number]
                known = share is not None and share.used is not None and share.seconds > 0
                sm = min(1.0, share.used / share.seconds) if known else None
                jobs.append(
                    LiveJob(
                        job.record.job_id,
                        job.record.uid,
                        number if job.pool is None else None,
                        sm,
                        None if share is None else share.memory,
                        job.record.options.get("enforces"),
                        job.record.started,
                        measured,
                        used,
                    )
                )
        gpus = tuple(live_gpu(number, reading) for number, reading in self._readings.items())
        return LiveSample(NODE, self._node, time.monotonic() - self._read_at, gpus, tuple(jobs))

    def figures(self) -> Figures:
        """Return what Prometheus is shown: the last sample, and all that was added up."""
        now = time.monotonic()
        reserved: dict[int, float] = {}
        jobs = []
        for job in self._jobs.values():
            shares = job.shares if job.pool is None else job.pool.shares()
            for number, sums in job.sums().items():
                jobs.append(job_figures(job.record, number, sums, shares.get(number), now - job.began, self._longest))
                if job.pool is None:
                    reserved[number] = reserved.get(number, 0.0) + job.fraction
        gpus = []
        for number, reading in self._readings.items():
            name = self._name(number, reading)
            totals = self._books.hours.totals(name)
            gpus.append(GpuFigures(live_gpu(number, reading), name, reserved.get(number, 0.0), totals))
        return Figures(NODE, self._node, time.time() - (now - self._read_at), tuple(gpus), tuple(jobs))

    def streams(self) -> dict[int, PoolAllocation]:
        """Return the outputs of samplers to wait for, by file descriptor."""
        pools = [job.pool for job in self._jobs.values() if job.pool is not None]
        return {stream: allocation for pool in pools for stream, allocation in pool.streams().items()}

    def close(self) -> None:
        """End the samplers and give the driver back. Jobs that still run get their record from the next agent."""
        for job in self._jobs.values():
            if job.pool is not None:
                job.pool.stop()
        self._books.close_hours(time.time(), open_too=True)
        self._books.close()
        self._nvml.close()

    # jobs

    def _take_up(self, records: dict[int, LaunchRecord], now: float) -> None:
        for job_id, record in records.items():
            key, grant = key_of(record), record.grant
            if key in self._books.ended or (job_id in self._jobs and self._jobs[job_id].key == key):
                continue
            job = self._job(record, now - max(0.0, time.time() - record.started), now)
            if job.gpus or job.pool:
                self._jobs[job_id] = job
                self._books.begin(job)
                self._say(f"job {job_id} of {record.user}: {job.fraction:g} of {len(job.gpus) or grant.gpus} GPU(s)")
                if now - job.began > self._longest:
                    for sums in job.gpus.values():
                        sums.because(AGENT_DOWN)
            elif grant is not None and key not in self._nameless:
                self._nameless.add(key)
                self._say(f"job {job_id}: its launch record names no GPU of this node, so it is not measured")

    def _go_on(self, record: LaunchRecord, memo: list, same_boot: bool) -> RunningJob:
        """Return a run that an earlier agent measured, as RunningJob.memo tells of it."""
        now = time.monotonic()
        began, ran = (float(value) for value in memo)
        if not same_boot:
            began = now - max(0.0, time.time() - record.started)
        return self._job(record, began, min(now, began + ran))

    def _job(self, record: LaunchRecord, began: float, seen: float) -> RunningJob:
        return running_job(record, began, seen, self._policy, self._longest, self._say, self._python, self._state_dir)

    def _finish(self, job: RunningJob, at: float) -> bool:
        """Write the job's records; return whether all that there is to write is on disk."""
        ended = job.record.started + max(0.0, at - job.began)
        if job.pool is not None:
            job.pool.stop()
        records = [each.record(ended) for each in job.sums().values()]
        del self._jobs[job.record.job_id]
        self._say(f"job {job.record.job_id} ended: {len(records)} record(s)")
        return self._books.finish(job.key, records)

    # samples

    def _sample(self, only: set[int] | None = None) -> None:
        readings = self._by_number(self._nvml.read(only))
        faults = {number: each.fault for number, each in readings.items() if each.fault is not None}
        readings = {number: each for number, each in readings.items() if each.fault is None}
        held = {number for job in self._jobs.values() for number in job.gpus}
        for number in (only or held | set(self._tracks)) - set(readings):
            if number in self._tracks:
                self._tracks[number].gap()
            self._not_known(number, faults.get(number, NO_READING))
        self._readings = readings if only is None else {**self._readings, **readings}
        records = {job_id: job.record for job_id, job in self._jobs.items()}
        pids = {each.pid for reading in readings.values() for each in reading.processes or ()}
        owners = self._tracer.trace(pids, records, whole=only is None)
        now = time.monotonic()
        if only is None:
            self._read_at = now
        wall = time.time() - now
        for number, reading in readings.items():
            holders = [job for job in self._jobs.values() if number in job.gpus]
            for job in holders:
                job.gpus[number].describe(reading)
            self._tell_strays(number, reading, owners)
            if number not in self._tracks:
                self._tracks[number] = Track(self._longest, self._books.powers.get(reading.uuid, (None, None)))
            track = self._tracks[number]
            step = track.step(reading)
            if reading.uuid is not None:
                self._books.powers[reading.uuid] = track.powers
            if step is not None:
                self._attribute(number, step, holders, owners, wall)
            elif track.why is not None:
                self._not_known(number, track.why)

    def _not_known(self, number: int, why: str) -> None:
        for job in self._jobs.values():
            if number in job.gpus:
                job.gpus[number].because(why)
                job.shares.pop(number, None)

    def _by_number(self, readings: list[GpuReading]) -> dict[int, GpuReading]:
        """Return the readings by Slurm's numbers; those of parts that MIG made are known of parts that have a job."""
        parts = {
            uuid: number
            for job in self._jobs.values()
            for number, uuid in zip(job.record.gpus, job.record.options.get("devices", ()), strict=False)
        }
        numbers = [parts.get(each.uuid) if each.part else slurm_number(each) for each in readings]
        return {number: each for number, each in zip(numbers, readings, strict=True) if number is not None}

    def _attribute(
        self, number: int, step: Step, holders: list[RunningJob], owners: dict[int, tuple[int, int | None]], wall: float
    ) -> None:
        """Divide an interval among the jobs that have the GPU; ``wall``: the wall clock is ahead by so much."""
        reading = step.reading
        # A part that MIG made tells of itself alone; jobs are reckoned in whole GPUs.
        whole = holders[0].fraction if reading.part and holders else 1.0
        processes = None
        if reading.processes is not None:
            processes = [
                Process(
                    (each.pid, start),
                    job,
                    None if each.sm is None else each.sm * whole,
                    each.memory,
                    job is None and is_mps_server(each.pid),
                    each.ran is not None,
                )
                for each in reading.processes
                for start, job in [owners.get(each.pid) or (0, only_holder(holders, each.ran))]
            ]
        ran = {job.record.job_id: reading.time - job.began for job in holders}
        held = [Holder(job.record.job_id, job.fraction, min(step.seconds, ran[job.record.job_id])) for job in holders]
        held = [each for each in held if each.seconds > 0]
        sm = None if reading.sm is None else reading.sm * whole
        interval = attribute(step.seconds, sm, held, processes, step.energy, step.idle_power)
        self._books.hours.add(self._name(number, reading), reading.name, wall + reading.time, interval)
        for job_id, share in interval.shares.items():
            job = self._jobs[job_id]
            job.shares[number] = share
            job.gpus[number].add(share, ran[job_id])

    def _name(self, number: int, reading: GpuReading) -> str:
        return reading.uuid or f"{WHOLE_GPU}:{self._node}:{number}"

    def _tell_strays(self, number: int, reading: GpuReading, owners: dict[int, tuple[int, int | None]]) -> None:
        for each in reading.processes or ():
            job = self._jobs.get(owners.get(each.pid, (0, None))[1])
            if job is not None and number not in job.gpus and number not in job.strays:
                job.strays.add(number)
                self._say(f"job {job.record.job_id}: its process {each.pid} is on GPU {number}, which it was not given")
