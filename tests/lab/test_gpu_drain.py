"""`gpushare gpu` and HealthCheckProgram on real daemons: what is out of service gets no jobs, and gets them again."""

import json
from collections.abc import Iterator

import pytest

from tests.lab import daemons
from tests.lab.cluster import Cluster, until
from tests.lab.known_loads import control

HEALTH = "/opt/gpushare/libexec/gpushare-health"
QUARTER = "--gres=gpu:0.25"


@pytest.fixture(params=["pinned_cluster", "first_fit_cluster"], ids=["24.11", "26.05"])
def lab(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A pool whose GPUs Slurm knows one by one, and two nodes with two GPUs; nothing out of service."""
    lab = request.getfixturevalue(request.param)
    _clear(lab)
    yield lab
    control(lab, "n1", "heal", "1", "all", check=False)
    _clear(lab)


def _clear(lab: Cluster) -> None:
    for user in ("alice", "bob"):
        lab.run("scancel", f"--user={user}")
    for hold in _held(lab):
        lab.run("gpushare", "gpu", "resume", hold["target"])
    for node in ("n1", "n2"):
        lab.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
    until("an empty queue", lambda: not lab.out("squeue", "-h"), 60)


def _held(lab: Cluster, user: str = "root") -> list[dict]:
    return json.loads(lab.out("gpushare", "gpu", "list", "--format", "json", user=user))


def _drain(lab: Cluster, target: str, reason: str = "fan broken, see ticket=7", **options: object) -> object:
    return lab.run("gpushare", "gpu", "drain", target, "--reason", reason, **options)


def _submit(lab: Cluster, *options: str) -> int:
    return lab.sbatch("alice", "-t5", "-o/dev/null", *options, script=lab.script("alice", "exec sleep 300"))


def _gpu_of(lab: Cluster, job: int) -> int:
    """Return the number of the GPU of the node that a running job has."""
    status = json.loads(lab.out("gpushare", "status", "--format", "json"))
    return next(gpu["gpu"] for gpu in status["gpus"] if job in [each["job_id"] for each in gpu["jobs"]])


def _server_of(lab: Cluster, job: int) -> str:
    fields = lab.job(job)
    return (fields.get("LicensesAlloc") or fields["Licenses"]).partition("@")[2].partition(":")[0]


def test_a_server_of_the_pool(lab: Cluster) -> None:
    before = _submit(lab, "-pbitfusion", "--gres=gpu:0.5")
    lab.wait_running(before)
    server = _server_of(lab, before)
    said = _drain(lab, server).stdout
    assert said.startswith(f"{server} is out of service: ") and f"jobs {before}\n" in said
    # The job that was there goes on; others go elsewhere, or wait, as many as there are.
    jobs = [_submit(lab, "-pbitfusion", QUARTER) for _ in range(12)]
    until(
        "each runs or waits for licences",
        lambda: all(lab.job(job)["JobState"] == "RUNNING" or lab.job(job)["Reason"] == "Licenses" for job in jobs),
    )
    running = [job for job in jobs if lab.job(job)["JobState"] == "RUNNING"]
    assert running and server not in {_server_of(lab, job) for job in running}
    # Nor is it chosen at submission.
    assert [
        job for job in jobs if set(lab.job(job)["Licenses"].split("|")) <= {f"gpu{gpu}@{server}:25" for gpu in (0, 1)}
    ] == []
    assert lab.job(before)["JobState"] == "RUNNING"
    # Both GPUs of it, and what shows it: to everybody.
    (hold,) = _held(lab, "bob")
    assert (hold["target"], hold["kind"], hold["by"], hold["jobs"]) == (server, "server", "root", [before])
    assert hold["reason"] == "fan broken, see ticket=7"
    assert "fan broken, see ticket=7" in lab.out("scontrol", "show", "reservation", f"gpushare-drain-{server}")
    # The pool's own look at Slurm's licences finds nothing to mend, and undoes nothing.
    sync = lab.run("gpushare", "pool", "sync", "--tries", "1", node="c1").stdout
    assert "sacctmgr" not in sync and [each["target"] for each in _held(lab)] == [server]
    # Twice is once, and the first reason stays.
    assert "already" in _drain(lab, server, "another").stdout
    assert [each["reason"] for each in _held(lab)] == ["fan broken, see ticket=7"]
    lab.run("gpushare", "gpu", "resume", server)
    assert "in service already" in lab.out("gpushare", "gpu", "resume", server)
    assert _held(lab) == []
    until("all of them run", lambda: {lab.job(job)["JobState"] for job in jobs} == {"RUNNING"})


def test_a_server_stays_out_over_a_restart_of_slurmctld(lab: Cluster) -> None:
    _drain(lab, "server1")
    daemons.kill(lab, "slurmctld", "TERM")
    daemons.start(lab, "slurmctld")
    until("slurmctld again", lambda: "is UP" in lab.out("scontrol", "ping", check=False))
    assert [each["target"] for each in _held(lab)] == ["server1"]
    job = _submit(lab, "-pbitfusion", "-wc1", "--gres=gpu:1")
    until("it is looked at", lambda: lab.job(job)["JobState"] == "RUNNING" or lab.job(job)["Reason"] == "Licenses")
    assert lab.job(job)["JobState"] == "PENDING" or _server_of(lab, job) != "server1"


def test_a_gpu_of_a_node(lab: Cluster) -> None:
    # A job runs on the node; the GPU beside it goes out of service.
    first = _submit(lab, "-wn1", QUARTER)
    lab.wait_running(first)
    idle = 1 - _gpu_of(lab, first)
    said = _drain(lab, f"n1:{idle}").stdout
    assert said.startswith(f"n1:{idle} is out of service: job ")
    assert [(each["target"], each["kind"]) for each in _held(lab, "alice")] == [(f"n1:{idle}", "node")]
    assert "already" in _drain(lab, f"n1:{idle}", "another").stdout
    assert lab.out("squeue", "-h", "--name=gpushare-drain", "-o%l %T") == "UNLIMITED RUNNING"
    # Of five quarters three go beside the first, two wait; the node is in service.
    jobs = [_submit(lab, "-wn1", QUARTER) for _ in range(5)]
    until("three run", lambda: [lab.job(job)["JobState"] for job in jobs].count("RUNNING") == 3)
    until("two were looked at", lambda: [lab.job(job)["Reason"] for job in jobs].count("None") == 3)
    waiting = [lab.job(job) for job in jobs if lab.job(job)["JobState"] != "RUNNING"]
    assert [job["JobState"] for job in waiting] == ["PENDING"] * 2
    assert {_gpu_of(lab, job) for job in jobs if lab.job(job)["JobState"] == "RUNNING"} == {1 - idle}
    assert lab.out("sinfo", "-hnn1", "-o%T").startswith("mixed")
    status = lab.run("gpushare", "status", "-wn1", user="alice").stdout
    assert status.count(", out of service") == 1
    assert f"n1:{idle}: out of service: fan broken, see ticket=7 (root" in status
    lab.run("gpushare", "gpu", "resume", f"n1:{idle}")
    until("all of them run", lambda: {lab.job(job)["JobState"] for job in jobs} == {"RUNNING"})
    assert _held(lab) == []


@pytest.mark.parametrize("number", [0, 1])
def test_either_gpu_of_an_idle_node(lab: Cluster, number: int) -> None:
    _drain(lab, f"n2:{number}")
    assert [each["target"] for each in _held(lab)] == [f"n2:{number}"]
    until("one job holds it", lambda: len(lab.out("squeue", "-h", "-o%i").split()) == 1)
    whole = _submit(lab, "-wn2", "--gres=gpu:1")
    lab.wait_running(whole)
    assert _gpu_of(lab, whole) == 1 - number
    # Both may be out.
    lab.run("scancel", str(whole))
    lab.wait(whole)
    _drain(lab, f"n2:{1 - number}")
    assert [each["target"] for each in _held(lab)] == ["n2:0", "n2:1"]


def test_what_is_refused(lab: Cluster) -> None:
    job = _submit(lab, "-wn1", QUARTER)
    lab.wait_running(job)
    busy = f"n1:{_gpu_of(lab, job)}"
    done = _drain(lab, busy, check=False)
    assert done.returncode == 77 and f"job {job} has a share of it" in done.stderr
    assert "`scontrol update nodename=n1 state=drain reason=...`" in done.stderr
    for target in ("server1", "n2:0"):
        done = _drain(lab, target, user="alice", check=False)
        assert done.returncode == 77 and done.stderr.startswith("gpushare: only root"), done.stderr
    _drain(lab, "server1")
    _drain(lab, "n2:0")
    for target in ("server1", "n2:0"):
        assert lab.run("gpushare", "gpu", "resume", target, user="alice", check=False).returncode == 77
    assert [each["target"] for each in _held(lab)] == ["server1", "n2:0"]
    for target, said in (
        ("n9:0", "no node n9"),
        ("n1:7", "has 2 GPUs"),
        ("server9", "server1, server2"),
        ("n1", "NODE:GPU"),
    ):
        done = _drain(lab, target, check=False)
        assert done.returncode == 1 and said in done.stderr and len(done.stderr.splitlines()) == 1
    # A job of a user's that only looks like one that holds a GPU is none.
    comment = "gpushare: n2:1 is out of service since 2026-01-01T00:00:00Z by root: mine"
    fake = _submit(lab, "-wn2", "--gres=gpu:1", "--job-name=gpushare-drain", f"--comment={comment}")
    lab.wait_running(fake)
    assert [each["target"] for each in _held(lab)] == ["server1", "n2:0"]
    lab.run("gpushare", "gpu", "resume", "n2:1")
    assert lab.job(fake)["JobState"] == "RUNNING"


def test_a_lost_gpu_drains_its_node_by_slurms_health_check(lab: Cluster) -> None:
    conf = "/etc/slurm/slurm.conf"
    lab.run("sh", "-c", f"cp -p {conf} /tmp/slurm.conf.before && cat >>{conf}", stdin=_LINES)
    try:
        lab.run("scontrol", "reconfigure")
        # A node that is well stays in service, and the program is silent there.
        done = lab.run("env", "-i", "SLURMD_NODENAME=n1", HEALTH, node="n1")
        assert (done.stdout, done.stderr, lab.out("sinfo", "-hR")) == ("", "", "")
        control(lab, "n1", "fail", "1", "all", "gpu_is_lost")
        until("the drain", lambda: "gpushare: GPU 1 lost" in lab.out("sinfo", "-hR", "-o%E %n"), 60)
        assert lab.out("sinfo", "-hR", "-o%n %E") == "n1 gpushare: GPU 1 lost"
        at = lab.out("scontrol", "show", "node", "n1").partition("Reason=")[2].splitlines()[0]
        # Once: the reason is not written anew; and it does not resume when the GPU is back.
        control(lab, "n1", "heal", "1", "all")
        until("the agent sees it", lambda: lab.run("test", "-e", "/run/gpushare/n1/lost", check=False).returncode, 60)
        lab.run("env", "-i", "SLURMD_NODENAME=n1", HEALTH, node="n1")
        assert lab.out("scontrol", "show", "node", "n1").partition("Reason=")[2].splitlines()[0] == at
        # Whoever's reason it is stays. A lost GPU that is out of service already is no reason.
        lab.run("scontrol", "update", "nodename=n1", "state=resume")
        _drain(lab, "n1:1")
        control(lab, "n1", "fail", "1", "all", "gpu_is_lost")
        until("the agent sees it", lambda: "GPU 1 is lost" in lab.read("/run/gpushare/n1/lost"), 60)
        lab.run("env", "-i", "SLURMD_NODENAME=n1", HEALTH, node="n1")
        assert lab.out("sinfo", "-hR") == ""
        lab.run("scontrol", "update", "nodename=n1", "state=drain", "reason=fan")
        lab.run("gpushare", "gpu", "resume", "n1:1")
        lab.run("env", "-i", "SLURMD_NODENAME=n1", HEALTH, node="n1")
        assert lab.out("sinfo", "-hR", "-o%E") == "fan"
    finally:
        control(lab, "n1", "heal", "1", "all", check=False)
        lab.run("cp", "-p", "/tmp/slurm.conf.before", conf)
        lab.run("scontrol", "reconfigure")
        until("slurmctld again", lambda: "is UP" in lab.out("scontrol", "ping", check=False))


_LINES = f"""
HealthCheckProgram={HEALTH}
HealthCheckInterval=1
HealthCheckNodeState=ANY
"""
