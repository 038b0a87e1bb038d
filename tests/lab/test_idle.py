"""The idle policy beside real jobs that hold a share without use, with both versions of Slurm."""

import json
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

import pytest

from tests.lab import daemons
from tests.lab.cluster import Cluster, until

POLICY = "/etc/lab/idle.json"
IDLE = f"slurm_gpushare.idle.keeper --policy {POLICY}"
LOG = PurePosixPath("/var/log/lab/again-idle")
DAEMON = {"idle": (IDLE, "root", None, f"exec gpushare idle --policy {POLICY}")}
# A notebook between two of its cells: memory of the GPU and no use of it.
NOTEBOOK = "exec gpu-workload --gpu 0 --sm 0 --memory 1G --seconds 300"
BUSY = "exec gpu-workload --gpu 0 --sm 20 --memory 1G --seconds 300"
WHY = "has held 0.25 of a GPU for"


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Cluster], Cluster]]:
    """Makes a lab one without jobs and without an idle policy, and again after the test."""
    monkeypatch.setattr(daemons, "DAEMONS", daemons.DAEMONS | DAEMON)
    labs = []

    def prepare(lab: Cluster) -> Cluster:
        labs.append(lab)
        _empty(lab)
        lab.run("rm", "-f", str(LOG))
        return lab

    yield prepare
    for lab in labs:
        if daemons.pids(lab, "idle"):
            daemons.kill(lab, "idle", "TERM")
        daemons.start_those_that_are_down(lab, ["agent n1", "serve"])
        _empty(lab)


@pytest.fixture(params=["cluster", "new_cluster"], ids=["24.11", "26.05"])
def both(request: pytest.FixtureRequest, prepared: Callable[[Cluster], Cluster]) -> Cluster:
    """Such a lab, with each version of Slurm."""
    return prepared(request.getfixturevalue(request.param))


@pytest.fixture
def lab(cluster: Cluster, prepared: Callable[[Cluster], Cluster]) -> Cluster:
    """Such a lab."""
    return prepared(cluster)


def _empty(lab: Cluster) -> None:
    for user in ("alice", "bob"):
        lab.run("scancel", f"--user={user}")
    until("an empty queue", lambda: not lab.out("squeue", "-h"), 60)


def _policy(lab: Cluster, action: str, after: float = 6.0, grace: float = 10.0, **more: object) -> None:
    policy = json.loads(lab.out("cat", "/etc/gpushare/node.json"))
    policy["idle"] = {
        "action": action,
        "after": after,
        "grace": grace,
        "threshold": 0.005,
        "interactive_after": None,
        "whole_gpus": False,
        "requeue_limit": 1,
        "exempt": [],
    } | more
    lab.run("sh", "-c", f"cat >{POLICY}.new && mv {POLICY}.new {POLICY}", stdin=json.dumps(policy))


def _submit(lab: Cluster, user: str, *lines: str, options: tuple[str, ...] = ("-wn1",)) -> tuple[int, str]:
    out = f"/tmp/idle-{user}-%j"
    job = lab.sbatch(user, "-t5", f"-o{out}", "--gres=gpu:0.25", *options, script=lab.script(user, *lines))
    lab.wait_running(job)
    return job, out.replace("%j", str(job))


def _runs(lab: Cluster, job: int) -> list[tuple[str, str, str]]:
    """Return of each run of the job, or of the tasks of its array, what slurmdbd has: its state, and what we say."""
    rows = lab.sacct(job, "JobID", "State", "SystemComment")
    return sorted((row["JobID"], row["State"].split()[0], row["SystemComment"].partition(": job")[0]) for row in rows)


