"""A job as scontrol's JSON has it, in both versions."""

import json

import pytest

from slurm_gpushare.slurm import job as door
from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.job import fetch_job, parse_jobs
from tests.unit.slurm.recorded import VERSIONS, texts


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pool_job(version: str) -> None:
    job = parse_jobs(texts(version, "pool-full")["job"])[0]
    assert (job.state, job.reason, job.user, job.account, job.qos) == (
        "PENDING",
        "Licenses",
        "bob",
        "biology",
        "normal",
    )
    assert (job.partitions, job.nodes, job.cpus_per_node, job.memory_per_node) == (("bitfusion",), 1, 1, 500)
    assert (job.licences, job.gpus_per_node, job.expected_start) == ({"bitfusion": 25}, 0, None)
    assert (job.grant.backend, job.grant.slices, job.grant.request) == ("bitfusion", 25, "gpu:0.25")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_whole_gpu_has_no_grant_of_slices(version: str) -> None:
    job = parse_jobs(texts(version, "whole-gpu")["job"])[0]
    assert job.gpus_per_node == 1
    assert job.expected_start > 0


@pytest.mark.parametrize("version", VERSIONS)
def test_of_an_array_the_tasks_that_wait(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "run_slurm", lambda argv, timeout: texts(version, "array")["job"])
    job = fetch_job("35")
    assert (job.state, job.reason, job.array_limit) == ("PENDING", "JobArrayTaskLimit", 2)


def test_numbers_and_words_in_older_forms() -> None:
    data = {"job_id": 3, "job_state": "PENDING", "state_reason": "None", "node_count": 2, "cpus": 8, "priority": 7}
    job = parse_jobs(json.dumps({"jobs": [{**data, "tres_req_str": "cpu=8,mem=3G,node=2,gres/gpu:a100=4"}]}))[0]
    assert (job.state, job.reason, job.nodes, job.cpus_per_node, job.priority) == ("PENDING", "", 2, 4, 7)
    assert (job.memory_per_node, job.gpus_per_node, job.grant) == (1536, 2, None)


@pytest.mark.parametrize(
    ("text", "licences"),
    [
        ("", {}),
        ("bitfusion:25,matlab", {"bitfusion": 25, "matlab": 1}),
        ("b1:50|b2:50", {"b1": 50, "b2": 50}),
        ("gpu0@server1:2,matlab", {"gpu0@server1": 2, "matlab": 1}),
        ("gpu0@server1:x", {}),
        (None, {}),
    ],
)
def test_licences(text: object, licences: dict[str, int]) -> None:
    assert parse_jobs(json.dumps({"jobs": [{"job_id": 1, "licenses": text}]}))[0].licences == licences


def test_a_forged_grant_is_none() -> None:
    assert parse_jobs(json.dumps({"jobs": [{"job_id": 1, "extra": '{"v":1,"mine":true}'}]}))[0].grant is None


def test_an_unknown_job_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "run_slurm", lambda argv, timeout: '{"jobs": []}')
    with pytest.raises(SlurmError, match="job 9: Slurm does not know it"):
        fetch_job("9")


def test_another_failure_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(argv: list[str], timeout: float) -> str:
        raise SlurmError("scontrol: status 1: Unable to contact slurm controller")

    monkeypatch.setattr(door, "run_slurm", fails)
    with pytest.raises(SlurmError, match="Unable to contact"):
        fetch_job("9")
