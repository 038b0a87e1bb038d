import errno
import os

import pytest

from slurm_gpushare.metrics.checkpoint import Checkpoint


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "running.jsonl"


@pytest.fixture
def lines():
    return []


@pytest.fixture
def checkpoint(path, clock, lines):
    return Checkpoint(str(path), lines.append, clock)


def test_a_snapshot_and_what_came_after_it_come_back(checkpoint, path, clock):
    assert checkpoint.load() == [] and checkpoint.due
    checkpoint.append({"lost": "before the first snapshot there is nothing to add to"})
    checkpoint.replace({"n": 0})
    for number in (1, 2):
        checkpoint.append({"n": number}, sync=number == 2)
    assert Checkpoint(str(path)).load() == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert not checkpoint.due and path.stat().st_mode & 0o777 == 0o600
    clock.now += 60
    assert checkpoint.due
    checkpoint.replace({"n": 3})
    checkpoint.append({"n": 4})
    assert Checkpoint(str(path)).load() == [{"n": 3}, {"n": 4}]
    assert os.listdir(path.parent) == [path.name]


def test_a_line_that_was_torn_when_the_agent_died_is_left_out(checkpoint, path, lines):
    checkpoint.replace({"n": 0})
    checkpoint.append({"n": 1})
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        assert checkpoint.load() == [{"n": number} for number in range(whole[:cut].count(b"\n"))]
    assert lines == []


@pytest.mark.parametrize("damage", [b"\0\0\0\n", b"7\n", b"[[1]]\n", b"{\n", b"\xff\n", b"[" * 100000 + b"\n"])
def test_what_is_not_readable_ends_what_is_believed(checkpoint, path, lines, damage):
    path.write_bytes(b'{"n":0}\n' + damage + b'{"n":2}\n')
    assert checkpoint.load() == [{"n": 0}]
    assert len(lines) == 1 and "line 2 is not readable" in lines[0]


def test_a_full_disk_leaves_the_file_whole_and_calls_for_a_snapshot(checkpoint, path, lines, monkeypatch):
    checkpoint.replace({"n": 0})

    def half(descriptor, data, offset):
        return real(descriptor, data[: len(data) // 2], offset)

    real = os.pwrite
    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", half)
        checkpoint.append({"n": 1})
        checkpoint.append({"n": 2})
    assert checkpoint.load() == [{"n": 0}] and checkpoint.due and len(lines) == 1

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        for _ in range(3):
            checkpoint.replace({"n": 3})
    assert checkpoint.load() == [{"n": 0}] and checkpoint.due and len(lines) == 2
    assert os.listdir(path.parent) == [path.name]
    checkpoint.replace({"n": 4})
    assert checkpoint.load() == [{"n": 4}] and not checkpoint.due


def test_a_folder_that_is_gone_is_told_once(checkpoint, path, lines):
    path.parent.rmdir()
    for _ in range(3):
        checkpoint.replace({"n": 0})
        checkpoint.append({"n": 1})
    assert len(lines) == 1 and "in memory alone" in lines[0]