def test_jobs_without_use_are_warned_of_then_requeued_or_ended_and_those_that_use_their_share_are_not(
    both: Cluster,
) -> None:
    lab, go = both, f"/tmp/idle-go-{both.name}"
    lab.run("rm", "-f", go)
    _policy(lab, "requeue")
    daemons.start(lab, "idle")
    busy, busy_output = _submit(lab, "bob", BUSY)
    in_pool, pool_output = _submit(lab, "alice", NOTEBOOK, options=("-pbitfusion", "--no-requeue"))
    busy_in_pool, _ = _submit(lab, "bob", BUSY, options=("-pbitfusion",))
    work = "gpu-workload --gpu 0 --sm 30 --memory 1G --seconds 20"
    saved, output = _submit(lab, "alice", f"until [ -e {go} ]; do sleep 0.2; done", work)
    # The last task keeps the array's own number, which Slurm's commands take for all of its tasks.
    script = lab.script("alice", f'[ "$SLURM_JOB_ID" = "$SLURM_ARRAY_JOB_ID" ] || {BUSY}', NOTEBOOK)
    array = lab.sbatch("alice", "-t5", "-wn1", "-o/dev/null", "--array=1-2", "--gres=gpu:0.25", script=script)

    told = until("she is warned", lambda: lab.read(output), 60)
    assert f"gpushare: job {saved} {WHY}" in told and "unless it uses it, it is put back into the queue in 10 s" in told
    lab.run("touch", go)

    # What srun runs is no batch job, which alone can be requeued.
    load = NOTEBOOK.removeprefix("exec ").split()
    done = lab.run("srun", "-t5", "-wn2", "--gres=gpu:0.25", *load, user="alice", check=False)
    assert done.returncode != 0
    assert "it is ended in 10 s" in done.stderr and "the job is ended now" in done.stderr

    requeued = [
        (f"{array}_1", "RUNNING", ""),
        (f"{array}_2", "PENDING", ""),
        (f"{array}_2", "REQUEUED", "gpushare: requeued by the idle policy"),
    ]
    until(f"{requeued}", lambda: _runs(lab, array) == requeued, 30)

    assert lab.wait(in_pool) == "CANCELLED"
    told = lab.read(pool_output)
    assert told.count(f"gpushare: job {in_pool} {WHY}") == 2 and told.count("the job is ended now") == 1
    ended = [(str(in_pool), "CANCELLED", "gpushare: ended by the idle policy")]
    until(f"{ended}", lambda: _runs(lab, in_pool) == ended)
    (one,) = lab.report("--job", str(in_pool), user="alice")
    assert one["state"] == "CANCELLED" and one["reason"].startswith(f"ended by the idle policy: job {in_pool} {WHY}")

    assert lab.wait(saved) == "COMPLETED" and "into the queue now" not in lab.read(output)
    assert _runs(lab, saved) == [(str(saved), "COMPLETED", "gpushare: warned by the idle policy")]

    for job in (busy, busy_in_pool):
        assert _runs(lab, job) == [(str(job), "RUNNING", "")]
    assert "share" not in lab.read(busy_output)
    log = lab.read(str(LOG))
    assert (log.count("warn: "), log.count("end: "), log.count("requeue: ")) == (4, 2, 1)


def test_what_nobody_measured_is_not_idle(lab: Cluster) -> None:
    _policy(lab, "end", grace=2.0)
    daemons.kill(lab, "agent n1", "STOP")
    daemons.start(lab, "idle")
    try:
        unseen, output = _submit(lab, "alice", NOTEBOOK)
        seen, _ = _submit(lab, "alice", NOTEBOOK, options=("-wn2",))
        assert lab.wait(seen) == "CANCELLED"
        assert lab.state(unseen) == "RUNNING" and "use" not in lab.read(output)
    finally:
        daemons.kill(lab, "agent n1", "CONT")


def test_while_the_service_is_down_nobody_is_ended_and_what_agents_counted_and_a_new_policy_hold_afterwards(
    lab: Cluster,
) -> None:
    _policy(lab, "end", exempt=[{"users": ["alice"], "partitions": ["shard"]}])
    daemons.start(lab, "idle")
    job, output = _submit(lab, "alice", NOTEBOOK)
    daemons.kill(lab, "serve")
    until("it is missed", lambda: "nothing is judged meanwhile" in lab.read(str(LOG)))
    _policy(lab, "warn", after=15.0)
    until("its time is over", lambda: lab.job(job)["RunTime"] >= "00:00:20")
    assert "use" not in lab.read(output)
    daemons.start(lab, "serve")
    told = until("she is warned", lambda: lab.read(output))
    assert f"(scancel {job})" in told and "jobs are judged again" in lab.read(str(LOG))
    assert lab.state(job) == "RUNNING"
