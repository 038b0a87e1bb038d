"""`scontrol update` of a pending job: decided anew by slurmctld, or refused with the job as it was."""

import json

import pytest

from tests.lab.cluster import Cluster


def update(cluster: Cluster, job: int, *changes: str) -> tuple[int, str]:
    done = cluster.run("scontrol", "update", f"jobid={job}", *changes, user="alice", check=False)
    return done.returncode, done.stderr


def grant(cluster: Cluster, job: int) -> dict:
    jobs = json.loads(cluster.out("scontrol", "--json", "show", "job", str(job)))["jobs"]
    return json.loads(jobs[0]["extra"])


@pytest.fixture
def held(cluster: Cluster) -> int:
    job = cluster.sbatch(
        "alice", "--hold", "--extra=own words", "--gres=gpu:0.25", "-o/dev/null", script=cluster.script("", "true")
    )
    yield job
    cluster.run("scancel", str(job))


def test_a_new_share_has_new_resources_and_a_new_grant(cluster: Cluster, held: int) -> None:
    status, told = update(cluster, held, "gres=gpu:50%")
    assert status == 0 and "0.5 of one GPU" in told
    assert cluster.job(held)["TresPerNode"] == "gres/shard:50"
    assert (grant(cluster, held)["slices"], grant(cluster, held)["extra"]) == (50, "own words")


def test_another_partition_has_its_own_resources(cluster: Cluster, held: int) -> None:
    assert update(cluster, held, "partition=bitfusion")[0] == 0
    job = cluster.job(held)
    assert (job["TresPerNode"], job["Licenses"]) == ("gres/bitfusion:25", "bitfusion:25")
    assert grant(cluster, held)["backend"] == "bitfusion"
    assert update(cluster, held, "numnodes=2", "gres=gpu:0.5")[0] == 0
    assert cluster.job(held)["Licenses"] == "bitfusion:100" and grant(cluster, held)["nodes"] == 2


@pytest.mark.parametrize(
    "change",
    ["extra=mine", 'extra={"v":1}', "gres=shard:50", "gres=gpu:0.001", "gres=gpu:1", "licenses=bitfusion:1", "gres="],
)
def test_what_no_change_can_do(cluster: Cluster, held: int, change: str) -> None:
    before = cluster.job(held)
    status, told = update(cluster, held, change)
    assert status != 0 and told.count("gpushare:") == 1
    after = cluster.job(held)
    assert {name: after.get(name) for name in ("TresPerNode", "Licenses", "Extra")} == {
        name: before.get(name) for name in ("TresPerNode", "Licenses", "Extra")
    }


def test_a_job_that_runs_keeps_its_share(cluster: Cluster) -> None:
    job = cluster.sbatch("alice", "--gres=gpu:0.25", "-o/dev/null", script=cluster.script("", "sleep 60"))
    try:
        cluster.wait_running(job)
        status, told = update(cluster, job, "gres=gpu:0.1")
        assert status != 0 and "has begun" in told
    finally:
        cluster.run("scancel", str(job))
