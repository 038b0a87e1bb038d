"""The launch record's round trip, and whose file is believed."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.errors import GrantError
from slurm_gpushare.grant import Grant
from slurm_gpushare.launch import ContainerRequest, LaunchRecord, Place, read_record, record_from_json, record_to_json

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
GRANTS = st.builds(
    Grant,
    backend=TEXT,
    gpus=st.integers(1, 64),
    fraction=st.floats(0.01, 1),
    slices=st.integers(1, 6400),
    memory=st.one_of(st.none(), st.integers(1, 2**40)),
    nodes=st.integers(1, 100),
    rule=TEXT,
    request=TEXT,
    extra=TEXT,
    tasks=st.integers(1, 8),
)
CONTAINERS = st.builds(
    ContainerRequest,
    image=TEXT,
    mounts=st.lists(TEXT, max_size=3).map(tuple),
    datasets=st.lists(TEXT, max_size=3).map(tuple),
    scope=st.sampled_from(["", "job", "tasks"]),
    workdir=TEXT,
    mount_home=st.sampled_from(["", "yes", "no"]),
    env=st.lists(TEXT, max_size=3).map(tuple),
    writable=st.sampled_from(["", "yes", "no"]),
)
PLACES = st.builds(Place, server=TEXT, address=TEXT, gpus=st.lists(st.integers(0, 15), max_size=2).map(tuple))
RECORDS = st.builds(
    LaunchRecord,
    job_id=st.integers(1, 2**26),
    uid=st.integers(0, 2**31),
    gid=st.integers(0, 2**31),
    user=TEXT,
    node=TEXT,
    cluster=TEXT,
    started=st.floats(0, 4e9),
    grant=st.one_of(st.none(), GRANTS),
    gpus=st.lists(st.integers(0, 15), max_size=4).map(tuple),
    container=st.one_of(st.none(), CONTAINERS),
    refused=st.one_of(st.none(), TEXT),
    sluid=st.one_of(st.none(), TEXT),
    places=st.lists(PLACES, max_size=3).map(tuple),
    options=st.dictionaries(TEXT, TEXT, max_size=2),
)
RECORD = LaunchRecord(7, 1001, 1001, "alice", "n1", "lab", 1.5, None)


def test_a_record_of_a_job_that_began_before_an_upgrade_is_read() -> None:
    data = json.loads(record_to_json(RECORD))
    data["container"] = {"image": "/i", "mounts": ["/a:/b"], "datasets": ["d"], "scope": "tasks"}
    assert record_from_json(json.dumps(data)).container == ContainerRequest("/i", ("/a:/b",), ("d",), "tasks")


@given(RECORDS)
def test_round_trip(record: LaunchRecord) -> None:
    text = record_to_json(record)
    assert "\n" not in text
    assert record_from_json(text) == record


@pytest.mark.parametrize("text", ["", "[]", "1", "{}", '{"v":1}', '{"v":2}'])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(GrantError, match="launch record"):
        record_from_json(text)


def test_a_grant_of_another_version_is_refused() -> None:
    data = json.loads(record_to_json(RECORD))
    data["grant"] = {"v": 9}
    with pytest.raises(GrantError, match="version 9"):
        record_from_json(json.dumps(data))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write a file that root owns")
def test_only_roots_own_file_is_believed(tmp_path) -> None:
    path = tmp_path / "launch.json"
    with pytest.raises(FileNotFoundError):
        read_record(str(path))
    path.write_text(record_to_json(RECORD))
    assert read_record(str(path)) == RECORD
    link = tmp_path / "link.json"
    link.symlink_to(path)
    with pytest.raises(OSError):
        read_record(str(link))
    os.chown(path, 1001, 1001)
    with pytest.raises(GrantError, match="belongs to uid 1001, not to root"):
        read_record(str(path))
