import pytest

from slurm_gpushare.metrics.accumulate import Accumulator
from slurm_gpushare.metrics.attribution import Holder, Process, attribute
from slurm_gpushare.metrics.exposition import page
from slurm_gpushare.metrics.figures import job_figures
from slurm_gpushare.metrics.spool import Spool

from .records import launch
from .test_exposition import value
from .test_meter import Machine
from .test_server import Server


@pytest.fixture
def node(tmp_path, monkeypatch):
    node = Machine(tmp_path, monkeypatch)
    node.tick()
    return node


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    server.pass_time(5)
    return server


def jobs(figures):
    return {(job.job_id, job.gpu): job for job in figures.jobs}


def test_two_jobs_on_one_gpu_and_the_gpu_itself(node):
    node.job(1, 0.25)
    node.job(2, 0.5, user="bob")
    node.load[0] = [(10, 0.4, 300), (11, 0.1, 200), (12, 0.2, 100)]
    node.owners = {10: 1, 11: 2}
    node.tick(10)
    node.now += 0.5
    figures = node.meter.figures()
    assert (figures.kind, figures.name) == ("node", "n1")
    assert figures.sampled == node.now - 0.5
    one, two = jobs(figures)[1, 0], jobs(figures)[2, 0]
    assert (one.user, one.name, one.backend, one.fraction, one.memory) == ("alice", "GPU-0", "shard", 0.25, 300)
    assert one.source == "node"
    assert (two.user, two.sm, two.memory, two.processes) == ("bob", pytest.approx(0.1), 200, 1)
    assert one.totals.used == pytest.approx(4) and one.totals.over == pytest.approx(1.5)
    assert two.totals.idle == pytest.approx(4) and two.totals.sampled == 10
    assert one.reserved == 0.25 * 10.5 and one.memory_share == 4 << 30
    first, second = figures.gpus
    assert (first.name, first.reserved, first.now.sm, first.now.memory) == ("GPU-0", 0.75, pytest.approx(0.7), 600)
    assert (second.name, second.reserved, second.totals.used) == ("GPU-1", 0, 0)
    totals = first.totals
    assert (totals.used, totals.jobs, totals.unattributed) == tuple(map(pytest.approx, (7, 5, 2)))
    assert totals.reserved == pytest.approx(7.5)


def test_it_is_a_copy(node):
    node.job(1)
    node.tick(3)
    before = node.meter.figures()
    sampled = jobs(before)[1, 0].totals.sampled, before.gpus[0].totals.sampled
    node.tick(3)
    assert (jobs(before)[1, 0].totals.sampled, before.gpus[0].totals.sampled) == sampled == (3, 3)


def test_a_job_that_ended_is_gone(node):
    node.job(1)
    node.tick(3)
    node.meter.end(1)
    assert node.meter.figures().jobs == ()


def test_of_a_gpu_that_is_lost_only_what_was_added_up_is_shown(node):
    node.job(1)
    node.load[0] = [(10, 0.2, 300)]
    node.owners = {10: 1}
    node.tick(5)
    node.lost = {0}
    node.tick()
    figures = node.meter.figures()
    assert [gpu.now.number for gpu in figures.gpus] == [1]
    job = jobs(figures)[1, 0]
    assert (job.sm, job.memory, job.processes) == (None, None, None) and job.totals.used == pytest.approx(1)
    text, _ = page(figures, 1000)
    assert value(text, "gpushare_gpu_info", gpu="0") is None
    node.lost = set()
    node.tick(2)
    assert jobs(node.meter.figures())[1, 0].sm == pytest.approx(0.2)
    assert node.meter.figures().gpus[0].totals.sampled == 6


def test_a_new_agent_goes_on_with_the_jobs_sums(node):
    node.job(1)
    node.load[0] = [(10, 0.2, 300)]
    node.owners = {10: 1}
    node.tick(5)
    node.meter.close()
    node.start()
    node.tick(3)
    job = jobs(node.meter.figures())[1, 0]
    assert job.totals.used == pytest.approx(1.4) and job.reserved == 2.0


def test_what_a_sampler_said_last_is_not_repeated_when_it_is_silent():
    sums = Accumulator(launch(), "GPU-0", 0, "bitfusion", 0.25, "allocation")
    share = attribute(1.0, 0.1, [Holder(1, 0.25, 1.0)], [Process(5, 1, 0.1, 300)]).shares[1]
    sums.add(share, 20.0)
    assert job_figures(launch(), 0, sums, share, 31.9, 12).sm == pytest.approx(0.1)
    late = job_figures(launch(), 0, sums, share, 32.1, 12)
    assert (late.sm, late.memory, late.processes) == (None, None, None)
    assert late.totals.used == pytest.approx(0.1) and late.reserved == pytest.approx(8.025)


def test_on_a_server_a_job_alone_has_what_its_gpu_shows(server):
    server.start(11, 0.5)
    server.pass_time(50)
    figures = server.meter.figures("server1")
    assert (figures.kind, figures.name, figures.sampled) == ("server", "server1", server.now)
    (job,), (gpu,) = figures.jobs, figures.gpus
    assert job.source == "server"
    assert (job.sm, job.memory, job.processes) == (pytest.approx(0.4), 1001 << 20, None)
    assert (gpu.name, gpu.reserved, gpu.now.sm) == ("GPU-a", 0.5, 0.4)
    assert job.totals.used == pytest.approx(0.4 * job.totals.sampled) and job.totals.sampled > 40


def test_on_a_server_what_several_jobs_share_has_no_value(server):
    server.start(11, 0.25)
    server.pass_time(20)
    server.start(12, 0.25)
    server.pass_time(20)
    figures = server.meter.figures("server1")
    assert [(job.job_id, job.sm, job.memory) for job in figures.jobs] == [(11, None, None), (12, None, None)]
    assert figures.jobs[0].totals.used > 0 and figures.jobs[1].totals.sampled == 0
    assert figures.gpus[0].reserved == 0.5


def test_on_a_server_a_job_that_ended_is_gone_before_its_record_is_there(server):
    key = server.start(11)
    server.pass_time(20)
    server.end(key)
    server.ask()
    server.now += 1
    server.meter.tick()
    assert server.records == [] and server.meter.figures("server1").jobs == ()


def test_the_spool_tells_what_waits(tmp_path):
    spool = Spool(str(tmp_path / "n1"))
    assert spool.unsent() == 0
    spool.append([Accumulator(launch(), "GPU-0", 0, "shard", 0.25, "node").record(1010.0)])
    (line,), length = spool.batch(1)
    assert spool.unsent() == length == len(line) + 1
