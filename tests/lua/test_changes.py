"""`scontrol update`: a pending job is decided anew, and nobody edits a grant."""

import pytest

from slurm_gpushare.grant import decode_grant
from tests.lua.conftest import ALICE, Answer, Controller
from tests.unit.test_grant import FIRST

BOB = 1002
RUNNING = 1


@pytest.fixture
def pool_job(controller) -> dict:
    return record_of(controller.submit(tres_per_node="gres/gpu:0.25", partition="bitfusion", extra="mine"), "bitfusion")


@pytest.fixture
def shard_job(controller) -> dict:
    asked = {"tres_per_node": "gres/gpu:0.25,gres/nvme:1", "licenses": "matlab:2"}
    return record_of(controller.submit(partition="shard", **asked), "shard")


def record_of(answer: Answer, partition: str, **others: object) -> dict:
    """The job as slurmctld then keeps it."""
    assert answer.status == 0, answer.told
    kept = {name: answer.job.get(name) for name in ("extra", "tres_per_node", "licenses", "min_nodes", "max_nodes")}
    return {**kept, "partition": partition, "user_id": ALICE, "job_state": 0, **others}


def change(controller: Controller, record: dict, **fields: object) -> Answer:
    return controller.modify(record, user_name="alice", **fields)


@pytest.mark.parametrize(
    ("asked", "slices", "request_text"),
    [
        ({"tres_per_node": "gres/gpu:0.5"}, 50, "gpu:0.5"),
        ({"tres_per_node": "gpu:30%"}, 30, "gpu:30%"),
        ({"tres_per_job": "gres/gpu:1/4"}, 25, "--gpus=1/4"),
        ({"tres_per_node": "gres/gpu:8G"}, 51, "gpu:8G"),
    ],
)
def test_another_share_is_decided_anew(controller, pool_job, asked: dict, slices: int, request_text: str) -> None:
    answer = change(controller, pool_job, **asked)
    assert answer.status == 0, answer.told
    grant = decode_grant(answer.job["extra"])
    assert (grant.slices, grant.request, grant.extra) == (slices, request_text, "mine")
    assert answer.job["tres_per_node"] == f"gres/bitfusion:{slices}" and answer.job["licenses"] == f"bitfusion:{slices}"
    assert "tres_per_job" not in answer.job and len(answer.told) == 1


def test_a_grant_of_the_first_version_is_still_decided(controller) -> None:
    job = {
        **{"extra": FIRST, "partition": "shard", "tres_per_node": "gres/shard:25", "user_id": ALICE},
        **{"min_nodes": 2, "max_nodes": 2, "job_state": 0},
    }
    answer = change(controller, job, tres_per_node="gres/gpu:0.5")
    assert answer.status == 0, answer.told
    grant = decode_grant(answer.job["extra"])
    assert (grant.slices, grant.nodes, grant.extra) == (50, 2, 'mine "\n')
    assert change(controller, job, extra="other").status == -1


def test_more_nodes_take_more_of_the_pool(controller, pool_job) -> None:
    answer = change(controller, pool_job, min_nodes=2, max_nodes=2)
    assert answer.job["licenses"] == "bitfusion:50" and decode_grant(answer.job["extra"]).nodes == 2
    refused = change(controller, pool_job, min_nodes=20, max_nodes=20)
    assert refused.status == -1 and "room for 12" in refused.told[0]


def test_another_partition_takes_its_own_resources(controller, pool_job, shard_job) -> None:
    back = change(controller, shard_job, partition="bitfusion")
    assert back.job["tres_per_node"] == "gres/bitfusion:25,gres/nvme:1"
    assert back.job["licenses"] == "matlab:2,bitfusion:25"
    assert decode_grant(back.job["extra"]).rule == "partition bitfusion"
    nowhere = change(controller, shard_job, partition="cpu")
    assert nowhere.status == -1 and "has no shared GPUs" in nowhere.told[0]


