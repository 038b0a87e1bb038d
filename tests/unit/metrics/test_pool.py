import os
import pwd
import select
import stat
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from slurm_gpushare.metrics.pool import PoolJob, find_allocation
from slurm_gpushare.metrics.readings import GpuReading, ProcessReading
from slurm_gpushare.metrics.sampler import encode
from slurm_gpushare.node_policy import BackendPolicy
from slurm_gpushare.usage import MEASURED, UNKNOWN

from .records import launch

NOBODY = pwd.getpwnam("nobody")
ROOT = pwd.getpwuid(0)


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


class Pool:
    """A PoolJob whose pool client is a shell script."""

    def __init__(self, work, script, user=ROOT, count=1, fraction=0.25):
        self.lines = []
        command = work.parent / "client"
        command.write_text("#!/bin/sh\n" + script)
        command.chmod(stat.S_IRWXU | stat.S_IROTH | stat.S_IXOTH)
        record = launch(5, fraction, (), "bitfusion", uid=user.pw_uid, gid=user.pw_gid, count=count)
        settings = BackendPolicy(command=str(command))
        whole = PoolJob(record, str(work), settings, sys.executable, 0.05, 10.0, self.lines.append)
        (self.job,) = whole.allocations

    def read(self, times=1, start=100.0):
        """Let the sampler's output in as it comes; the clock goes on by one second a time. Return when it has come."""
        for step in range(times):
            ready, _, _ = select.select([self.job.stream], [], [], 20)
            assert ready, "the sampler printed nothing"
            self.job.readable(start + step)

    def until_ended(self):
        deadline = time.monotonic() + 20
        while self.job.stream is not None:
            assert time.monotonic() < deadline
            self.read()

    def record(self, index=0):
        return self.job.records(1010.0)[index]


def allocate(work, name="bitfusion215848399", uid=0):
    path = work / name
    path.write_text("an allocation")
    os.chown(path, uid, 0)
    return path


def test_allocation_is_a_plain_file_of_the_user_with_the_clients_prefix(work):
    assert find_allocation(str(work), 0) is None
    (work / "bitfusion1").symlink_to("/etc/passwd")
    (work / "bitfusion2").mkdir()
    (work / "other").write_text("")
    allocate(work, "bitfusion3", uid=NOBODY.pw_uid)
    assert find_allocation(str(work), 0) is None
    allocate(work, "bitfusion4")
    assert find_allocation(str(work), 0) == str(work / "bitfusion4")
    assert find_allocation(str(work / "none"), 0) is None


def test_where_a_sampler_would_see_what_others_use_none_is_started(work):
    allocate(work)
    record = launch(5, 0.25, (), "lupine", uid=0, gid=0, count=2)
    job = PoolJob(record, str(work), BackendPolicy(), sys.executable, 0.05, 10.0, print)
    job.watch(1.0)
    assert job.streams() == {}
    assert [each.quality for each in job.records(1010.0)] == [UNKNOWN, UNKNOWN]


def test_without_an_allocation_nothing_is_started_and_use_is_unknown(work):
    pool = Pool(work, "exit 9", count=2)
    pool.job.watch(0.0)
    assert pool.job.stream is None
    assert [record.gpu for record in pool.job.records(1010.0)] == ["bitfusion:n1:0", "bitfusion:n1:1"]
    assert pool.record().quality == UNKNOWN and pool.record().gpu_seconds_used is None
    assert pool.record().gpu_seconds_reserved == 2.5 and pool.record().source == "allocation"


def sample(sm, pid_sm, energy=0.0, uuid="GPU-0a1b-2c", index=0):
    processes = (ProcessReading(7, pid_sm, 3 << 30),)
    reading = GpuReading(index, None, uuid, "Tesla P100", 4 << 30, 0.0, sm, 60.0, energy, processes)
    return encode([reading]).decode()


def printing(*samples, then="sleep 600"):
    """Return a client's script that prints one sample for each line that it is sent through the fifo `go`.

    A reader that opens the fifo before the last writer has closed it reads its end, not a line: it tries again.
    """
    lines = "".join(f"until read go < {{go}}; do :; done; cat <<'END'\n{text}END\n" for text in samples)
    return lines + then


class Stepped(Pool):
    """A pool whose client waits before each line, so that each is read alone."""

    def __init__(self, work, *samples, **options):
        self.go = work.parent / "go"
        os.mkfifo(self.go)
        super().__init__(work, printing(*samples).replace("{go}", str(self.go)), **options)

    def step(self, now):
        self.go.write_text("\n")
        self.read(start=now)


