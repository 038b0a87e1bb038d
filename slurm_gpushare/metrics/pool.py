"""Samples a job that has its GPUs in a pool: runs the sampler in the job's allocation, as the job's user.

The work folder and every line of the sampler are the user's; nothing of theirs is believed unchecked.
"""

import itertools
import math
import os
import pwd
import signal
import stat
import subprocess
from collections.abc import Callable

from slurm_gpushare import backends
from slurm_gpushare.launch import LaunchRecord
from slurm_gpushare.metrics.accumulate import Accumulator
from slurm_gpushare.metrics.attribution import Holder, Process, Share, attribute
from slurm_gpushare.metrics.readings import GpuReading
from slurm_gpushare.metrics.sampler import LONGEST_LINE, decode
from slurm_gpushare.metrics.track import Track
from slurm_gpushare.node_policy import BackendPolicy
from slurm_gpushare.usage import UsageRecord

NO_SAMPLER = "no sampler in the allocation"
ALLOCATION_PREFIX = "bitfusion"  # the client names its allocation file so (bitfusion215848399)

_MOST_NAMES = 1000  # of the user's work folder that are looked at
# From one start of the sampler to the next: twice as long each time. It is tried for as long as the job has the
# allocation, which a pool takes back when nobody is connected to it (auto_release_timeout, 10 min by default).
_RETRY_FIRST = 2.0  # seconds
_RETRY_LONGEST = 60.0  # seconds
_END_SECONDS = 0.3  # from SIGTERM to SIGKILL: the epilog waits for us


def find_allocation(work: str, uid: int) -> str | None:
    """Return the path of the job's allocation file: a plain file of the user's with the client's prefix."""
    try:
        with os.scandir(work) as entries:
            for entry in itertools.islice(entries, _MOST_NAMES):
                if entry.name.startswith(ALLOCATION_PREFIX):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and status.st_uid == uid:
                        return entry.path
    except OSError:
        pass
    return None


class PoolJob:
    """One pool job on this node: its allocations, of which each task has one where the grant says so."""

    def __init__(
        self,
        job: LaunchRecord,
        work: str,
        settings: BackendPolicy | None,
        python: str,
        interval: float,
        longest: float,
        say: Callable[[str], None],
        began: float | None = None,
    ):
        sampler = [python, "-I", "-m", "slurm_gpushare.metrics.sampler", "--interval", f"{interval:g}"]
        numbers = range(job.grant.tasks)
        self.allocations = [
            PoolAllocation(job, number, work, settings, sampler, longest, say, began) for number in numbers
        ]

    def streams(self) -> dict[int, "PoolAllocation"]:
        """Return the outputs of samplers to wait for, by file descriptor."""
        return {each.stream: each for each in self.allocations if each.stream is not None}

    def watch(self, now: float) -> None:
        """Start a sampler in each allocation that has none, and end those whose allocation is gone."""
        for each in self.allocations:
            each.watch(now)

    def stop(self) -> None:
        """End the samplers with all that they started."""
        for each in self.allocations:
            each.terminate()
        for each in self.allocations:
            each.stop()

    def shares(self) -> dict[int, Share]:
        """Return what was measured last, by the GPU's number among those of the job on this node."""
        return {number: share for each in self.allocations for number, share in each.shares.items()}

    def sums(self) -> dict[int, Accumulator]:
        """Return what was added up so far, by the GPU's number in the job."""
        return {number: sums for each in self.allocations for number, sums in each.sums().items()}

    def so_far(self) -> dict[int, tuple[float, float | None]]:
        """Return each GPU's seconds of known use and what was used in them, by its number as in ``shares``."""
        return {number: sums.so_far for each in self.allocations for number, sums in each.sums().items()}

    def records(self, ended: float) -> list[UsageRecord]:
        """Return one record for each GPU of each allocation, with quality unknown where there was no sample."""
        return [record for each in self.allocations for record in each.records(ended)]