def test_what_lua_cannot_take_away_from_a_pending_job(controller, pool_job, shard_job) -> None:
    there = change(controller, pool_job, partition="shard")
    assert there.status == -1 and "holds licences of bitfusion" in there.told[0]
    whole = change(controller, shard_job, tres_per_node="gres/gpu:1")
    assert whole.status == -1 and "cancel the job" in whole.told[0]


def test_own_licences_change_beside_the_pools(controller, pool_job) -> None:
    assert change(controller, pool_job, licenses="matlab:1").job["licenses"] == "matlab:1,bitfusion:25"
    assert change(controller, pool_job, licenses="").job["licenses"] == "bitfusion:25"
    assert change(controller, pool_job, licenses="bitfusion:1").status == -1


def test_a_share_of_each_task_is_submitted_anew(controller) -> None:
    record = record_of(controller.submit(tres_per_task="gres/gpu:0.25", num_tasks=2, partition="shard"), "shard")
    answer = change(controller, record, num_tasks=4)
    assert answer.status == -1 and "each task" in answer.told[0]


@pytest.mark.parametrize(
    "asked",
    [
        {"extra": '{"v":1,"backend":"shard"}'},
        {"extra": "mine"},
        {"extra": ""},
        {"tres_per_node": "gres/bitfusion:50"},
        {"tres_per_node": "gres/gpu:0.001"},
        {"tres_per_node": "gres/gpu:9"},
        {"tres_per_node": ""},
        {"tres_per_node": "gres/nvme:1"},
        {"licenses": "bitfusion:1"},
        {"partition": "cpu"},
        {"partition": "shard,bitfusion"},
    ],
)
def test_what_no_change_can_do(controller, pool_job, asked: dict) -> None:
    answer = change(controller, pool_job, **asked)
    assert answer.status == -1 and len(answer.told) == 1 and answer.told[0].startswith("gpushare: ")
    assert controller.modify(pool_job, uid=0, **asked).status == 0  # root may mend a job


@pytest.mark.parametrize(
    "asked", [{"tres_per_node": "gres/gpu:0.5"}, {"partition": "shard"}, {"min_nodes": 2}, {"account": "chemistry"}]
)
def test_a_job_that_has_begun_or_is_anothers(controller, pool_job, asked: dict) -> None:
    assert "has begun" in change(controller, {**pool_job, "job_state": RUNNING}, **asked).told[0]
    assert "only its owner" in controller.modify({**pool_job, "user_id": BOB}, **asked).told[0]


@pytest.mark.parametrize("asked", [{}, {"time_limit": 10}, {"comment": "x"}])
def test_other_changes_of_a_granted_job_pass(controller, pool_job, asked: dict) -> None:
    for state in (0, RUNNING):
        answer = change(controller, {**pool_job, "job_state": state}, **asked)
        assert answer.status == 0 and answer.told == []


def test_other_jobs_can_get_a_share(controller) -> None:
    record = {"partition": "shard", "user_id": ALICE, "job_state": 0, "extra": "words"}
    answer = change(controller, record, tres_per_node="gres/gpu:0.5")
    assert answer.job["tres_per_node"] == "gres/shard:50" and decode_grant(answer.job["extra"]).extra == "words"
    assert change(controller, {**record, "user_id": BOB}, tres_per_node="gres/gpu:0.5").status == -1
    for bad in ({"tres_per_node": "gres/shard:50"}, {"licenses": "bitfusion:25"}, {"extra": '{"v":1}'}):
        assert change(controller, record, **bad).status == -1


@pytest.mark.parametrize(
    "asked", [{"extra": "mine"}, {"tres_per_node": "gres/gpu:2"}, {"licenses": "matlab"}, {"min_nodes": 2}]
)
def test_other_changes_of_other_jobs_pass(controller, asked: dict) -> None:
    record = {"partition": "shard", "extra": "words", "user_id": ALICE, "job_state": 0}
    answer = change(controller, record, **asked)
    assert answer.status == 0 and answer.told == []
    assert {name: answer.job.get(name) for name in asked} == asked
