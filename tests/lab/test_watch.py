"""The memory watcher beside real jobs that take more of a GPU than their share, with both versions of Slurm."""

import json
from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest

from tests.lab import daemons
from tests.lab.cluster import Cluster, until

POLICY = "/etc/lab/watched.json"
WATCH = f"slurm_gpushare.watch.watcher --node n1 --policy {POLICY}"
LOG = PurePosixPath("/var/log/lab/again-watch-n1")
DAEMON = {"watch n1": (WATCH, "root", "n1", f"exec gpushare watch --node n1 --policy {POLICY}")}
# A quarter of a GPU of 16280 MiB is 4070 MiB: each of two processes is within it, both together are not.
LOAD = "gpu-workload --gpu 0 --sm 5 --memory 3G --seconds 300"
WITHIN, TOGETHER = f"exec {LOAD}", f"{LOAD} &\nexec {LOAD}"


@pytest.fixture(params=["cluster", "new_cluster"], ids=["24.11", "26.05"])
def lab(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A lab without jobs, before and after the test, and without a watcher."""
    lab = request.getfixturevalue(request.param)
    monkeypatch.setattr(daemons, "DAEMONS", daemons.DAEMONS | DAEMON)
    _empty(lab)
    lab.run("rm", "-f", str(LOG))
    yield lab
    daemons.start_those_that_are_down(lab, ["slurmctld"])
    if daemons.pids(lab, "watch n1"):
        daemons.kill(lab, "watch n1", "TERM")
    _empty(lab)


def _empty(lab: Cluster) -> None:
    for user in ("alice", "bob"):
        lab.run("scancel", f"--user={user}")
    until("an empty queue", lambda: not lab.out("squeue", "-h"), 60)


def _policy(lab: Cluster, over_memory: str) -> None:
    policy = json.loads(lab.out("cat", "/etc/gpushare/node.json"))
    policy["backends"]["shard"]["over_memory"] = over_memory
    lab.run("sh", "-c", f"cat >{POLICY}.new && mv {POLICY}.new {POLICY}", stdin=json.dumps(policy))


def _submit(lab: Cluster, user: str, command: str, share: str = "0.25") -> tuple[int, str]:
    out = f"/tmp/watched-{user}-%j"
    job = lab.sbatch(user, "-t5", "-wn1", f"-o{out}", f"--gres=gpu:{share}", script=lab.script(user, command))
    lab.wait_running(job)
    return job, out.replace("%j", str(job))


def _reason(lab: Cluster, job: int) -> str:
    return lab.sacct(job, "JobIDRaw", "SystemComment")[0]["SystemComment"]


def _reasons(lab: Cluster, array: int) -> set[str]:
    return {row["JobID"] for row in lab.sacct(array, "JobID", "SystemComment") if row["SystemComment"]}


def test_a_job_is_warned_once_and_when_the_policy_says_so_ended_and_others_are_not(lab: Cluster) -> None:
    _policy(lab, "warn")
    daemons.start(lab, "watch n1")
    his, bobs_output = _submit(lab, "bob", WITHIN)
    hers, output = _submit(lab, "alice", TOGETHER)
    told = until("she is warned", lambda: lab.read(output))
    assert f"gpushare: job {hers} holds 6.0 GiB of GPU 0 of n1 and its share is 4.0 GiB: others may fail" in told
    assert "--gpu-mem=6G" in told

    _policy(lab, "kill")
    assert lab.wait(hers) == "CANCELLED"
    told = lab.read(output)
    assert told.count("others may fail") == 1 and told.count("the job is ended now") == 1
    why = f"job {hers} holds 6.0 GiB of GPU 0 of n1 and its share is 4.0 GiB"
    until("the reason in sacct", lambda: _reason(lab, hers) == f"gpushare: ended by the memory watcher: {why}")
    (one,) = lab.report("--job", str(hers), user="alice")
    assert (one["state"], one["reason"]) == ("CANCELLED", f"ended by the memory watcher: {why}")

    assert lab.state(his) == "RUNNING" and "share" not in lab.read(bobs_output)
    assert _reason(lab, his) == ""


def test_of_an_array_the_task_that_is_over_ends_alone(lab: Cluster) -> None:
    _policy(lab, "kill")
    daemons.start(lab, "watch n1")
    # The last task keeps the array's own number, which Slurm's commands take for all of its tasks.
    script = lab.script("alice", f'[ "$SLURM_JOB_ID" = "$SLURM_ARRAY_JOB_ID" ] || {WITHIN}', TOGETHER)
    array = lab.sbatch("alice", "-t5", "-wn1", "-o/dev/null", "--array=1-3", "--gres=gpu:0.25", script=script)
    until("the end of one", lambda: "CANCELLED" in lab.out("sacct", "-Xnj", f"{array}_3", "-oState"), 60)
    rows = lab.sacct(array, "JobIDRaw", "JobID", "State", "SystemComment")
    assert [(row["JobID"], row["State"].split()[0]) for row in sorted(rows, key=lambda row: row["JobID"])] == [
        (f"{array}_1", "RUNNING"),
        (f"{array}_2", "RUNNING"),
        (f"{array}_3", "CANCELLED"),
    ]
    until("its reason", lambda: _reasons(lab, array) == {f"{array}_3"})


def test_what_srun_shows_of_it(lab: Cluster) -> None:
    _policy(lab, "kill")
    daemons.start(lab, "watch n1")
    load = ["gpu-workload", "--gpu", "0", "--sm", "5", "--memory", "6G", "--seconds", "100"]
    done = lab.run("srun", "-t5", "-wn1", "--gres=gpu:0.25", *load, user="alice", check=False)
    assert done.returncode != 0 and "its share is 4.0 GiB: the job is ended now" in done.stderr


def test_while_the_watcher_is_down_or_slurmctld_away_a_job_goes_on_and_is_ended_afterwards(lab: Cluster) -> None:
    _policy(lab, "kill")
    daemons.start(lab, "watch n1")
    daemons.kill(lab, "watch n1")
    job, _ = _submit(lab, "alice", TOGETHER)
    until("its load", lambda: len(lab.out("pgrep", "-u", "alice", "gpu-workload", check=False).split()) == 2)
    daemons.kill(lab, "slurmctld", "TERM")
    daemons.start(lab, "watch n1")
    until("it is told of", lambda: f"kill: gpushare: job {job} holds" in lab.read(str(LOG)), 60)
    until("slurmctld is missed", lambda: "squeue: " in lab.read(str(LOG)), 60)
    assert len(lab.out("pgrep", "-u", "alice", "gpu-workload").split()) == 2
    daemons.start(lab, "slurmctld")
    assert lab.wait(job, 90) == "CANCELLED"
