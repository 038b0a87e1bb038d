"""The jobs that hold GPUs, from what squeue prints."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.status.jobs import expand_nodes, parse_jobs

GRANT = (
    '{"v":1,"backend":"shard","gpus":1,"fraction":0.25,"slices":25,"memory":null,"nodes":1,"rule":"r",'
    '"request":"gpu:0.25","extra":""}'
)


def job(**more: object) -> dict:
    """Return one job as both versions write it."""
    nodes = more.pop("on", ("n1",))
    return {
        "job_id": 7,
        "array_job_id": {"set": True, "infinite": False, "number": 0},
        "array_task_id": {"set": False, "infinite": False, "number": 0},
        "user_name": "alice",
        "job_state": ["RUNNING"],
        "start_time": {"set": True, "infinite": False, "number": 1795392416},
        "extra": GRANT,
        "gres_detail": ["shard:25(25/100,0/100)"],
        "job_resources": {"nodes": {"allocation": [{"name": name} for name in nodes]}},
        "nodes": ",".join(nodes),
        "licenses": "",
    } | more


def parse(**more: object):
    (one,) = parse_jobs(json.dumps({"jobs": [job(**more)]}))
    return one


def test_a_share() -> None:
    one = parse()
    assert (one.job_id, one.name, one.user, one.state, one.since) == (7, "7", "alice", "RUNNING", 1795392416)
    assert (one.backend, one.grant.request) == ("shard", "gpu:0.25")
    assert one.gpus == {"n1": {0: (25, 100)}}


def test_each_node_has_its_own_gpus() -> None:
    details = ["shard:75(25/100,50/100)", "gpu:p100:2(IDX:0,2-3),nvme:1(CNT:1)"]
    assert parse(on=("n2", "n10"), gres_detail=details).gpus == {
        "n2": {0: (25, 100), 1: (50, 100)},
        "n10": {0: None, 2: None, 3: None},
    }


def test_types_of_slices() -> None:
    detail = "gpu:a100_1g.5gb:1(IDX:2),gpu:a100_3g.20gb:1(IDX:0)"
    assert parse(gres_detail=[detail]).gpus == {"n1": {0: None, 2: None}}


def test_a_whole_gpu_has_no_grant_and_a_task_of_an_array_its_name() -> None:
    one = parse(extra="", gres_detail=["gpu:p100:1(IDX:1)"], array_job_id=5, array_task_id={"set": True, "number": 0})
    assert (one.backend, one.name, one.gpus) == ("gpu", "5_0", {"n1": {1: None}})


def test_slices_without_a_grant_are_of_no_backend() -> None:
    assert parse(extra="mine").backend is None
    assert parse(extra='{"v":9}').backend is None


def test_what_slurm_gave_of_several_licences() -> None:
    either = "gpu0@server1:50|gpu1@server1:50"
    assert parse(licenses=either, licenses_allocated="gpu1@server1:50").licences == {"gpu1@server1": 50}
    assert parse(licenses=either).licences == {}
    assert parse(licenses="gpu0@server1:50").licences == {"gpu0@server1": 50}
    assert parse(licenses=":::").licences == {}


def test_details_that_do_not_fit_the_nodes_are_not_guessed_at() -> None:
    assert parse(on=("n1", "n2")).gpus == {}
    assert parse(gres_detail=None).gpus == {}
    assert parse(job_resources={}, nodes="n[1-2]", gres_detail=["gpu:1(IDX:0)"] * 2).gpus == {
        "n1": {0: None},
        "n2": {0: None},
    }


def test_a_job_without_gpus_is_left_out() -> None:
    assert parse_jobs(json.dumps({"jobs": [job(extra="", gres_detail=["nvme:1(CNT:1)"])]})) == []


@pytest.mark.parametrize("text", ["", "{}", '{"jobs": 7}', '{"jobs": [{}]}', '{"jobs": ["x"]}'])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(SlurmError, match="squeue"):
        parse_jobs(text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", ("n1",)),
        ("n1,gpu[01-03,7],b", ("n1", "gpu01", "gpu02", "gpu03", "gpu7", "b")),
        ("", ()),
        ("n[1-2]x", ()),
        ("n[a-b]", ()),
        ("n[1-b]", ()),
        ("[1-2]", ()),
    ],
)
def test_lists_of_nodes(text: str, names: tuple) -> None:
    assert expand_nodes(text) == names


@given(st.text(alphabet="n1,[]-", max_size=12))
def test_any_text_gives_names_or_none(text: str) -> None:
    assert all(isinstance(name, str) and name for name in expand_nodes(text))
