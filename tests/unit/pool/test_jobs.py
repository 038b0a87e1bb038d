"""Jobs of the pool as squeue's JSON has them."""

import json

import pytest

from slurm_gpushare.grant import Grant, grant_to_dict
from slurm_gpushare.pool.jobs import PoolJob, parse_jobs
from slurm_gpushare.slurm.command import SlurmError

GRANT = json.dumps(
    grant_to_dict(Grant("bitfusion", 1, 0.25, 25, None, 1, "the file's own limits", "gpu:0.25", "")),
    separators=(",", ":"),
)
NAMES = {"gpu0@s1", "gpu1@s1", "gpu0@s2"}


def squeue(**fields: object) -> str:
    job = {"job_id": 7, "user_name": "alice", "job_state": ["RUNNING"], "start_time": {"set": True, "number": 1000}}
    return json.dumps({"jobs": [{**job, **fields}]})


def test_what_slurm_chose_of_several() -> None:
    text = squeue(licenses="gpu0@s1:25|gpu0@s2:25", licenses_allocated="gpu0@s2:25", extra=GRANT)
    assert parse_jobs(text, NAMES, "bitfusion") == {
        7: PoolJob(7, "alice", "RUNNING", "gpu:0.25", 1000, {"gpu0@s2": 25})
    }


def test_an_older_version_has_one_choice_and_says_no_more() -> None:
    (job,) = parse_jobs(squeue(licenses="gpu0@s1:25,matlab:1"), NAMES, "bitfusion").values()
    assert (job.request, job.held, job.choices) == (None, {"gpu0@s1": 25}, ())


def test_a_choice_that_is_not_told_is_not_guessed() -> None:
    (job,) = parse_jobs(squeue(licenses="gpu0@s1:25|gpu0@s2:25", extra=GRANT), NAMES, "bitfusion").values()
    assert job.held == {}


def test_waiting_jobs_hold_nothing() -> None:
    text = squeue(licenses="gpu0@s1:25|gpu0@s2:25", licenses_allocated="", job_state=["PENDING"], extra=GRANT)
    (job,) = parse_jobs(text, NAMES, "bitfusion").values()
    assert (job.held, job.choices, job.since) == ({}, ({"gpu0@s1": 25}, {"gpu0@s2": 25}), None)


@pytest.mark.parametrize(
    "states", [["COMPLETING"], ["COMPLETED", "COMPLETING"], ["PENDING", "COMPLETING"], "SUSPENDED"]
)
def test_licences_are_held_until_the_epilog_has_ended(states: object) -> None:
    (job,) = parse_jobs(squeue(licenses="gpu0@s1:25", job_state=states), NAMES, "bitfusion").values()
    assert job.held == {"gpu0@s1": 25}


def test_jobs_that_have_nothing_to_do_with_the_pool_are_left_out() -> None:
    assert parse_jobs(squeue(licenses="matlab:2"), NAMES, "bitfusion") == {}
    assert parse_jobs(squeue(licenses="", extra=GRANT.replace("bitfusion", "shard")), NAMES, "bitfusion") == {}
    assert list(parse_jobs(squeue(licenses="bitfusion:25", extra=GRANT), NAMES, "bitfusion")) == [7]


@pytest.mark.parametrize("text", ["", "{}", squeue(licenses="gpu0@s1:x"), squeue(licenses=[1])])
def test_nonsense(text: str) -> None:
    with pytest.raises(SlurmError, match="squeue"):
        print(parse_jobs(text, NAMES, "bitfusion"))
