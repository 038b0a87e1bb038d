import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.errors import GrantError
from slurm_gpushare.launch import ContainerRequest, LaunchRecord
from slurm_gpushare.usage import (
    HELD,
    HOW,
    UsageRecord,
    enforces_of,
    enforces_text,
    image_text,
    usage_from_dict,
    usage_to_json,
)

RECORD = UsageRecord(
    cluster="lab",
    job_id=7,
    node="n1",
    gpu="GPU-1",
    gpu_index=0,
    gpu_name="Tesla P100",
    backend="shard",
    fraction=0.25,
    uid=1001,
    user="alice",
    started=1000.5,
    ended=1100.5,
    seconds_sampled=80.0,
    quality="measured",
    source="node",
    gpu_seconds_reserved=25.0,
    gpu_seconds_used=20.0,
    gpu_seconds_idle=5.0,
    gpu_seconds_over=0.0,
    memory_peak_bytes=1 << 30,
    energy_joules=None,
    processes_seen=2,
)


def test_record_survives_its_line():
    line = usage_to_json(RECORD)
    assert "\n" not in line and json.loads(line)["v"] == 2
    assert usage_from_dict(json.loads(line)) == RECORD


def test_unknown_stays_null():
    assert json.loads(usage_to_json(RECORD))["energy_joules"] is None


def test_coverage_is_the_sampled_share_of_the_run():
    assert RECORD.coverage == 0.8


@given(st.floats(0, 1e9), st.floats(-1e9, 1e9))
def test_coverage_is_always_a_share(sampled, span):
    data = json.loads(usage_to_json(RECORD)) | {"seconds_sampled": sampled, "ended": RECORD.started + span}
    assert 0 <= usage_from_dict(data).coverage <= 1


def test_key_tells_runs_and_gpus_apart():
    data = json.loads(usage_to_json(RECORD))
    assert usage_from_dict(data | {"started": 1.0}).key != RECORD.key
    assert usage_from_dict(data | {"gpu": "GPU-2"}).key != RECORD.key
    assert usage_from_dict(data | {"gpu_seconds_used": 9.0}).key == RECORD.key


@pytest.mark.parametrize("change", [{"v": 3}, {"v": None}, {"surprise": 1}])
def test_another_version_or_key_is_refused(change):
    with pytest.raises(GrantError, match=r"version|surprise"):
        usage_from_dict(json.loads(usage_to_json(RECORD)) | change)


@pytest.mark.parametrize("data", [None, [], "text", {}, {"v": 1}])
def test_what_is_no_record_is_refused(data):
    with pytest.raises(GrantError):
        usage_from_dict(data)


def test_a_record_of_the_first_version_lacks_what_came_later():
    data = json.loads(usage_to_json(RECORD)) | {"v": 1}
    later = ("enforces", "sm_mean", "memory_mean_bytes", "gpu_seconds_without_process", "gaps", "series")
    for name in {item.name for item in fields(UsageRecord) if item.default is None}:
        del data[name]
    record = usage_from_dict(data)
    assert record.key == RECORD.key and {getattr(record, name) for name in later} == {None}


def test_a_record_of_an_agent_that_did_not_know_what_is_enforced():
    data = json.loads(usage_to_json(RECORD))
    del data["enforces"]
    assert usage_from_dict(data).enforces is None


@pytest.mark.parametrize(
    ("asked", "found", "text"),
    [
        (None, None, None),
        ("", None, None),
        ("/data/a.sif", None, None),  # its user could not open it
        ("docker://registry.example.org/a:1", None, "docker://registry.example.org/a:1"),
        ("/data/a b", {"asked": "/data/a b", "path": "/srv/a b", "inode": 7}, "/srv/a b inode=7"),
        (
            "/data/a.sif",
            {"asked": "/data/a.sif", "path": "/data/a.sif", "inode": 7, "size": 9, "mtime": 1.5},
            "/data/a.sif inode=7 size=9 mtime=1.5",
        ),
        ("/data/a.sif", {"asked": "/data/a.sif", "path": "/data/a\n.sif", "inode": 7}, None),
    ],
)
def test_the_image_of_a_job(asked, found, text):
    box = None if asked is None else ContainerRequest(image=asked)
    job = LaunchRecord(1, 1001, 1001, "alice", "n1", "lab", 1.0, None, container=box)
    assert image_text(job if found is None else job._replace(options={"image": found})) == text


HELD_BY = st.fixed_dictionaries({name: st.sampled_from(HOW) for name in HELD})


@given(st.lists(HELD_BY, min_size=1))
def test_of_several_parts_the_least_holds(parts):
    least = enforces_of([enforces_text(part) for part in parts])
    words = dict(item.split("=") for item in least.split(","))
    assert words == {name: HOW[max(HOW.index(part[name]) for part in parts)] for name in HELD}


def test_what_one_part_does_not_know_is_not_known():
    text = "memory=enforced,compute=none,faults=none"
    assert enforces_of([text, None]) is None and enforces_of([]) is None and enforces_of([text]) == text


@pytest.mark.parametrize("text", ["", "memory=enforced", "memory=much,compute=none,faults=none", "a=b,c=d,e=f", "x"])
def test_what_no_backend_declares_is_refused(text):
    with pytest.raises(ValueError):
        enforces_of([text])
