import json
import os
import stat

import pytest

from slurm_gpushare.errors import BrokenInstallation, RefusedError
from slurm_gpushare.launch import ContainerRequest, Place, read_record
from slurm_gpushare.node import allocated
from slurm_gpushare.node.job import read_job
from slurm_gpushare.node.prolog import OPTION, container_request, make_record, prolog
from slurm_gpushare.node_policy import read_node_policy


@pytest.fixture
def record_of(node):
    """The record that prolog would write."""
    return lambda environment: make_record(read_job(environment), environment, read_node_policy(node.policy), 1.5)


def test_options_of_a_container():
    environment = {
        OPTION + "container_image": "/i/a b.sif",
        OPTION + "container_mounts": "/a:/b:ro,/c:/d",
        OPTION + "dataset": "digits,words",
        OPTION + "container_scope": "tasks",
    }
    assert container_request(environment) == ContainerRequest(
        "/i/a b.sif", ("/a:/b:ro", "/c:/d"), ("digits", "words"), "tasks"
    )
    assert container_request({OPTION + "dataset": "digits"}) == ContainerRequest("", (), ("digits",))
    assert container_request({}) is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"container_mount_home": "(null)", "container_writable": ""}, {"mount_home": "yes", "writable": "yes"}),
        ({"container_mount_home": "no", "container_writable": "no"}, {"mount_home": "no", "writable": "no"}),
        ({"no_container_mount_home": "", "container_mount_home": "yes"}, {"mount_home": "no"}),
        ({"container_workdir": "/w", "container_env": "A,B"}, {"workdir": "/w", "env": ("A", "B")}),
    ],
)
def test_options_that_may_stand_alone(words, expected):
    given = {OPTION + name: text for name, text in {"container_image": "/i", **words}.items()}
    assert container_request(given) == ContainerRequest("/i", **expected)


def test_of_options_without_image_and_mount_nothing_is_kept():
    assert container_request({OPTION + "container_workdir": "/w", OPTION + "container_scope": "job"}) is None


def test_a_word_that_is_no_answer_is_refused():
    with pytest.raises(RefusedError, match="--container-writable: 'x' is neither yes nor no"):
        container_request({OPTION + "container_image": "/i", OPTION + "container_writable": "x"})


def test_the_record_says_what_the_image_is(node, slurm):
    image = node.base / "images/a.sif"
    image.write_bytes(b"SIF")
    (node.base / "images/link.sif").symlink_to("a.sif")
    asked = f"{node.base}/images/link.sif"
    prolog({**slurm, OPTION + "container_image": asked}, 1.0, node.run_dir, node.policy)
    found = image.stat()
    assert read_record(str(node.job / "launch.json")).options["image"] == {
        "asked": asked,
        "path": str(image),
        "inode": found.st_ino,
        "size": 3,
        "mtime": found.st_mtime_ns,
    }


@pytest.mark.parametrize("name", ["nosuch.sif", "secret/a.sif", "pipe/a.sif", "loop"])
def test_an_image_that_its_user_cannot_open_is_left_to_the_task(node, slurm, name):
    (node.base / "images/secret").mkdir(mode=0o700)
    (node.base / "images/secret/a.sif").touch()
    (node.base / "images/loop").symlink_to("loop")
    environment = {**slurm, OPTION + "container_image": f"{node.base}/images/{name}"}
    prolog(environment, 1.0, node.run_dir, node.policy)
    assert read_record(str(node.job / "launch.json")).options == {}


def test_an_unknown_scope_is_refused():
    with pytest.raises(RefusedError, match="'node'"):
        container_request({OPTION + "container_scope": "node"})


def test_a_job_that_asks_for_nothing_has_no_record(record_of, slurm):
    assert record_of(slurm) is None
    assert record_of({**slurm, "SLURM_JOB_EXTRA": "the user's own words"}) is None


def test_whole_gpus_are_recorded_for_the_agent(record_of, slurm):
    record = record_of({**slurm, "SLURM_JOB_GPUS": "0,3", "SLURM_JOB_SLUID": "s2ANM"})
    assert (record.gpus, record.grant, record.container, record.refused) == ((0, 3), None, None, None)
    assert (record.sluid, record.started, record.job_id, record.node) == ("s2ANM", 1.5, 7, "n1")