def test_samples_become_one_record_with_the_gpus_uuid(work):
    samples = [sample(0.5, 0.4, energy=10.0), sample(0.5, 0.4, energy=60.0), sample(0.1, 0.1, energy=90.0)]
    pool = Stepped(work, *samples)
    allocate(work)
    pool.job.watch(0.0)
    for now in (100.0, 101.0, 102.0):
        pool.step(now)
    pool.job.stop()
    record = pool.record()
    assert (record.gpu, record.gpu_index, record.gpu_name) == ("GPU-0a1b-2c", 0, "Tesla P100")
    assert record.quality == MEASURED and record.seconds_sampled == 2.0 and record.memory_peak_bytes == 3 << 30
    assert record.gpu_seconds_used == pytest.approx(0.5) and record.gpu_seconds_over == pytest.approx(0.15)
    assert record.gpu_seconds_idle == pytest.approx(0.15)
    # The power of a part of a card cannot be told from within.
    assert record.energy_joules is None


def test_a_whole_card_has_its_energy(work):
    pool = Stepped(work, sample(0.5, 0.5, energy=10.0), sample(0.5, 0.5, energy=60.0), fraction=1.0)
    allocate(work)
    pool.job.watch(0.0)
    pool.step(100.0)
    pool.step(101.0)
    pool.job.stop()
    assert pool.record().energy_joules == 50.0


def test_nonsense_is_no_sample_and_stops_nobody(work):
    pool = Stepped(work, "hello\n", '{"v":1}\n', sample(7, 7), sample(0.5, 0.5), sample(0.5, 0.5, index=63))
    allocate(work)
    pool.job.watch(0.0)
    for now in range(5):
        pool.step(100.0 + now)
    pool.job.stop()
    assert pool.record().quality == UNKNOWN


def test_a_flood_ends_the_sampler_for_good(work):
    pool = Pool(work, "yes '{}'")
    allocate(work)
    pool.job.watch(0.0)
    pool.until_ended()
    assert "printed over" in pool.lines[-1]
    pool.job.watch(1e6)
    assert pool.job.stream is None


