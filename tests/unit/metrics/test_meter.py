import dataclasses
import json
import shutil
from types import SimpleNamespace

import pytest

from slurm_gpushare.metrics import meter as module
from slurm_gpushare.metrics.attribution import Holder, Process, attribute
from slurm_gpushare.metrics.meter import Meter
from slurm_gpushare.metrics.readings import GpuReading, ProcessReading
from slurm_gpushare.metrics.spool import Spool
from slurm_gpushare.node_policy import BackendPolicy, ContainerPolicy, NodePolicy

from .records import launch, write

POLICY = NodePolicy(100, ContainerPolicy("auto", (), (), True), backends={"bitfusion": BackendPolicy(command="/none")})


class Machine:
    """A node with a clock, GPUs and processes to be set; pids are traced by a table."""

    def __init__(self, tmp_path, monkeypatch, gpus=2):
        self.run = tmp_path / "run"
        self.spool_folder = tmp_path / "spool"
        self.spool = Spool(str(self.spool_folder))
        self.now = 1000.0
        self.wall_is_ahead = 0.0
        self.load = {number: [] for number in range(gpus)}  # GPU -> [(pid, sm, memory)]
        self.lost = set()
        self.faults = {}  # GPU -> why nothing is known of it
        self.owners = {}
        self.lines = []
        clock = SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now + self.wall_is_ahead)
        monkeypatch.setattr(module, "time", clock)
        self.start()

    def start(self):
        self.meter = Meter("n1", POLICY, self.spool, str(self.run), self, self.lines.append)
        self.meter._tracer = self

    def job(self, job_id, *arguments, **options):
        return write(self.run, launch(job_id, *arguments, **{"started": self.now} | options))

    def tick(self, times=1, seconds=1.0):
        for _ in range(times):
            self.now += seconds
            self.meter.tick()

    def records(self):
        lines = [json.loads(line) for line in self.spool.batch(1000)[0]]
        return {(data["job_id"], data["gpu_index"]): SimpleNamespace(**data) for data in lines if "kind" not in data}

    def hours(self):
        lines = [json.loads(line) for line in self.spool.batch(1000)[0]]
        return [SimpleNamespace(**data) for data in lines if "kind" in data]

    # in the place of Nvml and ProcessTracer

    def read(self, only=None):
        return [
            GpuReading(number, number, f"GPU-{number}", None, None, self.now, None, None, None, None, fault=why)
            for number, why in self.faults.items()
        ] + [
            GpuReading(
                number, number, f"GPU-{number}", "Tesla P100", 16 << 30, self.now,
                min(1.0, sum(sm for _, sm, _ in load)), 100.0, None, tuple(ProcessReading(*one) for one in load),
            )
            for number, load in self.load.items()
            if number not in self.lost | set(self.faults) and (only is None or number in only)
        ]  # fmt: skip

    def trace(self, pids, records, whole=True):
        return {pid: (1, job if (job := self.owners.get(pid)) in records else None) for pid in pids}

    def close(self):
        pass


