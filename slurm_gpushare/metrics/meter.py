"""What the agent knows: which jobs hold GPUs of this node, and what each used so far. A tick or an end moves it."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from slurm_gpushare import backends
from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.launch import LaunchRecord
from slurm_gpushare.metrics.accumulate import Accumulator
from slurm_gpushare.metrics.attribution import Holder, Process, Share, attribute
from slurm_gpushare.metrics.jobs import JobFolders, ProcessTracer
from slurm_gpushare.metrics.live import NODE, LiveJob, LiveSample, live_gpu
from slurm_gpushare.metrics.nvml import GpuReading, Nvml, slurm_number
from slurm_gpushare.metrics.pool import PoolAllocation, PoolJob
from slurm_gpushare.metrics.spool import Outbox, Spool
from slurm_gpushare.metrics.track import Step, Track
from slurm_gpushare.node_policy import NodePolicy
from slurm_gpushare.paths import PYTHON, RUN_DIR, node_dir, work_dir

WHOLE_GPU = "gpu"  # the backend of a job that has GPUs of the node and no grant


@dataclass
class RunningJob:
    """One run of a job on this node while the agent knows it."""

    record: LaunchRecord
    began: float  # monotonic: when its prolog ran; so that a jump of the wall clock changes no duration
    seen: float  # monotonic: when its folder was last there
    gpus: dict[int, Accumulator] = field(default_factory=dict)  # by Slurm's number
    shares: dict[int, Share] = field(default_factory=dict)  # of each of them in the last interval
    pool: PoolJob | None = None
    strays: set[int] = field(default_factory=set)  # GPUs it uses without having been given them, as told already

    @property
    def key(self) -> tuple[int, float]:
        """What tells two runs of a requeued job apart."""
        return self.record.job_id, self.record.started

    @property
    def fraction(self) -> float:
        """Its share of each of its GPUs."""
        return 1.0 if self.record.grant is None else self.record.grant.fraction


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
        self._outbox = Outbox(spool, say, spooled)
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
        self._jobs: dict[int, RunningJob] = {}
        self._nameless: set[tuple[int, float]] = set()  # runs that hold a share of no GPU that can be named
        self._ledger = os.path.join(node_dir(node, run_dir), "agent.ended")
        self._ended: set[tuple[int, float]] = self._read_ledger()

    def tick(self) -> None:
        """Take up new jobs, sample all GPUs, and finish jobs whose folder went without a word from their epilog."""
        now = time.monotonic()
        records = self._folders.scan()
        vanished = [job for job in self._jobs.values() if self._run_of(records.get(job.record.job_id)) != job.key]
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
        present = {self._run_of(record) for record in records.values()}
        if not self._ended <= present:
            self._ended &= present
            self._write_ledger()
        self._nameless &= present
        self._outbox.write()

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
        self._ended.add(job.key)
        if not self._finish(job, time.monotonic()):
            raise OSError("the spool cannot be written")
        self._write_ledger()

    def live(self) -> LiveSample:
        """Return what the last tick measured."""
        jobs = []
        for job in self._jobs.values():
            held = dict(job.shares) if job.pool is None else job.pool.shares()
            for number in held if job.pool is not None else job.gpus:
                share = held.get(number)
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
                    )
                )
        gpus = tuple(live_gpu(number, reading) for number, reading in self._readings.items())
        return LiveSample(NODE, self._node, time.monotonic() - self._read_at, gpus, tuple(jobs))

    def streams(self) -> dict[int, PoolAllocation]:
        """Return the outputs of samplers to wait for, by file descriptor."""
        pools = [job.pool for job in self._jobs.values() if job.pool is not None]
        return {stream: allocation for pool in pools for stream, allocation in pool.streams().items()}

    def close(self) -> None:
        """End the samplers and give the driver back. Jobs that still run get their record from the next agent."""
        for job in self._jobs.values():
            if job.pool is not None:
                job.pool.stop()
        self._nvml.close()

    # jobs

    @staticmethod
    def _run_of(record: LaunchRecord | None) -> tuple[int, float] | None:
        return None if record is None else (record.job_id, record.started)

    def _take_up(self, records: dict[int, LaunchRecord], now: float) -> None:
        for job_id, record in records.items():
            key = self._run_of(record)
            if key in self._ended or (job_id in self._jobs and self._jobs[job_id].key == key):
                continue
            grant = record.grant
            job = RunningJob(record, now - max(0.0, time.time() - record.started), now)
            if grant is not None and self._is_remote(grant.backend):
                job.pool = PoolJob(
                    record,
                    work_dir(self._node, job_id, self._state_dir),
                    self._policy.backends.get(grant.backend),
                    self._python,
                    self._policy.agent_interval,
                    self._longest,
                    self._say,
                )
            else:
                kind = WHOLE_GPU if grant is None else grant.backend
                for number in record.gpus:
                    name = f"{kind}:{record.node}:{number}"  # until NVML names the device
                    job.gpus[number] = Accumulator(record, name, number, kind, job.fraction, "node")
            if job.gpus or job.pool:
                self._jobs[job_id] = job
                self._say(f"job {job_id} of {record.user}: {job.fraction:g} of {len(job.gpus) or grant.gpus} GPU(s)")
            elif grant is not None and key not in self._nameless:
                self._nameless.add(key)
                self._say(f"job {job_id}: its launch record names no GPU of this node, so it is not measured")

    @staticmethod
    def _is_remote(backend: str) -> bool:
        try:
            return backends.find(backend).REMOTE
        except BrokenInstallation:
            return False  # it is measured where its record names GPUs of this node

    def _finish(self, job: RunningJob, at: float) -> bool:
        """Write the job's records; return whether all that there is to write is on disk."""
        ended = job.record.started + max(0.0, at - job.began)
        if job.pool is not None:
            job.pool.stop()
            records = job.pool.records(ended)
        else:
            records = [each.record(ended) for each in job.gpus.values()]
        del self._jobs[job.record.job_id]
        self._say(f"job {job.record.job_id} ended: {len(records)} record(s)")
        return self._outbox.write(records)

    # samples

    def _sample(self, only: set[int] | None = None) -> None:
        readings = self._by_number(self._nvml.read(only))
        for number in (only or set(self._tracks)) - set(readings):
            if number in self._tracks:
                self._tracks[number].gap()
            for job in self._jobs.values():
                job.shares.pop(number, None)
        self._readings = readings if only is None else {**self._readings, **readings}
        records = {job_id: job.record for job_id, job in self._jobs.items()}
        pids = {each.pid for reading in readings.values() for each in reading.processes or ()}
        owners = self._tracer.trace(pids, records, whole=only is None)
        now = time.monotonic()
        if only is None:
            self._read_at = now
        for number, reading in readings.items():
            holders = [job for job in self._jobs.values() if number in job.gpus]
            for job in holders:
                job.gpus[number].gpu = reading.uuid or job.gpus[number].gpu
                job.gpus[number].gpu_name = reading.name
            self._tell_strays(number, reading, owners)
            step = self._tracks.setdefault(number, Track(self._longest)).step(reading)
            if step is not None and holders:
                self._attribute(number, step, holders, owners, now)

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
        self, number: int, step: Step, holders: list[RunningJob], owners: dict[int, tuple[int, int | None]], now: float
    ) -> None:
        processes = None
        if step.reading.processes is not None:
            processes = [
                Process((each.pid, start), job, each.sm, each.memory)
                for each in step.reading.processes
                for start, job in [owners.get(each.pid, (0, None))]
            ]
        held = [Holder(job.record.job_id, job.fraction, min(step.seconds, now - job.began)) for job in holders]
        interval = attribute(step.seconds, step.reading.sm, held, processes, step.energy, step.idle_power)
        for job in holders:
            job.shares[number] = interval.shares[job.record.job_id]
            job.gpus[number].add(job.shares[number])

    def _tell_strays(self, number: int, reading: GpuReading, owners: dict[int, tuple[int, int | None]]) -> None:
        for each in reading.processes or ():
            job = self._jobs.get(owners.get(each.pid, (0, None))[1])
            if job is not None and number not in job.gpus and number not in job.strays:
                job.strays.add(number)
                self._say(f"job {job.record.job_id}: its process {each.pid} is on GPU {number}, which it was not given")

    # the ledger: runs whose record is written while their folder still stands, so that no agent counts them again

    def _read_ledger(self) -> set[tuple[int, float]]:
        try:
            with open(self._ledger, encoding="ascii") as stream:
                return {(int(job_id), float(started)) for job_id, started in json.load(stream)}
        except (OSError, ValueError, TypeError):
            return set()

    def _write_ledger(self) -> None:
        try:
            with open(self._ledger + ".new", "w", encoding="ascii") as stream:
                json.dump(sorted(self._ended), stream)
            os.replace(self._ledger + ".new", self._ledger)
        except OSError as error:
            self._say(f"{self._ledger}: {error}")
