import json
import os
import stat
from dataclasses import replace

import pytest

from slurm_gpushare.gpu_hour import GpuHour
from slurm_gpushare.metrics import spool as module
from slurm_gpushare.metrics.accumulate import Accumulator
from slurm_gpushare.metrics.spool import Outbox, Spool, of_line

from .records import launch


def record(job_id=1):
    return Accumulator(launch(job_id), "GPU-1", 0, "shard", 0.25, "node").record(1010.0)


@pytest.fixture
def spool(tmp_path):
    return Spool(str(tmp_path / "n1"))


def jobs(lines):
    return [json.loads(line)["job_id"] for line in lines]


def content(spool, name):
    path = os.path.join(spool.folder, name)
    return open(path, "rb").read() if os.path.exists(path) else None


def test_records_come_back_oldest_first_until_they_are_sent(spool):
    spool.append([record(1), record(2)])
    spool.append([record(3)])
    lines, length = spool.batch(2)
    assert jobs(lines) == [1, 2] == jobs(spool.batch(2)[0])
    spool.append([record(4)])
    spool.sent(length)
    lines, length = spool.batch(9)
    assert jobs(lines) == [3, 4]
    spool.sent(length)
    assert spool.batch(9) == ([], 0) and content(spool, "usage.jsonl") is None


def test_only_root_may_read_it(spool, tmp_path):
    spool.append([record()])
    assert stat.S_IMODE(os.stat(tmp_path / "n1").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(tmp_path / "n1/usage.jsonl").st_mode) == 0o600


def test_a_link_in_its_place_is_not_followed(spool, tmp_path):
    os.symlink(tmp_path / "elsewhere", tmp_path / "n1/usage.jsonl")
    with pytest.raises(OSError):
        spool.append([record()])
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("torn", [b'{"v":1,"job_id":', b"\0" * 50, b"\xff\xfe", b'{"v":77}', b"[" * 5000])
def test_what_is_no_record_is_set_aside_and_holds_nobody_up(spool, tmp_path, torn):
    spool.append([record(1)])
    with open(tmp_path / "n1/usage.jsonl", "ab") as stream:
        stream.write(torn)
    spool.append([record(2)])
    got = []
    while (batch := spool.batch(9))[0]:
        got += jobs(batch[0])
        spool.sent(batch[1])
    assert got == [1, 2]
    assert content(spool, "corrupt.jsonl") == torn + b"\n"


def test_a_torn_end_alone_is_set_aside(spool, tmp_path):
    (tmp_path / "n1/usage.jsonl").write_bytes(b'{"v":1')
    assert spool.batch(9) == ([], 0)
    assert content(spool, "corrupt.jsonl") == b'{"v":1\n' and content(spool, "usage.jsonl") is None


def test_a_refused_record_is_kept_with_the_answer(spool):
    spool.append([record(1), record(2)])
    lines, length = spool.batch(1)
    spool.refused(lines[0], 'status 400: "no"\n')
    spool.sent(length)
    kept = json.loads(content(spool, "refused.jsonl"))
    assert kept["answer"] == 'status 400: "no"\n' and kept["record"]["job_id"] == 1
    assert jobs(spool.batch(9)[0]) == [2]


def test_a_full_disk_leaves_no_half_record(spool, monkeypatch):
    spool.append([record(1)])
    before = content(spool, "usage.jsonl")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError):
        spool.append([record(2)])
    assert content(spool, "usage.jsonl") == before


def test_hours_of_gpus_go_the_same_way(spool):
    hour = GpuHour("lab", "n1", "GPU-1", "node", 3600.0, None, 9.0, "measured", *[0.0] * 9)
    spool.append([record(1), hour])
    lines, length = spool.batch(9)
    assert of_line(lines[1]) == hour and of_line(lines[0]) == record(1)
    spool.sent(length)
    assert content(spool, "usage.jsonl") is None and content(spool, "corrupt.jsonl") is None


def test_a_spool_longer_than_one_read_loses_nothing(spool, monkeypatch):
    monkeypatch.setattr(module, "_READ_AT_ONCE", 3000)
    spool.append([record(number) for number in range(20)])
    got = []
    while (batch := spool.batch(100))[0]:
        got += jobs(batch[0])
        spool.sent(batch[1])
    assert got == list(range(20)) and content(spool, "corrupt.jsonl") is None


def test_one_longer_record_than_a_read_is_not_taken_for_two(spool, monkeypatch):
    monkeypatch.setattr(module, "_READ_AT_ONCE", 1200)
    spool.append([replace(record(1), gpu_name="x" * 200), record(2)])
    assert jobs(spool.batch(9)[0]) == [1]


def test_an_outbox_keeps_what_cannot_be_written_and_says_when_it_is(spool, monkeypatch):
    lines, heard = [], []
    outbox = Outbox(spool, lines.append, lambda: heard.append(len(spool.batch(9)[0])))
    assert outbox.write() and heard == []

    def full(records):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(spool, "append", full)
        assert not outbox.write([record(1)])
        assert not outbox.write([record(2)])
    assert "2 usage record(s) cannot be written and are kept in memory" in lines[-1] and heard == []
    assert outbox.write() and heard == [2]
    assert jobs(spool.batch(9)[0]) == [1, 2]
    assert outbox.write() and heard == [2]