def test_a_grant_of_the_pool(record_of, pool_job):
    record = record_of(pool_job)
    assert record.refused is None
    assert (record.grant.backend, record.grant.fraction, record.gpus) == ("bitfusion", 0.25, ())


def test_a_grant_of_shards(record_of, slurm, grant_text):
    environment = {**slurm, "SLURM_JOB_EXTRA": grant_text(backend="shard"), "SLURM_JOB_GPUS": "1"}
    record = record_of(environment)
    assert (record.refused, record.grant.backend, record.gpus) == (None, "shard", (1,))


@pytest.fixture
def pinned(node):
    """The node's policy with licences for each GPU of two servers."""
    data = json.loads((node.base / "node.json").read_text())
    servers = {"s1": "10.0.0.1:56001", "s2": "10.0.0.2:56001"}
    data["backends"]["bitfusion"] |= {"placement": "pinned", "servers": servers, "licence": None}
    (node.base / "node.json").write_text(json.dumps(data))


def test_where_the_allocations_of_a_pool_lie(pinned, record_of, slurm, grant_text):
    environment = {
        **slurm,
        "SLURM_JOB_EXTRA": grant_text(slices=50, tasks=2),
        "SLURM_JOB_LICENSES": "matlab:1,gpu1@s2:50",
    }
    record = record_of(environment)
    assert record.refused is None and record.grant.tasks == 2
    assert record.places == (Place("s2", "10.0.0.2:56001", (1,)),) * 2


@pytest.mark.parametrize(
    ("environment", "status", "text"),
    [
        ({}, 77, "no licences"),
        ({"SLURM_JOB_LICENSES": "bitfusion:25"}, 77, "the grant costs 1 x 25"),
        ({"SLURM_JOB_LICENSES": "gpu0@s3:25"}, 77, "the grant costs 1 x 25"),
        ({"SLURM_JOB_LICENSES": "gpu0@s1:25|gpu0@s2:25"}, 75, "which GPU of the pool Slurm chose is not known"),
    ],
)
def test_licences_that_are_not_the_grants(pinned, record_of, slurm, grant_text, monkeypatch, environment, status, text):
    monkeypatch.setattr(allocated, "PATIENCE", 0.0)
    record = record_of({**slurm, "SLURM_JOB_EXTRA": grant_text(), **environment})
    assert text in record.refused and record.options == {"status": status}
    assert (record.grant, record.places) == (None, ())


@pytest.mark.parametrize(
    "changes, environment, status, text",
    [
        ({}, {}, 77, "'none'"),
        ({}, {"SLURM_JOB_LICENSES": "bitfusion:1"}, 77, "costs 25"),
        ({"slices": 1}, {"SLURM_JOB_LICENSES": "bitfusion:1"}, 77, "1 slices are less than"),
        ({"gpus": 4}, {"SLURM_JOB_LICENSES": "bitfusion:25"}, 77, "25 slices are less than 4 x 0.25"),
        ({"nodes": 2}, {"SLURM_JOB_LICENSES": "bitfusion:25"}, 77, "costs 50"),
        ({"backend": "shard"}, {}, 77, "Slurm gave this job 0 here"),
        ({"backend": "shard"}, {"SLURM_JOB_GPUS": "0,1"}, 77, "Slurm gave this job 2 here"),
        ({"backend": "nosuch"}, {}, 78, "'nosuch' is not known"),
        ({"backend": "gpu"}, {"SLURM_JOB_GPUS": "0"}, 78, "'gpu' is not in this node's policy"),
        ({"v": 2}, {}, 78, "version 2"),
        ({"fraction": 1.5}, {}, 78, "out of range"),
        ({"fraction": "0.25"}, {}, 78, "not a number"),
    ],
)
def test_what_slurm_did_not_allocate_is_not_believed(record_of, slurm, grant_text, changes, environment, status, text):
    record = record_of({**slurm, "SLURM_JOB_EXTRA": grant_text(**changes), **environment})
    assert text in record.refused
    assert "\n" not in record.refused
    assert record.options == {"status": status}
    assert record.grant is None


@pytest.mark.parametrize(
    "environment",
    [
        {OPTION + "container_image": "/i/\udcff.sif"},
        {"SLURM_JOB_LICENSES": "bitfusion:25", "SLURM_JOB_EXTRA": "extra"},
    ],
)
def test_what_is_not_utf8_fails_the_job_and_not_the_node(record_of, slurm, grant_text, environment):
    if environment.get("SLURM_JOB_EXTRA"):
        environment["SLURM_JOB_EXTRA"] = grant_text(request="XXX").replace("XXX", "\\ud800")
    record = record_of({**slurm, **environment})
    assert "UTF-8" in record.refused
    assert record.container is None and record.grant is None


