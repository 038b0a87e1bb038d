"""What the agent of a pool's server makes of its NVML and of what Slurm says, second by second."""

import dataclasses
from itertools import pairwise
from pathlib import Path

import pytest

from slurm_gpushare.gpu_hour import GpuHour
from slurm_gpushare.metrics.readings import GpuReading, ProcessReading
from slurm_gpushare.metrics.server import LONGEST_WAIT, ServerMeter
from slurm_gpushare.metrics.server_jobs import Answer, ServerJob

from .records import launch

MIB = 1 << 20
T = 1_795_360_000.0


class Server:
    """A server with one GPU, the jobs that Slurm knows, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.now = T
        self.folder = str(folder)
        self.sm, self.memory, self.energy = 0.4, 1000 * MIB, 0.0
        self.gone = False
        self.jobs, self.answer, self.records, self.said = {}, None, [], []
        self.hours = []
        self.full = False
        self.begin()

    def begin(self) -> None:
        self.meter = ServerMeter(
            "bitfusion", self, self, lambda: self.answer, lambda: self.now, 12, self.said.append, name="server1"
        )

    # as NVML and as the spool
    def read(self) -> list[GpuReading]:
        if self.gone:
            return []
        processes = (ProcessReading(5, self.sm / 2, self.memory), ProcessReading(6, 0.0, MIB))
        return [GpuReading(0, 3, "GPU-a", "Tesla", None, self.now, self.sm, 100.0, self.energy, processes)]

    def append(self, records: list) -> None:
        if self.full:
            raise OSError("no space")
        self.hours += [record for record in records if isinstance(record, GpuHour)]
        self.records += [record for record in records if not isinstance(record, GpuHour)]

    def close(self) -> None:
        pass

    # what happens
    def start(self, job_id: int, fraction: float = 1.0, **more: object) -> tuple[int, float]:
        record = launch(job_id, None, started=float(int(self.now)), node="server1", **more)
        key = (job_id, record.started)
        self.jobs[key] = ServerJob(record, {0: fraction}, None)
        return key

    def end(self, key: tuple[int, float]) -> None:
        self.jobs[key] = dataclasses.replace(self.jobs[key], ended=float(int(self.now)))

    def ask(self) -> None:
        self.answer = Answer(self.now, dict(self.jobs))

    def pass_time(self, seconds: int, ask: bool = True) -> None:
        for _ in range(seconds):
            self.now += 1
            self.energy += 100
            self.meter.tick()
            if ask and self.now % 5 == 0:
                self.ask()


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    server.pass_time(5)
    return server


def test_the_only_holder_has_what_the_device_used(server: Server) -> None:
    key = server.start(11)
    server.pass_time(100)
    assert server.records == []
    server.end(key)
    server.sm = 0.0
    server.pass_time(10)
    (record,) = server.records
    assert (record.source, record.node, record.gpu, record.gpu_index) == ("server", "server1", "GPU-a", 0)
    assert (record.started, record.ended, record.quality) == (T + 5, T + 105, "measured")
    assert record.seconds_sampled == 100 and record.gpu_seconds_reserved == 100
    assert record.gpu_seconds_used == pytest.approx(40) and record.gpu_seconds_idle == pytest.approx(60)
    assert record.energy_joules == pytest.approx(10_000)
    assert record.memory_peak_bytes == 1001 * MIB and record.processes_seen is None
    server.pass_time(20)
    assert len(server.records) == 1  # although squeue lists it for minutes


def test_of_several_holders_nothing_is_known(server: Server) -> None:
    keys = [server.start(11, 0.25), server.start(12, 0.25)]
    server.pass_time(50)
    for key in keys:
        server.end(key)
    server.pass_time(10)
    for record in server.records:
        assert record.quality == "unknown" and record.gpu == "GPU-a" and record.gpu_seconds_reserved == 12.5
        unknown = (record.gpu_seconds_used, record.memory_peak_bytes, record.energy_joules, record.gpu_seconds_idle)
        assert unknown == (None,) * 4 and record.seconds_sampled == 0
    assert {record.job_id for record in server.records} == {11, 12}


def test_time_alone_is_measured_and_time_together_is_not(server: Server) -> None:
    first = server.start(11, 0.5)
    server.pass_time(40)
    second = server.start(12, 0.5)
    server.pass_time(40)
    server.end(second)
    server.pass_time(20)
    server.end(first)
    server.pass_time(10)
    by_job = {record.job_id: record for record in server.records}
    # 40 s before, 20 s after; of the second in which the other ended nobody can tell.
    assert by_job[11].seconds_sampled == 59 and by_job[11].gpu_seconds_used == pytest.approx(59 * 0.4)
    assert by_job[12].quality == "unknown"


def test_jobs_too_short_to_be_seen_running_are_counted(server: Server) -> None:
    for job_id in range(11, 20):
        key = server.start(job_id)
        server.pass_time(2)
        server.end(key)
        server.pass_time(1)
    server.pass_time(10)
    assert [record.job_id for record in server.records] == list(range(11, 20))
    assert all(record.gpu_seconds_used == pytest.approx(0.8) for record in server.records)
    assert all(before.ended <= after.started for before, after in pairwise(server.records))


def test_a_slurmctld_that_is_away_for_a_moment_costs_nothing(server: Server) -> None:
    key = server.start(11)
    server.pass_time(20)
    server.pass_time(40, ask=False)
    server.pass_time(20)
    server.end(key)
    server.pass_time(10)
    assert server.records[0].seconds_sampled == 80


def test_a_slurmctld_that_is_away_for_long_leaves_a_gap(server: Server) -> None:
    key = server.start(11)
    server.pass_time(20)
    server.pass_time(600, ask=False)
    server.pass_time(20)
    server.end(key)
    server.pass_time(10)
    (record,) = server.records
    assert record.ended - record.started == 640
    assert 20 < record.seconds_sampled <= 40 + LONGEST_WAIT and record.coverage < 0.2
    assert record.gpu_seconds_used == pytest.approx(0.4 * record.seconds_sampled)


def test_a_run_that_slurm_forgot_ends_with_the_last_word_of_it(server: Server) -> None:
    key = server.start(11)
    server.pass_time(20)
    del server.jobs[key]
    server.start(11)  # requeued: another run
    server.pass_time(20)
    (record,) = server.records
    assert record.started == T + 5 and T + 20 <= record.ended <= T + 25
    assert record.seconds_sampled <= record.ended - record.started


def test_what_ended_before_this_agent_began_is_the_one_befores(server: Server) -> None:
    key = (9, T - 100)
    server.jobs[key] = ServerJob(launch(9, None, started=T - 100), {0: 1.0}, T - 50)
    server.pass_time(20)
    assert server.records == []


def test_a_running_job_is_taken_up_with_the_coverage_that_is_left(server: Server) -> None:
    key = (9, T - 100)
    server.jobs[key] = ServerJob(launch(9, None, started=T - 100), {0: 1.0}, None)
    server.pass_time(20)
    server.end(key)
    server.pass_time(10)
    (record,) = server.records
    assert record.ended - record.started == 125 and 20 <= record.seconds_sampled <= 25


def test_a_gpu_that_is_lost_leaves_a_gap_and_a_full_disk_delays_a_record(server: Server) -> None:
    key = server.start(11)
    server.pass_time(20)
    server.gone = True
    server.pass_time(20)
    server.gone = False
    server.pass_time(20)
    server.end(key)
    server.full = True
    server.pass_time(10)
    assert server.records == []
    server.full = False
    server.pass_time(1)
    assert 35 <= server.records[0].seconds_sampled <= 40


def test_the_next_agent_goes_on_with_what_this_one_had_measured(server: Server) -> None:
    key = server.start(11)
    server.pass_time(31)
    server.begin()  # killed, and started again after a while
    server.now += 100
    server.pass_time(20)
    server.end(key)
    server.pass_time(10)
    (record,) = server.records
    assert record.ended - record.started == 151
    assert 40 <= record.seconds_sampled <= 50 and record.gpu_seconds_used == pytest.approx(0.4 * record.seconds_sampled)
    (gap,) = record.gaps
    assert gap[2] == "agent was down" and gap[1] == pytest.approx(151 - record.seconds_sampled)


def test_a_run_that_ended_while_no_agent_was_there_has_its_record(server: Server) -> None:
    first, second = server.start(11), server.start(12)
    del server.jobs[second]
    server.pass_time(31)
    del server.jobs[first]
    server.ask()
    server.now += 400
    server.begin()
    server.pass_time(20)
    server.begin()
    server.pass_time(20)
    assert [record.job_id for record in server.records] == [11]
    assert server.records[0].ended <= T + 40 and server.records[0].seconds_sampled >= 25


def test_the_hours_of_a_servers_gpu_have_what_jobs_had_and_what_nobody_can_tell(server: Server) -> None:
    server.pass_time(20)
    key = server.start(11, 0.5)
    server.pass_time(20)
    server.start(12, 0.5)
    server.pass_time(20)
    server.end(key)
    server.pass_time(4)
    server.meter.close()
    (hour,) = server.hours
    assert (hour.cluster, hour.node, hour.gpu, hour.source) == ("lab", "server1", "GPU-a", "server")
    assert hour.gpu_seconds_used == pytest.approx(0.4 * hour.seconds_sampled)
    parts = hour.gpu_seconds_jobs + hour.gpu_seconds_overhead + hour.gpu_seconds_unattributed
    assert parts == pytest.approx(hour.gpu_seconds_used) and hour.gpu_seconds_jobs == pytest.approx(0.4 * 20)
    assert hour.energy_joules == pytest.approx(100 * hour.seconds_sampled) and hour.quality == "unknown"


def test_live_is_the_newest_that_slurm_has_said_the_jobs_of(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start(1, 0.5, uid=1001)
    server.pass_time(8)
    sample = server.meter.live("server1")
    assert (sample.kind, sample.name, sample.age) == ("server", "server1", 3)  # Slurm spoke three seconds ago
    assert [(gpu.number, gpu.sm, gpu.memory) for gpu in sample.gpus] == [(0, 0.4, 1001 * MIB)]
    assert [(job.job_id, job.uid, job.gpu, job.sm, job.memory) for job in sample.jobs] == [
        (1, 1001, 0, 0.4, 1001 * MIB)
    ]
    (alone,) = sample.jobs
    assert alone.measured > 0 and alone.used == pytest.approx(0.4 * alone.measured) and alone.started > 0
    server.start(2, 0.5, uid=1002)
    assert [job.job_id for job in server.meter.live("server1").jobs] == [1]
    server.pass_time(8)
    # Two share it: which used what nobody knows.
    assert [(job.job_id, job.sm, job.memory) for job in server.meter.live("server1").jobs] == [
        (1, None, None),
        (2, None, None),
    ]
    server.gone = True
    server.pass_time(1)
    assert server.meter.live("server1").gpus == ()
