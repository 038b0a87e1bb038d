"""`gpushare why` on jobs that really wait, with both versions of Slurm."""

import json
from collections.abc import Iterator

import pytest

from tests.lab.cluster import Cluster, until


@pytest.fixture(params=["cluster", "new_cluster"], ids=["24.11", "26.05"])
def lab(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A lab without jobs, before and after the test."""
    lab = request.getfixturevalue(request.param)
    _empty(lab)
    yield lab
    _empty(lab)


def _empty(lab: Cluster) -> None:
    for user in ("alice", "bob"):
        lab.run("scancel", f"--user={user}")
    until("an empty queue", lambda: not lab.out("squeue", "-h"), 60)


def _submit(lab: Cluster, user: str, *options: str) -> int:
    return lab.sbatch(user, "-t5", "-o/dev/null", *options, script=lab.script("", "exec sleep 300"))


def _fill(lab: Cluster, *requests: str, options: tuple[str, ...] = ()) -> None:
    jobs = [_submit(lab, "alice", f"--gres={request}", *options) for request in requests]
    for job in jobs:
        lab.wait_running(job)


def _why(lab: Cluster, job: int, reason: str) -> dict:
    """Wait until Slurm has found ``reason`` and return what `gpushare why` then says to bob."""
    until(f"reason {reason}", lambda: lab.job(job)["Reason"] == reason)
    return json.loads(lab.out("gpushare", "why", str(job), "--format", "json", user="bob"))


def test_a_full_pool_and_what_fits_in_it(lab: Cluster) -> None:
    _fill(lab, "gpu:0.5", "gpu:0.25", options=("-pbitfusion",))
    answer = _why(lab, _submit(lab, "bob", "-pbitfusion", "--gres=gpu:0.5"), "Licenses")
    assert (answer["kind"], answer["state"]) == ("full", "PENDING")
    assert answer["why"] == ["25 of the 100 slices in the pool are free (0.25 GPU); it needs 50 (0.5 GPU)"]
    assert "--gres=gpu:0.25 would find room in the pool now" in answer["sooner"]
    # What it says would find room does.
    lab.wait_running(_submit(lab, "bob", "-pbitfusion", "--gres=gpu:0.25"))


def test_fragmentation(lab: Cluster) -> None:
    _fill(lab, "gpu:0.75", "gpu:0.75", "gpu:0.75", "gpu:0.6")
    job = _submit(lab, "bob", "--gres=gpu:0.5")
    answer = _why(lab, job, "Resources")
    assert answer["kind"] == "fragmented"
    assert any("115 of the 400 slices in partition shard are free" in line for line in answer["why"])
    assert any(line.startswith("--gres=gpu:0.4 would find room now, on n") for line in answer["sooner"])
    assert "-p bitfusion --gres=gpu:0.5 would find room now, in the pool" in answer["sooner"]
    text = lab.out("gpushare", "why", str(job), user="bob")
    assert text.startswith(f"job {job} (gpu:0.5, partition shard): enough is free in sum, but no single GPU has it\n")
    lab.run("scancel", str(job))
    lab.wait_running(_submit(lab, "bob", "--gres=gpu:0.4"))


def test_gpus_taken_as_a_whole(lab: Cluster) -> None:
    _fill(lab, *["gpu:1"] * 4)
    answer = _why(lab, _submit(lab, "bob", "--gres=gpu:0.25"), "Resources")
    assert answer["kind"] == "full"
    assert "none of the 400 slices in partition shard is free" in answer["why"][0]
    assert "n1: GPU 0 is all of one job, GPU 1 is all of one job" in answer["details"]


def test_a_limit_of_the_qos(lab: Cluster) -> None:
    limit = ["sacctmgr", "-i", "modify", "qos", "normal", "set"]
    lab.run(*limit, "MaxTRESPerUser=gres/shard=60")
    try:
        _fill(lab, "gpu:0.5")
        answer = _why(lab, _submit(lab, "alice", "--gres=gpu:0.25"), "QOSMaxGRESPerUser")
        assert answer["kind"] == "limit"
        assert "all running jobs of alice together" in answer["why"][0]
        assert "the limit: gres/shard=60" in answer["details"]
        assert any(line.startswith("in use: gres/shard=50 (job ") for line in answer["details"])
        assert "--gres=gpu:0.1 is within the limit now" in answer["sooner"]
        lab.wait_running(_submit(lab, "alice", "--gres=gpu:0.1"))
    finally:
        lab.run(*limit, "MaxTRESPerUser=gres/shard=-1")


def test_held_and_behind_others(lab: Cluster) -> None:
    held = _submit(lab, "alice", "--hold", "--gres=gpu:0.25")
    answer = _why(lab, held, "JobHeldUser")
    assert (answer["kind"], answer["sooner"]) == ("held", [f"`scontrol release {held}`"])
    after = _submit(lab, "alice", f"-dafterok:{held}", "--gres=gpu:0.25")
    assert _why(lab, after, "Dependency")["kind"] == "dependency"


def test_nodes_out_of_service(lab: Cluster) -> None:
    lab.run("scontrol", "update", "nodename=n1,n2", "state=drain", "reason=cooling")
    try:
        job = _submit(lab, "bob", "--gres=gpu:0.25")
        until("a look at it", lambda: lab.job(job)["Reason"] not in ("None", "(null)"))
        answer = json.loads(lab.out("gpushare", "why", str(job), "--format", "json", user="bob"))
        assert answer["kind"] == "nodes_away"
        assert [line.partition(" is ")[0] for line in answer["details"]] == ["n1", "n2"]
        assert all(line.endswith("cooling") for line in answer["details"])
    finally:
        lab.run("scontrol", "update", "nodename=n1,n2", "state=resume")


def test_a_job_that_runs_and_one_that_is_none(lab: Cluster) -> None:
    job = _submit(lab, "alice", "--gres=gpu:0.25")
    lab.wait_running(job)
    assert "it does not wait: it is RUNNING" in lab.out("gpushare", "why", str(job), user="bob")
    done = lab.run("gpushare", "why", "4000000", user="bob", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "Slurm does not know it" in done.stderr
    done = lab.run("gpushare", "why", "$(id)", user="bob", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