def test_the_folder_and_its_owners(node, pool_job):
    os.umask(0o077)
    try:
        assert prolog(pool_job, 1.5, node.run_dir, node.policy) is None
    finally:
        os.umask(0o022)
    for path, mode, owner, group in (
        (node.job.parent, 0o755, 0, 0),
        (node.job, 0o755, 0, 0),
        (node.held, 0o755, 0, 0),
        (node.work.parent, 0o755, 0, 0),
        (node.work, 0o700, 1001, 1001),
        (node.job / "launch.json", 0o440, 0, 1001),
    ):
        status = path.lstat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (mode, owner, group), path
    assert os.listdir(node.job) == ["launch.json"] and os.listdir(node.work.parent) == ["work"]
    assert read_record(f"{node.job}/launch.json").grant.slices == 25


def test_a_requeued_job_gets_a_new_record_and_an_empty_work_folder(node, pool_job, slurm, grant_text):
    prolog(pool_job, 1.0, node.run_dir, node.policy)
    (node.work / "bitfusion1").write_text("stale")
    os.chown(node.work / "bitfusion1", 1001, 1001)
    again = {**slurm, "SLURM_JOB_EXTRA": grant_text(backend="shard"), "SLURM_JOB_GPUS": "0"}
    prolog(again, 2.0, node.run_dir, node.policy)
    record = read_record(f"{node.job}/launch.json")
    assert (record.started, record.grant.backend) == (2.0, "shard")
    assert os.listdir(node.work) == []
    # What the earlier run held was given back first.
    assert (node.bin / "bitfusion.calls").read_text() == f"1001 release_gpus -f {node.work}/bitfusion1\n"


def test_a_job_of_nothing_loses_what_an_earlier_run_left(node, pool_job, slurm):
    prolog(pool_job, 1.0, node.run_dir, node.policy)
    prolog(slurm, 2.0, node.run_dir, node.policy)
    assert os.listdir(node.jobs) == os.listdir(node.held) == []


def test_stale_content_is_removed_without_following_links(node, pool_job):
    prolog(pool_job, 1.0, node.run_dir, node.policy)
    victim = node.base / "data/keep"
    victim.write_text("precious")
    work = node.work
    (work / "link").symlink_to(node.base / "data")
    (work / "deep/er").mkdir(parents=True)
    (work / "deep/er/link").symlink_to(victim)
    os.link(victim, work / "deep/hard")
    prolog(pool_job, 2.0, node.run_dir, node.policy)
    assert os.listdir(work) == []
    assert victim.read_text() == "precious"


def test_a_node_without_a_policy_fails_only_jobs_with_a_grant(node, pool_job, slurm):
    prolog({**slurm, "SLURM_JOB_GPUS": "0"}, 1.0, node.run_dir, "/nosuch/node.json")
    with pytest.raises(BrokenInstallation, match="gpushare policy compile"):
        prolog(pool_job, 1.0, node.run_dir, "/nosuch/node.json")


def test_a_runtime_folder_that_is_not_roots_is_the_nodes_fault(node, pool_job):
    os.makedirs(node.run_dir)
    os.chown(node.run_dir, 1001, 1001)
    with pytest.raises(PermissionError, match="not root's alone"):
        prolog(pool_job, 1.0, node.run_dir, node.policy)


def test_a_link_in_place_of_the_runtime_folder_is_not_followed(node, pool_job):
    (node.base / "elsewhere").mkdir()
    os.symlink(node.base / "elsewhere", node.run_dir)
    with pytest.raises(OSError):
        prolog(pool_job, 1.0, node.run_dir, node.policy)
    assert os.listdir(node.base / "elsewhere") == []


def test_the_record_is_json_of_one_line(node, pool_job):
    prolog({**pool_job, OPTION + "container_image": "/i/a\nb,\"'.sif"}, 1.0, node.run_dir, node.policy)
    text = (node.job / "launch.json").read_text()
    assert "\n" not in text
    assert json.loads(text)["container"]["image"] == "/i/a\nb,\"'.sif"
