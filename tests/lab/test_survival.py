"""Daemons that are killed, stopped or restarted while jobs run: the jobs go on, and their records arrive."""

import json
from collections.abc import Iterator

import pytest

from slurm_gpushare.usage import UsageRecord
from tests.lab.cluster import Cluster, until
from tests.lab.daemons import kill, pids, start, start_those_that_are_down

POOL = ["-pbitfusion", "--gres=gpu:0.25", "-wc1"]
SHARD = ["--gres=gpu:0.25", "-wn1"]
WORK = "gpu-workload --gpu 0 --sm 20 --memory 1G --seconds "


@pytest.fixture
def down(cluster: Cluster) -> Iterator[list[str]]:
    """Names of daemons that the test has ended; what it does not start again is started here."""
    names: list[str] = []
    yield names
    start_those_that_are_down(cluster, names)


def _record(cluster: Cluster, job: int) -> dict:
    (row,) = [row for row in cluster.report() if row["job_id"] == job]
    return row


@pytest.mark.parametrize(("options", "agent"), [(SHARD, "agent n1"), (POOL, "agent c1")], ids=["shard", "pool"])
def test_an_agent_killed_in_the_middle_costs_only_its_own_time(
    cluster: Cluster, down: list[str], options: list[str], agent: str
) -> None:
    job = cluster.sbatch("alice", *options, "-o/dev/null", script=cluster.script("", WORK + "6"))
    cluster.wait_running(job)
    down.append(agent)
    kill(cluster, agent)
    start(cluster, agent)
    assert cluster.wait(job) == "COMPLETED"
    until("its record", lambda: _record(cluster, job)["quality"] == "measured", 10)
    row = _record(cluster, job)
    assert 0 < row["coverage"] <= 1 and row["gpu_seconds_used"] > 0 and row["memory_peak_bytes"] == 1 << 30
    # What was reserved is known for the whole of the job, whenever the agent came.
    assert abs(row["gpu_seconds_reserved"] - 0.25 * row["elapsed_seconds"]) <= 0.5
    assert "metrics.sampler" not in cluster.out("ps", "-eo", "args=")


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_without_an_agent_a_job_ends_as_quickly_and_is_reported_as_unknown(
    cluster: Cluster, down: list[str], signal: str
) -> None:
    down.append("agent n1")
    kill(cluster, "agent n1", signal)
    try:
        job = cluster.sbatch("alice", *SHARD, "-o/dev/null", script=cluster.script("", "true"))
        assert cluster.wait(job, 10) == "COMPLETED"
        row = _record(cluster, job)
        assert row["quality"] == "unknown" and row["gpu_seconds_used"] is None and row["request"] == "gpu:0.25"
    finally:
        if signal == "STOP":
            cluster.run("kill", "-CONT", *pids(cluster, "agent n1"))


def test_a_record_waits_for_the_service(cluster: Cluster, down: list[str]) -> None:
    down.append("serve")
    kill(cluster, "serve")
    job = cluster.sbatch("alice", *SHARD, "-o/dev/null", script=cluster.script("", WORK + "2"))
    assert cluster.wait(job) == "COMPLETED"
    done = cluster.run("gpushare", "report", "jobs", check=False)
    assert done.returncode == 1 and "is `gpushare serve` running there?" in done.stderr
    assert f'"job_id":{job},' in cluster.out("cat", "/var/spool/gpushare/n1/usage.jsonl")
    start(cluster, "serve")
    until("the service", lambda: cluster.run("gpushare", "report", "jobs", check=False).returncode == 0)
    # Connections that say nothing must not soon use up what its shell allowed.
    (pid,) = pids(cluster, "serve")
    soft, hard = cluster.out("grep", "Max open files", f"/proc/{pid}/limits").split()[3:5]
    assert soft == hard
    until("its record", lambda: _record(cluster, job)["quality"] == "measured", 60, every=0.5)
    assert cluster.run("cat", "/var/spool/gpushare/n1/usage.jsonl", check=False).returncode != 0


def test_a_record_that_the_service_refuses_is_set_aside_and_holds_up_no_other(
    cluster: Cluster, down: list[str]
) -> None:
    down.append("agent n1")
    kill(cluster, "agent n1")
    good = cluster.sbatch("alice", *SHARD, "-o/dev/null", script=cluster.script("", "true"))
    cluster.wait(good)
    (started,) = [int(row["Start"]) for row in cluster.sacct(good, "Start")]
    record = dict.fromkeys(UsageRecord.__dataclass_fields__)
    record |= {"v": 1, "cluster": cluster.out("sacctmgr", "-nP", "show", "cluster", "format=cluster"), "job_id": good}
    record |= {"node": "n1", "gpu": "GPU-1", "backend": "shard", "uid": 1001, "user": "alice", "source": "node"}
    record |= {"fraction": 0.25, "started": started + 0.5, "ended": started + 4.5, "seconds_sampled": 4.0}
    record |= {"quality": "measured", "gpu_seconds_reserved": 1.0, "gpu_seconds_used": 0.5}
    lines = [json.dumps(record | change) + "\n" for change in ({"fraction": 7}, {})]
    cluster.run("sh", "-c", "cat >>/var/spool/gpushare/n1/usage.jsonl", stdin="".join(lines))
    start(cluster, "agent n1")
    until("the good record", lambda: _record(cluster, good)["gpu_seconds_used"] == 0.5)
    refused = cluster.read("/var/spool/gpushare/n1/refused.jsonl").splitlines()
    assert "fraction is 7" in json.loads(refused[-1])["answer"]
    assert cluster.run("cat", "/var/spool/gpushare/n1/usage.jsonl", check=False).returncode != 0


def test_a_pool_job_bears_the_restart_of_slurmctld_and_slurmd(cluster: Cluster, down: list[str]) -> None:
    granted = cluster.granted()
    go, out = "/home/alice/go-on", "/home/alice/restart.out"
    lines = ["srun sh -c 'echo first'", f"until test -e {go}; do sleep 0.1; done", "srun sh -c 'echo second'"]
    cluster.run("rm", "-f", go, out)
    job = cluster.sbatch("alice", *POOL, f"-o{out}", script=cluster.script("", *lines))
    until("its first step", lambda: "first" in cluster.read(out).splitlines())
    down += ["slurmctld", "slurmd c1"]
    kill(cluster, "slurmctld", "TERM")
    start(cluster, "slurmctld")
    until("slurmctld", lambda: "UP" in cluster.run("scontrol", "ping", check=False).stdout)
    kill(cluster, "slurmd c1")
    start(cluster, "slurmd c1")
    cluster.run("touch", go)
    assert cluster.wait(job) == "COMPLETED"
    assert "second" in cluster.read(out).splitlines()
    assert cluster.granted() == granted + 1 and cluster.allocations() == []
    assert cluster.out("sinfo", "-hR") == ""
    assert "Used=0" in cluster.out("scontrol", "-o", "show", "lic", "bitfusion")