class PoolAllocation:
    """One allocation of a pool job: its sampler and its sums, one per GPU."""

    def __init__(
        self,
        job: LaunchRecord,
        number: int,
        work: str,
        settings: BackendPolicy | None,
        sampler: list[str],
        longest: float,
        say: Callable[[str], None],
        began: float | None = None,
    ):
        self._job = job
        grant = job.grant
        # As the launcher has it: each task's allocation has a folder of its own.
        self._work = os.path.join(work, str(number)) if grant.tasks > 1 else work
        # The same GPU may be in several allocations of a job; each has a record of its own.
        self._suffix = f"/{number}" if grant.tasks > 1 else ""
        self._argv = None
        self._say = say
        backend = backends.find(grant.backend)
        place = job.places[number] if number < len(job.places) else None
        if settings is not None and backend.SAMPLED:
            self._argv = backend.task_argv(grant, settings, "sampler", sampler, None)
            self._environment = backend.task_environment(self._work, settings, place)
        self._first = first = number * grant.gpus
        self._sums = [
            Accumulator(job, f"{grant.backend}:{job.node}:{index}", index, grant.backend, grant.fraction, "allocation")
            for index in range(first, first + grant.gpus)
        ]
        for sums in self._sums:
            sums.because(NO_SAMPLER)
        self._began = began  # monotonic; None: intervals follow on each other
        self._tracks = [Track(longest) for _ in self._sums]
        self.shares: dict[int, Share] = {}  # of the last intervals, by the GPU's number in the job
        self._process: subprocess.Popen | None = None
        self._allocation: str | None = None
        self._tries = 0
        self._retry_at = 0.0
        self._rest = b""
        self._read_since_watch = 0
        self._last_text = ""

    @property
    def stream(self) -> int | None:
        """The sampler's output to be waited for, None when no sampler runs."""
        return None if self._process is None else self._process.stdout.fileno()

    def watch(self, now: float) -> None:
        """Start the sampler where there is an allocation and none runs; end it where the allocation is gone."""
        self._read_since_watch = 0
        allocation = find_allocation(self._work, self._job.uid)
        if allocation != self._allocation:
            self.stop()
            self._allocation, self._tries, self._retry_at = allocation, 0, 0.0
        wanted = allocation is not None and self._argv is not None
        if wanted and self._process is None and now >= self._retry_at:
            self._retry_at = now + min(_RETRY_LONGEST, _RETRY_FIRST * 2**self._tries)
            self._tries = min(self._tries + 1, 16)
            self._start()

    def readable(self, now: float) -> None:
        """Read what the sampler has printed; notice its end."""
        try:
            data = os.read(self.stream, 1 << 16)
        except BlockingIOError:
            return
        if not data:
            self._ended()
            return
        self._read_since_watch += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line, now)
        if max(len(self._rest), self._read_since_watch) > LONGEST_LINE:
            self._say(f"job {self._job.job_id}: the sampler printed over {LONGEST_LINE} bytes at once and is ended")
            self._retry_at = math.inf
            self.stop()

    def terminate(self) -> None:
        """Tell the sampler to end."""
        if self._process is not None:
            try:
                os.killpg(self._process.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass

    def stop(self) -> None:
        """End the sampler with all that it started."""
        process, self._process, self._rest = self._process, None, b""
        self.shares.clear()
        for track, sums in zip(self._tracks, self._sums, strict=True):
            track.gap()
            sums.because(NO_SAMPLER)
        if process is None:
            return
        for number, seconds in ((signal.SIGTERM, _END_SECONDS), (signal.SIGKILL, 5.0)):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                pass
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
        process.stdout.close()

    def sums(self) -> dict[int, Accumulator]:
        """Return what was added up so far, by the GPU's number in the job."""
        return dict(enumerate(self._sums, self._first))

    def records(self, ended: float) -> list[UsageRecord]:
        """Return one record for each GPU of the grant, with quality unknown where there was no sample."""
        return [each.record(ended) for each in self._sums]

    def _start(self) -> None:
        job = self._job
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/"} | self._environment
        groups = [job.gid]
        try:
            user = pwd.getpwuid(job.uid)
            environment |= {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
            groups = os.getgrouplist(user.pw_name, job.gid)
        except KeyError:
            pass  # a directory service may be away; the job runs all the same
        try:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=environment,
                user=job.uid,
                group=job.gid,
                extra_groups=groups,
                umask=0o077,
                start_new_session=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            self._say(f"job {job.job_id}: {self._argv[0]}: {error}")
            return
        os.set_blocking(self._process.stdout.fileno(), False)
        self._say(f"job {job.job_id}: sampling its allocation {os.path.basename(self._allocation)!r:.80}")

    def _ended(self) -> None:
        process = self._process
        self.stop()
        # Where the allocation has ended too, `watch` sees it and nothing was wrong.
        if find_allocation(self._work, self._job.uid) == self._allocation:
            word = self._last_text or "no word"
            self._say(f"job {self._job.job_id}: the sampler ended with {process.returncode}: {word}")

    def _take(self, line: bytes, now: float) -> None:
        if not line.startswith(b"{"):
            # The client's own messages; the last one is told should the sampler end.
            self._last_text = ascii(line[:200].decode("utf-8", "replace"))
            return
        try:
            readings = decode(line, now)
        except ValueError as error:
            self._last_text = ascii(str(error)[:200])
            return
        seen = {reading.index for reading in readings}
        for index, track in enumerate(self._tracks):
            if index not in seen:
                track.gap()
                self._sums[index].because("the sampler gave no reading of this GPU")
                self.shares.pop(self._first + index, None)
        for reading in readings:
            if reading.index < len(self._sums):
                self._add(reading)

    def _add(self, reading: GpuReading) -> None:
        sums = self._sums[reading.index]
        sums.describe(reading, self._suffix)
        step = self._tracks[reading.index].step(reading)
        if step is None:
            return
        self._tries = 0
        job = self._job.job_id
        processes = None
        if reading.processes is not None:
            # Whatever runs in the allocation is the job's.
            processes = [Process(each.pid, job, each.sm, each.memory) for each in reading.processes]
        fraction = self._job.grant.fraction
        # Power is the whole card's there, and what others do on it cannot be seen from the allocation of a part.
        energy = step.energy if fraction >= 1 else None
        holder = Holder(job, fraction, step.seconds)
        share = attribute(step.seconds, reading.sm, [holder], processes, energy, step.idle_power).shares[job]
        self.shares[self._first + reading.index] = share
        sums.add(share, None if self._began is None else reading.time - self._began)