@pytest.fixture
def node(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


def test_two_jobs_share_a_gpu(node):
    node.tick()
    node.job(1, 0.25)
    node.job(2, 0.5)
    node.load[0] = [(10, 0.4, 300), (11, 0.1, 200), (12, 0.2, 100)]
    node.owners = {10: 1, 11: 2}
    node.tick(10)
    node.meter.end(1)
    node.meter.end(2)
    records = node.records()
    one, two = records[1, 0], records[2, 0]
    assert (one.backend, one.source, one.gpu, one.gpu_name) == ("shard", "node", "GPU-0", "Tesla P100")
    assert one.gpu_seconds_used == pytest.approx(4.0) and one.gpu_seconds_over == pytest.approx(1.5)
    assert two.gpu_seconds_used == pytest.approx(1.0) and two.gpu_seconds_idle == pytest.approx(4.0)
    assert (one.memory_peak_bytes, two.memory_peak_bytes) == (300, 200)
    assert one.seconds_sampled == 10 == one.ended - one.started and one.quality == "measured"


def test_whole_gpus_are_fraction_1_of_each(node):
    node.tick()
    node.job(1, None, (0, 1))
    node.load[1] = [(10, 0.5, 300)]
    node.owners = {10: 1}
    node.tick(4)
    node.meter.end(1)
    first, second = node.records()[1, 0], node.records()[1, 1]
    assert first.backend == "gpu" and first.fraction == 1.0 and first.gpu_seconds_reserved == 4.0
    assert first.gpu_seconds_used == 0 and first.memory_peak_bytes == 0 and second.gpu_seconds_used == 2.0


def test_a_cpu_job_has_no_record(node):
    node.job(1, None, ())
    node.tick(2)
    node.meter.end(1)
    assert node.records() == {}


def test_an_end_takes_a_last_sample_of_the_jobs_gpus(node):
    node.tick()
    node.job(1)
    node.load[0] = [(10, 0.5, 300)]
    node.owners = {10: 1}
    node.tick()
    node.now += 0.4
    node.meter.end(1)
    assert node.records()[1, 0].gpu_seconds_used == pytest.approx(0.7)
    assert node.records()[1, 0].seconds_sampled == pytest.approx(1.4)


def test_a_job_that_no_tick_saw_has_a_record(node):
    node.tick()
    node.now += 0.2
    node.job(1)
    node.load[0] = [(10, 0.5, 300)]
    node.owners = {10: 1}
    node.now += 0.4
    node.meter.end(1)
    assert node.records()[1, 0].gpu_seconds_used == pytest.approx(0.2)
    assert node.records()[1, 0].seconds_sampled == pytest.approx(0.4)


def test_an_ended_job_is_not_taken_up_again_while_its_folder_stands(node):
    node.tick()
    folder = node.job(1)
    node.tick()
    node.meter.end(1)
    node.meter.end(1)
    node.tick(3)
    node.start()  # nor by the next agent
    node.tick(3)
    shutil.rmtree(folder)
    node.tick()
    assert len(node.spool.batch(9)[0]) == 1
    node.start()
    assert node.meter._books.ended == set()


def test_a_folder_that_goes_without_an_end_leaves_a_record(node):
    node.tick()
    folder = node.job(1)
    node.tick(3)
    shutil.rmtree(folder)
    node.tick()
    record = node.records()[1, 0]
    assert 3 <= record.ended - record.started <= 4
    assert any("without an end" in line for line in node.lines)


def test_a_requeued_job_is_another_run(node):
    node.tick()
    node.job(1)
    node.tick(2)
    node.meter.end(1)
    node.job(1)
    node.tick(3)
    node.meter.end(1)
    lines = [json.loads(line) for line in node.spool.batch(9)[0]]
    assert [line["ended"] - line["started"] for line in lines] == [2.0, 3.0]


def test_a_requeued_job_whose_end_was_not_heard_is_two_runs_too(node):
    node.tick()
    node.job(1)
    node.tick(2)
    node.job(1)
    node.tick(3)
    node.meter.end(1)
    assert len({json.loads(line)["started"] for line in node.spool.batch(9)[0]}) == 2


def test_a_running_job_is_taken_up_with_the_coverage_that_is_left(node):
    node.job(1)
    node.now += 30
    node.load[0] = [(10, 0.5, 300)]
    node.owners = {10: 1}
    node.tick(11)
    node.meter.end(1)
    record = node.records()[1, 0]
    assert record.ended - record.started == 41 and record.seconds_sampled == 10
    assert record.gpu_seconds_reserved == pytest.approx(41 * 0.25) and record.gpu_seconds_used == pytest.approx(5)


def test_a_jump_of_the_wall_clock_changes_no_duration(node):
    node.tick()
    node.job(1)
    node.tick(3)
    node.wall_is_ahead = 86400.0
    node.tick(3)
    node.meter.end(1)
    record = node.records()[1, 0]
    assert record.ended - record.started == 6


def test_a_gpu_lost_in_the_middle_costs_its_own_job_coverage(node):
    node.tick()
    node.job(1, None, (0,))
    node.job(2, None, (1,))
    node.load = {0: [(10, 0.5, 1)], 1: [(11, 0.5, 1)]}
    node.owners = {10: 1, 11: 2}
    node.tick(4)
    node.lost = {1}
    node.tick(4)
    node.lost = set()
    node.tick(2)  # the first reading after the gap begins anew
    node.meter.end(1)
    node.meter.end(2)
    one, two = node.records()[1, 0], node.records()[2, 1]
    assert one.seconds_sampled == 10 and one.gpu_seconds_used == 5
    assert two.seconds_sampled == 5 and two.gpu_seconds_used == 2.5 and two.gpu_seconds_reserved == 10


def test_no_gpu_at_all_is_unknown_and_not_zero(node):
    node.lost = {0, 1}
    node.job(1)
    node.tick(4)
    node.meter.end(1)
    record = node.records()[1, 0]
    assert record.quality == "unknown" and record.gpu_seconds_used is None and record.gpu == "shard:n1:0"
    assert record.gpu_seconds_reserved == 1.0


def test_a_process_on_a_gpu_it_was_not_given_is_told_once_and_charged_to_nobody(node):
    node.tick()
    node.job(1, 0.25, (0,))
    node.job(2, 0.25, (1,))
    node.load[1] = [(10, 0.5, 300)]
    node.owners = {10: 1}
    node.tick(4)
    node.meter.end(2)
    assert node.records()[2, 1].gpu_seconds_used == 0
    assert len([line for line in node.lines if "which it was not given" in line]) == 1


def test_a_job_whose_record_names_no_gpu_is_told_once(node):
    node.job(1, 0.25, ())
    node.tick(3)
    node.meter.end(1)
    assert node.records() == {} and len([line for line in node.lines if "names no GPU" in line]) == 1


def test_a_pool_job_without_a_sample_is_unknown_one_record_for_each_gpu(node):
    node.job(1, 0.5, (), "bitfusion", count=2)
    node.tick(4)
    node.meter.end(1)
    assert set(node.records()) == {(1, 0), (1, 1)}
    record = node.records()[1, 1]
    assert (record.gpu, record.source, record.quality) == ("bitfusion:n1:1", "allocation", "unknown")
    assert record.gpu_seconds_reserved == 2.0 and record.gpu_seconds_used is None


def test_a_full_disk_delays_a_record_and_loses_none(node, monkeypatch):
    node.tick()
    node.job(1)
    node.tick()
    append = node.spool.append

    def full(records):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(node.spool, "append", full)
    with pytest.raises(OSError):
        node.meter.end(1)
    node.tick()
    monkeypatch.setattr(node.spool, "append", append)
    node.tick(2)
    assert len(node.spool.batch(9)[0]) == 1


@pytest.mark.parametrize("text", ["{", "7", '[["x",1]]', "[1]", "{}", '{"v":7}', '{"v":1,"begun":[{"record":"{}"}]}'])
def test_a_checkpoint_is_not_believed_when_it_is_broken(node, text):
    folder = node.job(1)
    node.tick()
    (node.spool_folder / "running.jsonl").write_text(text + "\n" + text + "\n")
    node.start()
    node.tick(2)
    assert [line for line in node.lines if "taken up" in line or "not readable" in line]
    shutil.rmtree(folder)
    node.tick()
    assert len(node.records()) == 1


def busy(node):
    """Two jobs on GPU 0, which measured alike for ten seconds."""
    node.tick()
    for job_id, pid, sm in ((1, 10, 0.4), (2, 11, 0.2)):
        node.job(job_id, 0.25)
        node.load[0].append((pid, sm, 100 * job_id))
        node.owners[pid] = job_id
    node.tick(10)


def kill(node, away=0.0, same_boot=True):
    """The agent dies without a word; the next one begins ``away`` seconds later."""
    node.now += away
    if not same_boot:
        node.wall_is_ahead += node.now - 5.0
        node.now = 5.0  # since boot
    node.start()


def test_a_killed_agent_loses_nothing_that_was_measured(node):
    busy(node)
    kill(node, 20)
    node.tick(11)
    node.meter.end(1)
    record = node.records()[1, 0]
    assert record.ended - record.started == 41 and record.seconds_sampled == 20
    assert record.gpu_seconds_used == pytest.approx(8) and record.sm_p50 == 0.4 and record.memory_peak_bytes == 100
    assert record.gaps == [[10, 21, "agent was down"]] and record.processes_seen == 1
    assert [point is None for point in record.series["sm"]] == [10 <= at < 31 for at in range(41)]
    assert record.gpu == "GPU-0" and record.memory_share_bytes == 4 << 30


def test_what_a_gpu_takes_with_nothing_to_do_is_remembered(node, monkeypatch):
    watts = {"now": 40.0}
    plain = node.read

    def read(only=None):
        return [dataclasses.replace(each, power=watts["now"]) for each in plain(only)]

    monkeypatch.setattr(node, "read", read)
    node.tick(3)
    node.job(1, 0.25)
    node.load[0], node.owners = [(10, 0.5, 1)], {10: 1}
    watts["now"] = 100.0
    node.tick(2)
    node.meter.close()
    kill(node)
    node.tick(4)
    node.meter.end(1)
    # Each second 40 J are idle, a quarter of them the jobs, and the rest is all its own; but for the first, a mean.
    assert node.records()[1, 0].energy_joules == pytest.approx(4 * (10 + 60) + 10 + 30)


def test_killed_again_and_again_it_still_loses_nothing(node):
    busy(node)
    for _ in range(8):
        kill(node)
        node.tick(11)
    node.meter.end(2)
    record = node.records()[2, 0]
    # The first reading of each agent only begins an interval.
    assert record.ended - record.started == 98 and record.seconds_sampled == 90
    assert record.gpu_seconds_used == pytest.approx(18) and record.quality == "measured"


def test_jobs_that_ended_while_no_agent_was_there_have_their_record(node):
    busy(node)
    shutil.rmtree(node.run / "n1/jobs/1")
    kill(node, 300)
    node.tick()
    record = node.records()[1, 0]
    assert record.seconds_sampled == 10 and 10 <= record.ended - record.started <= 11
    assert record.gpu_seconds_used == pytest.approx(4)
    kill(node)
    node.tick(3)
    assert len(node.spool.batch(9)[0]) == 1


def test_a_reboot_takes_the_folders_and_not_what_was_measured(node, monkeypatch):
    busy(node)
    shutil.rmtree(node.run)
    monkeypatch.setattr("slurm_gpushare.metrics.books._boot_id", lambda: "another")
    kill(node, 3600, same_boot=False)
    node.tick(2)
    assert set(node.records()) == {(1, 0), (2, 0)}
    for record in node.records().values():
        assert record.seconds_sampled == 10 and 10 <= record.ended - record.started <= 11


def test_a_job_requeued_while_no_agent_was_there_is_two_runs(node):
    busy(node)
    node.now += 30
    node.job(1, 0.25)
    kill(node)
    node.tick(4)
    node.meter.end(1)
    lines = [json.loads(line) for line in node.spool.batch(9)[0]]
    assert [(line["seconds_sampled"], line["gpu_seconds_used"]) for line in lines] == [
        (10, pytest.approx(4)),
        (3, pytest.approx(1.2)),
    ]


def test_killed_between_the_record_and_the_word_of_it_the_record_is_replaced(node):
    busy(node)
    checkpoint = (node.spool_folder / "running.jsonl").read_bytes()
    node.meter.end(1)
    (node.spool_folder / "running.jsonl").write_bytes(checkpoint)
    kill(node)
    node.tick(2)
    node.meter.end(1)
    first, second = [json.loads(line) for line in node.spool.batch(9)[0]]
    assert all(first[name] == second[name] for name in ("cluster", "job_id", "started", "node", "gpu"))
    assert second["seconds_sampled"] >= first["seconds_sampled"]


def test_a_record_that_no_disk_took_outlives_the_agent(node, monkeypatch):
    def full(records):
        raise OSError(28, "No space left on device")

    busy(node)
    with monkeypatch.context() as broken:
        broken.setattr(node.spool, "append", full)
        with pytest.raises(OSError):
            node.meter.end(1)
        shutil.rmtree(node.run / "n1/jobs/1")
        node.tick()
        kill(node)
    node.tick()
    assert node.records()[1, 0].gpu_seconds_used == pytest.approx(4)


def test_an_agent_that_ends_well_leaves_the_rest_to_the_next_too(node):
    busy(node)
    node.meter.close()
    (hour,) = [hour for hour in node.hours() if hour.gpu == "GPU-0"]
    kill(node)
    node.tick(11)
    node.meter.end(1)
    node.meter.close()
    assert node.records()[1, 0].seconds_sampled == 20
    more = [hour for hour in node.hours() if hour.gpu == "GPU-0"][-1]
    assert hour.seconds_sampled == 10 and more.seconds_sampled == 20 and more.hour == hour.hour


def test_the_hours_of_gpus_have_what_no_job_had_too(node):
    busy(node)
    node.load[0].append((12, 0.1, 5))
    node.tick(10)
    node.meter.close()
    hours = {hour.gpu: hour for hour in node.hours()}
    one = hours["GPU-0"]
    assert (one.cluster, one.node, one.source, one.seconds_sampled) == ("lab", "n1", "node", 20)
    assert one.gpu_seconds_used == pytest.approx(13) and one.gpu_seconds_jobs == pytest.approx(12)
    assert one.gpu_seconds_unattributed == pytest.approx(1) and one.gpu_seconds_reserved == pytest.approx(10)
    assert hours["GPU-1"].gpu_seconds_used == 0 and hours["GPU-1"].energy_joules == 2000


def test_servers_of_mps_are_overhead(node, monkeypatch):
    monkeypatch.setattr(module, "is_mps_server", lambda pid: pid in (10, 12))
    busy(node)
    node.load[0].append((12, 0.1, 5))
    node.tick(10)
    node.meter.close()
    (hour,) = [hour for hour in node.hours() if hour.gpu == "GPU-0"]
    # A process of a job is the job's, whatever it calls itself.
    assert hour.gpu_seconds_overhead == pytest.approx(1) and hour.gpu_seconds_jobs == pytest.approx(12)


def test_a_pool_jobs_sums_go_on_too(node):
    node.job(1, 0.5, (), "bitfusion", count=2)
    node.tick(2)
    share = attribute(2.0, 0.25, [Holder(1, 0.5, 2.0)], [Process(7, 1, 0.25, 9)]).shares[1]
    node.meter._jobs[1].sums()[1].add(share, 2.0)
    node.tick()
    kill(node)
    node.tick()
    node.meter.end(1)
    assert node.records()[1, 1].gpu_seconds_used == 0.5 and node.records()[1, 0].gpu_seconds_used is None


def test_a_part_that_mig_made_is_reckoned_in_whole_gpus(node, monkeypatch):
    def part(only=None):
        processes = (ProcessReading(10, 0.5, 100),)
        return [GpuReading(0, None, "MIG-a", "A100 2g", 10 << 30, node.now, 0.5, None, None, processes, part=True)]

    monkeypatch.setattr(node, "read", part)
    node.owners = {10: 1}
    node.job(1, 0.25, (3,), "mig", options={"devices": ["MIG-a"]})
    node.tick(5)
    node.meter.end(1)
    record = node.records()[1, 3]
    assert record.gpu_seconds_used == pytest.approx(4 * 0.5 * 0.25) and record.gpu_seconds_over == 0
    assert record.sm_mean == pytest.approx(0.125) and record.memory_share_bytes == 10 << 30


def test_gaps_say_why(node):
    node.tick()
    node.job(1)
    node.load[0] = [(10, 0.5, 1)]
    node.owners = {10: 1}
    node.tick(3)
    node.lost = {0}
    node.tick(4)
    node.lost = set()
    node.tick(3)
    node.tick(1, seconds=60)
    node.tick(1)
    node.faults = {0: "GPU is lost"}
    node.tick(2)
    assert [gpu.number for gpu in node.meter.live().gpus] == [1]
    node.meter.end(1)
    assert node.records()[1, 0].gaps == [
        [3, 5, "GPU gives no reading"],
        [10, 60, "no sample for 60 s"],
        [71, 2, "GPU is lost"],
    ]


def test_the_sender_hears_of_each_record(node):
    heard = []
    node.meter = Meter(
        "n1",
        POLICY,
        node.spool,
        str(node.run),
        node,
        node.lines.append,
        spooled=lambda: heard.append(len(node.records())),
    )
    node.tick()
    assert heard == []
    node.job(1)
    node.meter.end(1)
    assert heard == [1]


def test_live_is_what_the_last_tick_measured(node):
    node.load[0] = [(5, 0.3, 1 << 30), (6, 0.1, 1 << 20)]
    node.owners = {5: 1}
    node.job(1, uid=1001, options={"enforces": {"memory": "enforced", "compute": "none", "faults": "none"}})
    node.tick()
    (job,) = node.meter.live().jobs
    assert (job.job_id, job.uid, job.gpu, job.sm, job.memory) == (1, 1001, 0, None, None)
    node.tick(2)
    node.now += 0.5
    sample = node.meter.live()
    (job,) = sample.jobs
    assert (sample.kind, sample.name, sample.age) == ("node", "n1", 0.5)
    assert (round(job.sm, 6), job.memory, job.enforces["memory"]) == (0.3, 1 << 30, "enforced")
    assert [(gpu.number, gpu.sm, gpu.memory) for gpu in sample.gpus] == [(0, 0.4, (1 << 30) + (1 << 20)), (1, 0, 0)]
    assert (job.measured, round(job.used, 6)) == (2.0, 0.6) and job.started > 0
    node.lost = {0}
    node.tick()
    sample = node.meter.live()
    assert [gpu.number for gpu in sample.gpus] == [1]
    assert (sample.jobs[0].sm, sample.jobs[0].memory) == (None, None)


def test_parts_that_mig_made_are_found_by_uuid_and_their_sm_use_is_unknown(node, monkeypatch):
    def part(uuid, pid, memory):
        processes = (ProcessReading(pid, None, memory),)
        return GpuReading(0, None, uuid, "A100 MIG 2g.10gb", 10 << 30, node.now, None, None, None, processes, part=True)

    monkeypatch.setattr(node, "read", lambda only=None: [part("MIG-a", 10, 100), part("MIG-b", 20, 300)])
    node.owners = {10: 1, 20: 2}
    for job_id, number, uuid in ((1, 3, "MIG-a"), (2, 0, "MIG-b")):
        node.job(job_id, 2 / 7, (number,), "mig", options={"devices": [uuid]})
    node.job(3, 2 / 7, (1,), "mig")  # whose part Slurm did not name
    node.tick(4)
    for job_id in (1, 2, 3):
        node.meter.end(job_id)
    records = node.records()
    assert [(one.gpu, one.memory_peak_bytes) for one in (records[1, 3], records[2, 0])] == [
        ("MIG-a", 100),
        ("MIG-b", 300),
    ]
    unnamed = records[3, 1]
    assert (unnamed.gpu, unnamed.memory_peak_bytes) == ("mig:n1:1", None)
    for one in records.values():
        assert (one.gpu_seconds_used, one.quality, one.fraction) == (None, "unknown", 2 / 7)
        assert one.gpu_seconds_reserved == pytest.approx(4 * 2 / 7)
        assert one.enforces == "memory=enforced,compute=enforced,faults=enforced"


@pytest.mark.parametrize(("others", "used"), [(0, 1.0), (1, 0.0)])
def test_a_job_that_came_and_went_between_two_samples_is_measured_where_it_was_alone(node, monkeypatch, others, used):
    """As accounting mode tells: of one of several jobs it may be, and is left unattributed."""
    for number in range(others):
        node.job(9 + number, 0.5)
    node.tick()
    node.now += 2.0
    node.job(1, 0.25)
    node.now += 3.0
    gone = ProcessReading(77, 0.2, 3 << 30, (node.now - 2.5, node.now - 0.5))
    read = node.read
    monkeypatch.setattr(
        node,
        "read",
        lambda only=None: [dataclasses.replace(each, sm=0.2, processes=(gone,)) for each in read(only)],
    )
    monkeypatch.setattr(node, "trace", lambda pids, records, whole=True: {})
    node.meter.end(1)
    record = node.records()[1, 0]
    assert record.gpu_seconds_used == pytest.approx(used)
    assert record.memory_peak_bytes == (3 << 30 if used else 0)
    assert record.quality == "measured"
