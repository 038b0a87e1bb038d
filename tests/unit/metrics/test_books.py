"""What the next agent takes up; more of it, with a whole node, is in test_meter.py and test_server.py."""

from dataclasses import dataclass, field

import pytest

from slurm_gpushare.metrics.accumulate import Accumulator
from slurm_gpushare.metrics.attribution import Holder, Process, attribute
from slurm_gpushare.metrics.books import Books, key_of
from slurm_gpushare.metrics.checkpoint import Checkpoint
from slurm_gpushare.metrics.gpu_hours import GpuHours
from slurm_gpushare.metrics.spool import RUNNING, Outbox, Spool

from .records import launch


@dataclass
class Measured:
    record: object
    ran: float = 0.0
    gpus: dict = field(default_factory=dict)

    def __post_init__(self):
        self.gpus = {0: Accumulator(self.record, "GPU-1", 0, "shard", 0.25, "node")}

    def sums(self):
        return self.gpus

    def memo(self):
        return [self.ran]

    def measure(self, seconds=1.0, sm=0.5):
        self.ran += seconds
        held = [Holder(1, 0.25, seconds)]
        interval = attribute(seconds, sm, held, [Process((1, 1), 1, sm, 7)], 50.0, 10.0)
        self.gpus[0].add(interval.shares[1], self.ran)
        return interval


class Shelf:
    """A spool folder on which one agent's books follow on another's."""

    def __init__(self, folder):
        self.folder = folder
        self.spool = Spool(str(folder))
        self.lines = []
        self.boots = []

    def books(self):
        checkpoint = Checkpoint(str(self.folder / RUNNING), self.lines.append)
        outbox = Outbox(self.spool, self.lines.append, lambda: None)
        books = Books(checkpoint, outbox, GpuHours("n1", "node"), self.lines.append)
        books.load(self.make)
        return books

    def make(self, record, memo, same_boot):
        self.boots.append(same_boot)
        return Measured(record, float(memo[0]))


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path / "spool")


def test_runs_that_begin_grow_and_end_between_two_snapshots_are_as_they_were(shelf):
    books = shelf.books()
    first, second, third = (Measured(launch(number)) for number in (1, 2, 3))
    books.begin(first)
    books.save()
    for _ in range(3):
        first.measure()
        books.save()
    books.begin(second)
    second.measure(sm=0.25)
    books.begin(third)
    books.save()
    books.ended.add(key_of(third.record))
    assert books.finish(key_of(third.record), [third.gpus[0].record(1001.0)])
    again = shelf.books()
    assert set(again.runs) == {key_of(first.record), key_of(second.record)} and again.ended == books.ended
    for one in (first, second):
        other = again.runs[key_of(one.record)]
        assert other.memo() == one.memo() and other.gpus[0].so_far == one.gpus[0].so_far
    assert shelf.boots == [True, True] and len(shelf.spool.batch(9)[0]) == 1


def test_hours_and_the_clusters_name_go_on_too(shelf):
    books = shelf.books()
    run = Measured(launch(1))
    books.hours.add("GPU-1", "Tesla", 100.0, run.measure())
    books.save()
    books.close_hours(7200.0)
    assert shelf.spool.batch(9)[0] == []  # whose cluster it is nobody has told yet
    books.begin(run)
    books.save()
    again = shelf.books()
    again.close_hours(7200.0)
    assert len(shelf.spool.batch(9)[0]) == 1
    again.save()
    shelf.books().close_hours(7200.0)
    assert len(shelf.spool.batch(9)[0]) == 1


def test_after_a_reboot_it_says_so(shelf, monkeypatch):
    books = shelf.books()
    books.begin(Measured(launch(1)))
    books.save()
    monkeypatch.setattr("slurm_gpushare.metrics.books._boot_id", lambda: "another")
    shelf.books()
    assert shelf.boots == [False]


def test_one_run_that_cannot_be_taken_up_holds_up_no_other(shelf, monkeypatch):
    books = shelf.books()
    for number in (1, 2):
        books.begin(Measured(launch(number)))
    books.save()

    def make(record, memo, same_boot):
        if record.job_id == 1:
            raise ValueError("no")
        return Measured(record)

    monkeypatch.setattr(shelf, "make", make)
    assert [job_id for job_id, _ in shelf.books().runs] == [2]
    assert any("job 1: what was measured of it is not taken up" in line for line in shelf.lines)


def test_what_no_disk_took_is_in_the_next_snapshot(shelf, monkeypatch):
    def full(records):
        raise OSError(28, "No space left on device")

    books = shelf.books()
    run = Measured(launch(1))
    books.begin(run)
    books.save()
    run.measure()
    with monkeypatch.context() as broken:
        broken.setattr(shelf.spool, "append", full)
        assert not books.finish(key_of(run.record), [run.gpus[0].record(1001.0)])
    again = shelf.books()
    assert again.runs == {} and again.write()
    assert len(shelf.spool.batch(9)[0]) == 1


def test_books_of_another_version_are_left_alone(shelf):
    (shelf.folder / RUNNING).write_text('{"v":2,"begun":[7]}\n')
    assert shelf.books().runs == {} and "version 2" in shelf.lines[0]
