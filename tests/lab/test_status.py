"""`gpushare status` beside what really runs, with both versions of Slurm."""

import json
from collections.abc import Iterator

import pytest

from tests.lab import daemons
from tests.lab.cluster import Cluster, until

MIB = 1024 * 1024
LOAD = "exec gpu-workload --gpu 0 --sm {sm} --memory 1G --seconds 300"


@pytest.fixture(params=["cluster", "new_cluster"], ids=["24.11", "26.05"])
def lab(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A lab without jobs, before and after the test, whose nodes and daemons are well."""
    lab = request.getfixturevalue(request.param)
    _empty(lab)
    yield lab
    daemons.start_those_that_are_down(lab, ["agent n1", "serve"])
    lab.run("scontrol", "update", "node=n2", "state=resume", check=False)
    _empty(lab)


def _empty(lab: Cluster) -> None:
    for user in ("alice", "bob"):
        lab.run("scancel", f"--user={user}")
    until("an empty queue", lambda: not lab.out("squeue", "-h"), 60)


def _status(lab: Cluster, user: str = "root", *options: str) -> dict:
    return json.loads(lab.out("gpushare", "status", "--format", "json", *options, user=user))


def _gpu(lab: Cluster, node: str, number: int, user: str = "root") -> dict:
    return next(gpu for gpu in _status(lab, user)["gpus"] if (gpu["node"], gpu["gpu"]) == (node, number))


def _submit(lab: Cluster, user: str, *options: str, command: str = "exec sleep 300") -> int:
    job = lab.sbatch(user, "-t5", "-o/dev/null", *options, script=lab.script(user, command))
    lab.wait_running(job)
    return job


def test_two_jobs_on_one_gpu_and_what_each_sees(lab: Cluster) -> None:
    hers = _submit(lab, "alice", "-wn1", "--gres=gpu:0.25", command=LOAD.format(sm=20))
    his = _submit(lab, "bob", "-wn1", "--gres=gpu:0.5", command=LOAD.format(sm=30))
    whole = _submit(lab, "alice", "-wn1", "--gres=gpu:1")

    def measured() -> dict | None:
        gpu = _gpu(lab, "n1", 0)
        idle = _gpu(lab, "n1", 1)["jobs"]
        done = gpu["sm"] == 0.5 and all(job["sm"] for job in gpu["jobs"]) and [job["sm"] for job in idle] == [0]
        return gpu if done else None

    gpu = until("all three are measured", measured)
    assert (gpu["type"], gpu["slices"], gpu["slices_given"], gpu["slices_hidden"]) == ("p100", 100, 75, 0)
    assert (gpu["memory"], gpu["memory_total"]) == (2048 * MIB, 16280 * MIB)
    assert 0 <= gpu["age"] < 20 and gpu["agent"] == "live"
    assert [(job["job_id"], job["user"], job["fraction"], job["slices"], job["backend"]) for job in gpu["jobs"]] == [
        (hers, "alice", 0.25, 25, "shard"),
        (his, "bob", 0.5, 50, "shard"),
    ]
    assert [(round(job["sm"], 2), job["memory"]) for job in gpu["jobs"]] == [(0.2, 1024 * MIB), (0.3, 1024 * MIB)]
    assert set(gpu["jobs"][0]["enforces"].values()) == {"none"}
    other = _gpu(lab, "n1", 1)
    assert (other["slices_given"], [job["job_id"] for job in other["jobs"]]) == (100, [whole])
    assert (other["sm"], other["jobs"][0]["fraction"]) == (0, 1)

    # Slurm shows all jobs here; what is measured of another's is root's to see.
    bobs = _gpu(lab, "n1", 0, "bob")
    assert [job["user"] for job in bobs["jobs"]] == ["alice", "bob"]
    assert [job["sm"] is None for job in bobs["jobs"]] == [True, False]
    assert (bobs["sm"], bobs["memory"], bobs["slices_given"]) == (None, None, 75)
    assert _gpu(lab, "n1", 1, "bob")["memory"] is None
    assert _gpu(lab, "n2", 1, "bob")["memory"] == 0

    text = lab.out("gpushare", "status", user="alice")
    assert f"{hers} " in text and "p100" in text and "75/100" in text


def test_a_job_of_the_pool_is_measured_too(lab: Cluster) -> None:
    job = _submit(lab, "alice", "-pbitfusion", "--gres=gpu:0.5", command=LOAD.format(sm=20))

    def measured() -> dict | None:
        found = [one for one in _status(lab, "alice")["elsewhere"] if one["job_id"] == job]
        return found[0] if found and found[0]["sm"] else None

    one = until("it is measured", measured, 60)
    assert (one["backend"], one["slices"], round(one["sm"], 2), one["memory"]) == ("bitfusion", 50, 0.2, 1024 * MIB)
    (server,) = [gpu for gpu in _status(lab)["gpus"] if gpu["kind"] == "server"]
    assert (server["state"], server["pool_used"], server["slices_given"]) == ("up", 0.5, None)


def test_what_is_the_matter_is_told(lab: Cluster) -> None:
    lab.run("scontrol", "update", "node=n2", "state=drain", "reason=fan broken")
    daemons.kill(lab, "agent n1")

    def silent() -> dict | None:
        places = {place["name"]: place for place in _status(lab)["places"]}
        return places if places["n1"]["agent"] == "silent" else None

    places = until("the agent is missed", silent, 60)
    assert places["n2"]["away"] and (places["n2"]["reason"], places["n2"]["reason_by"]) == ("fan broken", "root")
    assert places["n1"]["agent_age"] > 10 and not places["n1"]["away"]
    gpu = _gpu(lab, "n1", 0)
    assert (gpu["sm"], gpu["memory"], gpu["age"], gpu["slices_given"]) == (None, None, None, 0)
    lines = lab.out("gpushare", "status").splitlines()
    assert any(line.startswith("n2: idle+drain: fan broken (root ") for line in lines)
    assert any(line.startswith("n1: its agent is silent: last heard ") for line in lines)
    daemons.start(lab, "agent n1")
    until("it is measured again", lambda: _gpu(lab, "n1", 0)["sm"] == 0)


def test_without_the_service_it_is_what_slurm_says(lab: Cluster) -> None:
    job = _submit(lab, "alice", "-wn2", "--gres=gpu:0.25")
    daemons.kill(lab, "serve", "TERM")
    status = _status(lab, "bob", "-w", "n2")
    assert any(line.startswith("what is measured is not known: http://") for line in status["warnings"])
    assert "Connection refused" in lab.run("gpushare", "status", "-w", "n2", user="bob").stderr
    first, second = status["gpus"]
    assert (first["slices_given"], [one["job_id"] for one in first["jobs"]], first["sm"]) == (25, [job], None)
    assert (second["slices_given"], second["sm"], second["agent"]) == (0, None, None)
    daemons.start(lab, "serve")
    until("it is measured again", lambda: _gpu(lab, "n2", 1)["sm"] == 0)


def test_another_may_not_say_what_is_measured(lab: Cluster) -> None:
    code = (
        "import hashlib; from slurm_gpushare.metrics.sender import munge_credential, post;"
        "from slurm_gpushare.metrics.live import *; from slurm_gpushare.node_policy import read_node_policy;"
        "body = sample_to_json(LiveSample('node', 'n1', 0.0, (), ()));"
        "credential = munge_credential(hashlib.sha256(body).hexdigest());"
        "print(*post(read_node_policy().service + '/v1/live', body, credential))"
    )
    said = lab.out("/opt/gpushare/bin/python3", "-c", code, user="alice")
    assert said.startswith("403") and "only root and SlurmUser may" in said


def test_the_gpus_of_a_pool_that_slurm_places_on(pinned_cluster: Cluster) -> None:
    lab = pinned_cluster
    _empty(lab)
    job = _submit(lab, "alice", "-pbitfusion", "--gres=gpu:0.5", command=LOAD.format(sm=20))

    def measured() -> dict | None:
        held = [gpu for gpu in _status(lab)["gpus"] if gpu["kind"] == "server" and gpu["jobs"]]
        # The first sample is of a time in which it did not compute yet.
        return held[0] if held and round(held[0]["jobs"][0]["sm"] or 0, 2) == 0.2 else None

    gpu = until("it is measured on the server", measured, 60)
    assert (gpu["state"], gpu["slices_given"], gpu["slices_hidden"], gpu["pool_used"]) == ("up", 50, 0, 0.5)
    (one,) = gpu["jobs"]
    assert (one["job_id"], one["slices"], one["memory"]) == (job, 50, 1024 * MIB)
    status = _status(lab, "bob")
    assert job not in [one["job_id"] for one in status["elsewhere"]]
    (his,) = [one for one in status["gpus"] if (one["node"], one["gpu"]) == (gpu["node"], gpu["gpu"])]
    assert (his["slices_given"], his["sm"], his["jobs"][0]["sm"]) == (50, None, None)
    _empty(lab)


@pytest.mark.parametrize("name", ["local_cluster", "new_local_cluster"])
def test_slices_of_cards(request: pytest.FixtureRequest, name: str) -> None:
    lab = request.getfixturevalue(name)
    _empty(lab)
    load = LOAD.format(sm=20)
    jobs = {part: _submit(lab, "alice", f"-p{part}", "--gres=gpu:0.2", command=load) for part in ("mig", "vgpu")}

    def measured() -> dict | None:
        held = {job["backend"]: (gpu, job) for gpu in _status(lab)["gpus"] for job in gpu["jobs"]}
        return held if len(held) == 2 and all(job["memory"] for _, job in held.values()) else None

    for backend, (gpu, job) in until("both are measured", measured, 60).items():
        assert job["job_id"] == jobs[backend]
        # All of a slice is given, and it is the part of a card that the user was told.
        assert job["fraction"] == gpu["fraction"] and 0.2 <= gpu["fraction"] < 1
        assert gpu["slices_given"] == gpu["slices"] == job["slices"] < 100
        assert gpu["memory"] == job["memory"] == 1024 * MIB < gpu["memory_total"]
        assert job["enforces"]["memory"] == "enforced"
    free = [gpu for gpu in _status(lab)["gpus"] if gpu["node"] == "g1" and not gpu["jobs"]]
    assert free and all((gpu["slices_given"], gpu["sm"]) == (0, None) for gpu in free)
    _empty(lab)