@pytest.fixture
def open_work():
    """A work folder of nobody's, on a path that everybody may walk."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        work = Path(folder) / "work"
        work.mkdir()
        os.chown(work, NOBODY.pw_uid, NOBODY.pw_gid)
        yield work


def test_runs_as_the_user_with_nothing_of_roots(open_work, monkeypatch):
    out = open_work / "out"
    script = f"exec >{out}; grep -E '^(Uid|Gid|Groups)' /proc/self/status; pwd; env; echo $*"
    pool = Pool(open_work, script, user=NOBODY)
    allocate(open_work, uid=NOBODY.pw_uid)
    monkeypatch.setenv("SECRET_OF_ROOT", "1")
    pool.job.watch(0.0)
    pool.until_ended()
    text = out.read_text()
    uids, gids, groups, folder, *rest = text.splitlines()
    assert uids.split() == ["Uid:"] + [str(NOBODY.pw_uid)] * 4 and gids.split() == ["Gid:"] + [str(NOBODY.pw_gid)] * 4
    assert groups.split()[1:] == [str(NOBODY.pw_gid)]
    assert folder == "/" and f"TMPDIR={open_work}" in rest and f"HOME={NOBODY.pw_dir}" in rest
    assert "SECRET" not in text
    assert rest[-1] == f"client -- env -u TMPDIR {sys.executable} -I -m slurm_gpushare.metrics.sampler --interval 0.05"
    assert "the sampler ended with 0" in pool.lines[-1]


def test_a_user_that_this_node_does_not_know_has_his_own_group_alone(open_work):
    os.chown(open_work, 54321, 54322)
    out = open_work / "out"
    pool = Pool(open_work, f"exec >{out}; id -u; id -G; echo $HOME", user=SimpleNamespace(pw_uid=54321, pw_gid=54322))
    allocate(open_work, uid=54321)
    pool.job.watch(0.0)
    pool.until_ended()
    assert out.read_text().split() == ["54321", "54322", "/"]


def test_it_is_tried_again_with_a_back_off_for_as_long_as_there_is_an_allocation(work):
    starts = work.parent / "starts"
    pool = Pool(work, f"echo x >> {starts}; echo '[WARN] no such server' >&2; exit 3")
    allocate(work)
    now = 0.0
    pool.job.watch(now)
    pool.until_ended()
    pool.job.watch(now + 0.5)
    assert pool.job.stream is None  # too early
    assert "ended with 3" in pool.lines[-1] and "no such server" in pool.lines[-1]
    begun = []
    for now in range(1, 300):
        pool.job.watch(float(now))
        if pool.job.stream is not None:
            begun.append(now)
            pool.until_ended()
    assert begun == [2, 6, 14, 30, 62, 122, 182, 242]
    assert starts.read_text() == "x\n" * (1 + len(begun))
    # Another allocation begins anew.
    (work / "bitfusion215848399").unlink()
    allocate(work, "bitfusion1")
    pool.job.watch(300.0)
    assert pool.job.stream is not None
    pool.until_ended()


def tasks(work, script, count=2):
    """A job of which each of ``count`` tasks has an allocation of its own."""
    command = work.parent / "client"
    command.write_text("#!/bin/sh\n" + script)
    command.chmod(stat.S_IRWXU)
    record = launch(5, 0.5, (), "bitfusion")
    record = record._replace(grant=record.grant._replace(tasks=count))
    for number in range(count):
        (work / str(number)).mkdir()
    return PoolJob(record, str(work), BackendPolicy(command=str(command)), sys.executable, 0.05, 10.0, print)


def test_each_allocation_of_a_job_is_sampled_by_itself_and_has_its_own_records(work):
    lines = "".join(f"cat <<'END'\n{sample(0.5, 0.5)}END\n" for _ in range(2))
    job = tasks(work, f'echo "$TMPDIR" >>{work}/folders\n{lines}sleep 600')
    allocate(work / "1", "bitfusion1")
    job.watch(0.0)
    assert len(job.streams()) == 1
    allocate(work / "0", "bitfusion2")
    job.watch(1.0)
    assert len(job.streams()) == 2
    for each in job.streams().values():
        received = b""
        while received.count(b"\n") < 2:
            select.select([each.stream], [], [], 20)
            received += os.read(each.stream, 4096)
        first, second, _ = received.split(b"\n")
        each._take(first, 100.0)
        each._take(second, 101.0)
    assert job.so_far() == {0: (1.0, 0.5), 1: (1.0, 0.5)} and set(job.shares()) == {0, 1}
    job.stop()
    assert job.streams() == {}
    assert sorted((work / "folders").read_text().split()) == [f"{work}/0", f"{work}/1"]
    records = job.records(1010.0)
    # On one GPU, and yet no record takes the place of the other.
    assert [(record.gpu, record.gpu_index) for record in records] == [("GPU-0a1b-2c/0", 0), ("GPU-0a1b-2c/1", 1)]
    assert [record.gpu_seconds_used for record in records] == [0.5, 0.5]
    assert len({record.key for record in records}) == 2


def test_of_allocations_that_nobody_sampled_there_are_records_too(work):
    records = tasks(work, "exit 9", 3).records(1010.0)
    assert [record.gpu for record in records] == [f"bitfusion:n1:{index}" for index in range(3)]
    assert [record.quality for record in records] == [UNKNOWN] * 3


def test_the_sampler_ends_with_its_allocation_and_nothing_of_it_stays(work):
    pool = Pool(work, "sleep 600 & echo $! $$; trap '' TERM; wait; wait; sleep 600")
    allocation = allocate(work)
    pool.job.watch(0.0)
    select.select([pool.job.stream], [], [], 20)
    pids = [int(word) for word in os.read(pool.job.stream, 100).split()]
    allocation.unlink()
    pool.job.watch(1.0)
    assert pool.job.stream is None

    def running(pid):
        try:
            with open(f"/proc/{pid}/stat") as stream:
                return stream.read().rsplit(")")[1].split()[0] not in "ZX"
        except FileNotFoundError:
            return False

    deadline = time.monotonic() + 10
    while any(running(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_pool_that_this_nodes_policy_does_not_know_is_unknown(work):
    record = launch(5, 0.25, (), "bitfusion")
    job = PoolJob(record, str(work), None, sys.executable, 1.0, 10.0, lambda line: None)
    allocate(work)
    job.watch(0.0)
    assert job.streams() == {} and job.records(1010.0)[0].quality == UNKNOWN


def test_a_client_that_cannot_be_started_is_one_line(work):
    pool = Pool(work, "exit 0")
    (work.parent / "client").unlink()
    allocate(work)
    pool.job.watch(0.0)
    assert pool.job.stream is None and "No such file" in pool.lines[0]
