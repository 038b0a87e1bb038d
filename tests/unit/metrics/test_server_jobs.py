"""Whose the GPUs of a pool's server are, as Slurm tells it."""

import json

import pytest

from slurm_gpushare.errors import GpushareError
from slurm_gpushare.metrics.server_jobs import JobWatch, find_backend, parse_jobs
from slurm_gpushare.node_policy import BackendPolicy, ContainerPolicy, NodePolicy
from slurm_gpushare.slurm.command import SlurmError


def squeue(**fields: object) -> str:
    job = {
        "job_id": 7,
        "cluster": "lab",
        "user_id": 1001,
        "group_id": 1001,
        "user_name": "alice",
        "job_state": ["RUNNING"],
        "nodes": "c1",
        "start_time": {"set": True, "number": 1000},
        "end_time": {"set": True, "number": 4600},
    }
    return json.dumps({"jobs": [{**job, **fields}]})


def policy(**backends: BackendPolicy) -> NodePolicy:
    return NodePolicy(slices_per_gpu=100, container=ContainerPolicy("auto", (), (), True), backends=backends)


SERVERS = {"server1": "10.0.0.1:56001", "server2": "10.0.0.2:56001"}


def test_a_running_job_and_its_shares_of_this_server_alone() -> None:
    text = squeue(licenses="matlab:1,gpu0@server1:100,gpu1@server1:25,gpu1@server2:25")
    ((key, job),) = parse_jobs(text, "server1", 100).items()
    assert key == (7, 1000.0) and job.shares == {0: 1.0, 1: 0.25} and job.ended is None
    record = job.record
    assert (record.cluster, record.node, record.uid, record.user) == ("lab", "server1", 1001, "alice")
    assert record.gpus == (0, 1)


def test_what_slurm_chose_of_several() -> None:
    text = squeue(licenses="gpu0@server1:25|gpu0@server2:25", licenses_allocated="gpu0@server2:25")
    assert parse_jobs(text, "server1", 100) == {}
    assert parse_jobs(text, "server2", 100)[7, 1000.0].shares == {0: 0.25}
    assert parse_jobs(squeue(licenses="gpu0@server1:25|gpu0@server2:25"), "server1", 100) == {}  # not guessed


@pytest.mark.parametrize("states", [["COMPLETED"], ["CANCELLED", "COMPLETING"], "TIMEOUT"])
def test_a_job_that_ended_says_when(states: object) -> None:
    job = parse_jobs(squeue(licenses="gpu0@server1:25", job_state=states), "server1", 100)[7, 1000.0]
    assert job.ended == 4600


@pytest.mark.parametrize(
    "fields",
    [
        {"licenses": "gpu0@server1:25", "job_state": ["PENDING", "COMPLETING"]},
        {"licenses": "gpu0@server1:25", "start_time": {"set": False, "number": 0}},
        {"licenses": "gpu0@server1:25", "job_state": ["CANCELLED"], "nodes": ""},
        {"licenses": "gpux@server1:25"},
        {"licenses": "gpu0@server1:x"},
        {"licenses": ""},
    ],
)
def test_jobs_that_have_nothing_here_are_left_out(fields: dict) -> None:
    assert parse_jobs(squeue(**fields), "server1", 100) == {}


def test_what_is_not_squeues_is_said() -> None:
    with pytest.raises(SlurmError, match="squeue"):
        parse_jobs("{}", "server1", 100)


def test_the_backend_that_has_the_server() -> None:
    pinned, lupine = (BackendPolicy(servers={name: "a:1"}, placement="pinned") for name in ("server1", "l1"))
    assert find_backend("l1", policy(bitfusion=pinned, lupine=lupine)) == "lupine"
    with pytest.raises(GpushareError, match=r"'server9' is not in the policy: write one of l1, server1$"):
        find_backend("server9", policy(bitfusion=pinned, lupine=lupine))


def test_a_flat_pool_is_refused_with_what_to_do() -> None:
    with pytest.raises(GpushareError, match=r"flat placement .* set the policy's `placement`") as refused:
        find_backend("server1", policy(bitfusion=BackendPolicy(servers=SERVERS)))
    assert refused.value.exit_status == 1


def test_while_slurm_is_away_the_last_answer_stays_and_one_line_says_so() -> None:
    answers = [{}, SlurmError("squeue: away"), SlurmError("squeue: away"), {(7, 1.0): "a job"}]
    said, seen = [], []

    def ask() -> dict:
        seen.append(watch.latest and watch.latest.jobs)
        answer = answers.pop(0)
        if not answers:
            watch.stop()
        if isinstance(answer, SlurmError):
            raise answer
        return answer

    watch = JobWatch(ask, said.append, pause=0.001)
    watch.run()
    assert seen == [None, {}, {}, {}] and watch.latest.jobs == {(7, 1.0): "a job"}
    assert len(said) == 3 and "squeue: away" in said[1]
