"""Who sees whose runs, with real munge identities and Slurm's own coordinators and administrators, on both versions."""

import json
import time

import pytest

from slurm_gpushare.lab.params import SLURM_VERSIONS
from tests.lab import daemons
from tests.lab.cluster import Cluster, until

REPORTS = {
    "jobs": (),
    "usage": ("--by", "user"),
    "efficiency": (),
    "advice": (),
    "chargeback": (),
}
FORGOTTEN = 30.0  # seconds in which a right that was given or taken is known


@pytest.fixture(params=["cluster", "new_cluster"], ids=SLURM_VERSIONS)
def lab(request: pytest.FixtureRequest) -> Cluster:
    """A lab of each version."""
    return request.getfixturevalue(request.param)


def manage(lab: Cluster, *words: str) -> None:
    lab.run("sacctmgr", "-i", *words)


def forget(lab: Cluster) -> None:
    """Start the service again: what it knows of rights it remembers for a quarter of a minute."""
    daemons.kill(lab, "serve", "TERM")
    daemons.start(lab, "serve")


def seen(lab: Cluster, user: str, *options: str) -> set[int]:
    return {line["job_id"] for line in lab.report(*options, user=user)}


def test_own_runs_accounts_of_coordinators_and_all_for_operators(lab: Cluster) -> None:
    for account, parent in (("optics", "physics"), ("lasers", "optics")):
        manage(lab, "add", "account", account, f"parent={parent}")
    manage(lab, "add", "user", "bob", "account=lasers")
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() - 1))
    since = ("-S", start)

    def share(user: str, account: str) -> int:
        return lab.sbatch(user, f"-A{account}", "--gres=gpu:0.1", "-o/dev/null", script=lab.script("", "sleep 2"))

    alices, bobs, below = share("alice", "physics"), share("bob", "biology"), share("bob", "lasers")
    mine = {alices, bobs, below}
    try:
        for job in mine:
            lab.wait(job)
        until("all runs in root's report", lambda: mine <= seen(lab, "root", *since))

        def sees(user: str, *options: str) -> set[int]:
            return mine & seen(lab, user, *since, *options)

        assert (sees("alice"), sees("bob")) == ({alices}, {bobs, below})
        refused = lab.run("gpushare", "report", "jobs", *since, "-u", "bob", user="alice", check=False)
        assert refused.returncode == 1 and refused.stderr.count("\n") == 1
        assert "jobs of bob: only coordinators of their accounts, operators and administrators" in refused.stderr

        manage(lab, "add", "coordinator", "account=physics", "name=alice")
        until("alice as coordinator", lambda: sees("alice") == {alices, below}, FORGOTTEN)  # without a new start
        assert sees("alice", "-u", "bob") == {below} and sees("alice", "-u", "alice") == {alices}
        assert sees("alice", "-A", "biology") == set()
        assert sees("bob") == {bobs, below}
        for name, options in REPORTS.items():
            said = lab.out("gpushare", "report", name, *since, *options, "--format", "json", user="alice")
            json.loads(said)
            assert "biology" not in said, name
        told = json.loads(lab.out("gpushare", "report", "job", str(below), "--format", "json", user="alice"))
        assert told and str(below) in json.dumps(told)
        hidden = lab.run("gpushare", "report", "job", str(bobs), "--format", "json", user="alice", check=False)
        assert "biology" not in hidden.stdout and str(bobs) not in hidden.stdout

        manage(lab, "delete", "coordinator", "account=physics", "name=alice")
        until("alice as one of many again", lambda: sees("alice") == {alices}, FORGOTTEN)
        for level, hers in (("Operator", mine), ("None", {alices}), ("Administrator", mine)):
            manage(lab, "modify", "user", "where", "name=alice", "set", f"adminlevel={level}")
            forget(lab)
            until(f"alice with the level {level}", lambda hers=hers: sees("alice") == hers)
    finally:
        lab.run("sacctmgr", "-i", "modify", "user", "where", "name=alice", "set", "adminlevel=None", check=False)
        lab.run("sacctmgr", "-i", "delete", "coordinator", "account=physics", "name=alice", check=False)


def test_a_coordinator_sees_what_runs_now(lab: Cluster) -> None:
    job = lab.sbatch("bob", "--gres=gpu:0.1", "-o/dev/null", script=lab.script("", "sleep 600"))
    look = (
        "from slurm_gpushare.accounting.client import live; from slurm_gpushare.node_policy import read_node_policy; "
    )
    look += "print([job['job_id'] for agent in live(read_node_policy().service)['agents'] for job in agent['jobs']])"

    def live(user: str) -> list[int]:
        return json.loads(lab.out("/opt/gpushare/bin/python3", "-c", look, user=user))

    try:
        lab.wait_running(job)
        until("the run in root's report", lambda: job in seen(lab, "root"))
        forget(lab)
        until("the sample of the job", lambda: job in live("root") and job in live("bob"))
        assert job not in live("alice")
        manage(lab, "add", "coordinator", "account=biology", "name=alice")
        until("alice as coordinator", lambda: job in live("alice"), FORGOTTEN)
    finally:
        lab.run("sacctmgr", "-i", "delete", "coordinator", "account=biology", "name=alice", check=False)
        lab.run("scancel", str(job), check=False)


def test_a_user_whom_nobody_knows_is_said(lab: Cluster) -> None:
    done = lab.run("gpushare", "report", "usage", "-u", "nobody1")
    assert "nobody1: neither Slurm nor the store knows a user of that name" in done.stderr
    assert "nobody1" not in lab.run("gpushare", "report", "jobs", "-u", "bob").stderr


SIGHT = """
import json, sys
from slurm_gpushare.accounting.privacy import JOBS, Rights
print(json.dumps([Rights(follow).sight(1001, "alice", JOBS).uid for follow in (False, True)]))
"""


@pytest.mark.parametrize(("private", "hidden"), [("jobs", True), ("jobs,usage", True), ("accounts", False)])
def test_private_data_is_followed_as_sacct_does(lab: Cluster, private: str, hidden: bool) -> None:
    job = lab.sbatch("bob", "-o/dev/null", script=lab.script("", "exit 0"))
    lab.wait(job)
    conf = "/etc/slurm/slurmdbd.conf"

    def shown() -> bool:
        return bool(lab.out("sacct", "-XnPaj", str(job), "-o", "JobIDRaw", user="alice"))

    def configured() -> None:
        # slurmdbd 26.05 takes another PrivateData at its start alone.
        daemons.kill(lab, "slurmdbd", "TERM")
        daemons.start(lab, "slurmdbd")
        until("slurmdbd", lambda: not lab.run("sacctmgr", "-n", "show", "cluster", check=False).returncode)

    def sight() -> list[int | None]:
        return json.loads(lab.out("/opt/gpushare/bin/python3", "-c", SIGHT))

    assert shown() and sight() == [1001, None]
    lab.run("sh", "-c", f"cp -p {conf} {conf}.kept && echo PrivateData={private} >>{conf}")
    try:
        configured()
        assert shown() is not hidden
        assert sight() == [1001, 1001 if hidden else None]
        forget(lab)  # what another test let her see
        assert {run["user"] for run in lab.report(user="alice")} <= {"alice"}
    finally:
        lab.run("sh", "-c", f"cp -p {conf}.kept {conf}")
        configured()
