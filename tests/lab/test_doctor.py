"""`gpushare doctor` where all is well, with real faults, and on jobs of all fates; with both versions of Slurm."""

import json

import pytest

from tests.lab.cluster import Cluster, until

PLUGSTACK = "/etc/slurm/plugstack.conf"


@pytest.fixture(params=["cluster", "new_cluster"], ids=["24.11", "26.05"])
def lab(request: pytest.FixtureRequest) -> Cluster:
    """A lab."""
    return request.getfixturevalue(request.param)


def _doctor(lab: Cluster, *options: str, user: str = "root", node: str | None = None, status: int = 0) -> dict:
    """Return each line by its check."""
    done = lab.run("gpushare", "doctor", "--format=json", *options, user=user, node=node, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return {line["check"]: line for line in json.loads(done.stdout)}


def _not_ok(lines: dict) -> dict[str, str]:
    return {name: line["status"] for name, line in lines.items() if line["status"] != "ok"}


def _agents_sent(lab: Cluster) -> None:
    argv = ("gpushare", "doctor", "--role=accounting", "--format=json")
    wanted = {"check": "service.agents", "status": "ok"}
    until(
        "news of all agents",
        lambda: any(wanted.items() <= line.items() for line in json.loads(lab.run(*argv, check=False).stdout)),
    )


def test_all_is_well(lab: Cluster) -> None:
    _agents_sent(lab)
    assert _not_ok(_doctor(lab, "--role=controller")) == {}
    assert _not_ok(_doctor(lab, "--role=login", user="alice")) == {}
    node = _not_ok(_doctor(lab, "--role=node", node="n1"))
    assert set(node.values()) <= {"skip"}, node


def test_faults_are_found(lab: Cluster) -> None:
    plugin = _doctor(lab, "--role=node", node="n1")["install.plugin"]["found"].split()[0]
    policy, socket = "/etc/gpushare/gpushare.yaml", "/run/gpushare/n1/agent.sock"
    refused = "/var/spool/gpushare/n1/refused.jsonl"
    kept = lab.run("cat", refused, node="n1", check=False).stdout
    lab.run("cp", "-p", PLUGSTACK, PLUGSTACK + ".kept")
    lab.run("cp", "-p", policy, policy + ".kept")
    lab.run("mv", plugin, plugin + ".kept")
    lab.run("mv", socket, socket + ".kept", node="n1")
    try:
        lab.run("sed", "-i", "s/^required/optional/", PLUGSTACK)
        lab.run("sed", "-i", "$ a framework_memory: false", policy)
        lab.run("tee", "-a", refused, stdin="one\n", node="n1")
        lines = _doctor(lab, "--role=node", node="n1", status=1)
    finally:
        lab.run("mv", PLUGSTACK + ".kept", PLUGSTACK)
        lab.run("mv", policy + ".kept", policy)
        lab.run("mv", plugin + ".kept", plugin)
        lab.run("mv", socket + ".kept", socket, node="n1")
        lab.run("tee", refused, stdin=kept, node="n1")
    remedies = {name: line["remedy"] for name, line in lines.items() if line["status"] == "fail"}
    assert set(remedies) == {"install.plugin", "install.plugstack", "policy.compiled", "agent"}
    assert lines["install.plugin"]["found"] == f"{plugin}: no such file"
    assert remedies["install.plugstack"] == "write `required gpushare.so` in its place"
    assert remedies["policy.compiled"] == "gpushare policy compile"
    assert "the policy is newer" in lines["policy.compiled"]["found"]
    assert lines["agent.spool"]["status"] == "warn" and "1 in refused.jsonl" in lines["agent.spool"]["found"]
    assert remedies["agent"] == "systemctl enable --now gpushare-agent"


def test_a_job_that_runs_and_ends(lab: Cluster) -> None:
    job = lab.sbatch("alice", "-t5", "-o/dev/null", "--gres=gpu:0.25", script=lab.script("", "exec sleep 300"))
    lab.wait_running(job)
    node = lab.job(job)["NodeList"]
    until("its record", lambda: _doctor(lab, f"--job={job}", user="alice", node=node)["launch"]["status"] == "ok")
    lines = _doctor(lab, f"--job={job}", user="alice", node=node)
    assert lines["grant"]["found"] == "gpu:0.25: 1 x 0.25 GPU by shard"
    assert lines["launch"]["found"].startswith(f"record on {node}, GPUs ")
    lab.run("scancel", str(job))


def test_a_job_whose_image_is_none(lab: Cluster) -> None:
    lab.run("sh", "-c", "echo none >/home/alice/none.sif; chmod 644 /home/alice/none.sif", user="alice")
    options = ("-t5", "-o/dev/null", "--gres=gpu:0.25", "--container-image=/home/alice/none.sif")
    job = lab.sbatch("alice", *options, script=lab.script("", "true"))
    until("its end", lambda: lab.job(job)["JobState"] == "FAILED", 60)
    until("its row", lambda: "FAILED" in lab.out("sacct", "-nXo", "state", "-j", str(job)))
    line = _doctor(lab, f"--job={job}", user="alice", status=1)["launch"]
    assert (line["status"], line["found"].startswith("ended FAILED, exit ")) == ("fail", True)


def test_a_job_that_waits_and_one_that_never_was(lab: Cluster) -> None:
    options = ("--hold", "-t5", "-o/dev/null", "--gres=gpu:0.25")
    job = lab.sbatch("alice", *options, script=lab.script("", "true"))
    line = _doctor(lab, f"--job={job}", user="alice")["grant"]
    lab.run("scancel", str(job))
    assert line["found"].endswith(": JobHeldUser")
    assert line["remedy"] == f"gpushare why {job}"
    assert "gpushare explain" in _doctor(lab, "--job=999999", status=1)["request"]["remedy"]
