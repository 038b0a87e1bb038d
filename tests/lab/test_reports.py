"""Every report on a few real jobs as their users, a coordinator and root see them, against what Slurm counted.

A job that was requeued, an array, two users on one GPU, a whole GPU that nobody used, a node that was lost, another
account: run once on each version of Slurm, in accounts of their own, which keep the jobs of other tests out.
"""

import csv
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from slurm_gpushare.lab.params import SLURM_VERSIONS
from tests.lab import daemons, known_loads
from tests.lab.cluster import Cluster, until
from tests.lab.known_loads import GIB, PYTHON

NODE = "n1"  # that is lost
ACCOUNTS = ("acoustics", "plasma")
OURS = ("-A", ",".join(ACCOUNTS))
RUNS, JOBS = 9, 8
BUSY = 8  # seconds
DARK = 4.0  # seconds until Slurm learns that the node is lost
LOAD = "gpu-workload --gpu 0 --sm {} --memory {}G --seconds {}"
AGAIN = '[ -n "$SLURM_RESTART_COUNT" ] && seconds=2 || seconds=300; exec ' + LOAD.format(30, 2, "$seconds")
DIMENSIONS = ("cluster", "user", "account", "partition", "qos", "backend", "gpu", "node", "day", "week", "month")

# Several reports by one start of Python: a tenth of the time. Each line is a report's arguments.
REPORTS = """
import json, sys
from click.testing import CliRunner
from slurm_gpushare.cli.report import report
found = [CliRunner().invoke(report, argv) for argv in json.load(sys.stdin)]
print(json.dumps([[one.exit_code, one.stdout, one.stderr] for one in found]))
"""
RECONCILED = """
import json, sys, time
from slurm_gpushare.accounting.client import ask
from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.node_policy import read_node_policy
chosen = Selection(float(sys.argv[1]), time.time(), accounts=tuple(sys.argv[2:]))
more = {"jobs": {}, "usage": {"by": "user"}, "chargeback": {}, "advice": {}, "efficiency": {"by": "user", "most": "5"}}
service = read_node_policy().service
print(json.dumps([ask(service, name, chosen, **given).data["reconciliation"] for name, given in more.items()]))
"""


@dataclass(frozen=True)
class History:
    """The jobs by what became of them, all of them over."""

    lab: Cluster
    began: int  # seconds since the epoch
    idle: int
    left: int
    right: int
    array: int
    lost: int
    other: int
    requeued: int

    @property
    def since(self) -> tuple[str, str]:
        """The option that chooses them by time."""
        return "-S", time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(self.began))

    def said(self, user: str, *argvs: tuple[str, ...]) -> list[str]:
        """Return what these reports print for ``user``."""
        said = json.loads(self.lab.run(PYTHON, "-c", REPORTS, user=user, stdin=json.dumps(argvs)).stdout)
        for argv, (status, _, err) in zip(argvs, said, strict=True):
            assert status == 0 and "Traceback" not in err, (argv, err)
        return [out for _, out, _ in said]

    def reports(self, user: str, *argvs: tuple[str, ...]) -> list:
        """Return what these reports tell ``user``, in JSON."""
        return [json.loads(out) for out in self.said(user, *((*argv, "--format", "json") for argv in argvs))]

    def runs(self, user: str = "root") -> list[dict]:
        """Return the runs that ``user`` is told of."""
        return self.reports(user, ("jobs", *self.since, *OURS))[0]

    def slurms(self) -> dict[tuple[int, str], dict]:
        """Return sacct's rows with the GPU-seconds of each, TRES x elapsed, by job and state."""
        fields = ("JobIDRaw", "State", "AllocTRES", "ElapsedRaw", "User", "Account")
        words = ["-XnPD", *self.since, *OURS, "-a", "-o", ",".join(fields)]
        rows = [dict(zip(fields, line.split("|"), strict=True)) for line in self.lab.out("sacct", *words).splitlines()]
        for row in rows:
            tres = dict(word.split("=") for word in row["AllocTRES"].split(","))
            gpus = int(tres["gres/gpu"]) if "gres/gpu" in tres else int(tres["gres/shard"]) / 100
            row["gpu_seconds"] = gpus * int(row["ElapsedRaw"])
        return {(int(row["JobIDRaw"]), row["State"].split()[0]): row for row in rows}


@pytest.fixture(scope="module", params=["cluster", "new_cluster"], ids=SLURM_VERSIONS)
def lab(request: pytest.FixtureRequest) -> Cluster:
    """A lab of each version."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def history(lab: Cluster) -> Iterator[History]:
    """The jobs, submitted once, when all are over and their records are in the store."""
    names = ",".join(ACCOUNTS)
    for new in (("account", names), ("user", "alice", "account=acoustics"), ("user", "bob", f"account={names}")):
        lab.run("sacctmgr", "-i", "add", *new, check=False)  # a lab that stays up has them
    until("an empty node", lambda: not lab.out("squeue", "-hw", NODE), 60)
    began = int(time.time()) - 1
    try:
        jobs = _submitted(lab)
        _requeue(lab, jobs["requeued"])
        _lose(lab, jobs)
        for name in ("idle", "left", "right", "array"):
            assert lab.wait(jobs[name]) == "COMPLETED", name
        until(
            "the second run",
            lambda: [row["State"] for row in lab.sacct(jobs["requeued"], "State")][1:] == ["COMPLETED"],
            90,
        )

        numbers = {*jobs.values(), *_tasks(lab, jobs["array"])}
        until("all records", lambda: len(known_loads.records(lab, numbers)) == RUNS, 60)
        yield History(lab, began, **jobs)
    finally:
        daemons.start_those_that_are_down(lab, ["serve", f"slurmd {NODE}", f"agent {NODE}"])
        lab.run("scontrol", "update", f"nodename={NODE}", "state=resume", check=False)
        lab.run("scancel", f"--account={ACCOUNTS[0]}", check=False)
        lab.run("sacctmgr", "-i", "delete", "coordinator", "account=plasma", "name=alice", check=False)
    until("the node's return", lambda: lab.out("sinfo", "-hn", NODE, "-pshard", "-o%T") in ("idle", "mixed"), 60)


def _submit(lab: Cluster, user: str, *jobs: tuple[str, str]) -> list[int]:
    begin = "sbatch --parsable -t10 -o/dev/null -pshard"
    lines = [f"{begin} {options} --wrap='{command}'" for options, command in jobs]
    return [int(word) for word in lab.out("sh", "-ec", "\n".join(lines), user=user).split()]


def _submitted(lab: Cluster) -> dict[str, int]:
    """Submit all jobs; return them by name. The three on node n2 fill it, so that two of them share a GPU."""
    (requeued,) = _submit(lab, "bob", (f"-Aacoustics --requeue -w{NODE} --gres=gpu:0.25", AGAIN))
    on = "-A{} --no-requeue -w{} --gres=gpu:{}".format
    idle, left = _submit(
        *(lab, "alice"),
        (on("acoustics", "n2", 1), f"exec sleep {BUSY}"),
        (on("acoustics", "n2", 0.5), "exec " + LOAD.format(40, 4, BUSY)),
    )
    (right,) = _submit(lab, "bob", (on("acoustics", "n2", 0.5), "exec " + LOAD.format(20, 3, BUSY)))
    (array,) = _submit(lab, "alice", (on("acoustics", NODE, 0.25) + " --array=1-2", "exec " + LOAD.format(10, 1, 3)))
    lost, other = _submit(
        *(lab, "bob"),
        (on("acoustics", NODE, 0.25), "exec " + LOAD.format(20, 2, 300)),
        (on("plasma", NODE, 0.25), "exec " + LOAD.format(10, 1, 3)),
    )
    return {
        **{"idle": idle, "left": left, "right": right, "array": array},
        **{"lost": lost, "other": other, "requeued": requeued},
    }


def _tasks(lab: Cluster, array: int) -> list[int]:
    return [int(row["JobIDRaw"]) for row in lab.sacct(array, "JobIDRaw")]


def _requeue(lab: Cluster, job: int) -> None:
    lab.wait_running(job)
    lab.run("scontrol", "requeue", str(job))
    # Where it is to run again, half a minute later: its first node is lost before.
    until("its place", lambda: not lab.run("scontrol", "update", f"jobid={job}", "nodelist=n2", check=False).returncode)


def _lose(lab: Cluster, jobs: dict[str, int]) -> None:
    """Take the node's power away while a job runs there, tell Slurm a while later, and start it again."""
    for job in (jobs["other"], jobs["array"]):
        assert lab.wait(job) == "COMPLETED"
    others = [jobs["other"], *_tasks(lab, jobs["array"])]
    until("the records of those that ended there", lambda: len(known_loads.records(lab, others)) == len(others))
    daemons.kill(lab, f"agent {NODE}")
    daemons.kill(lab, f"slurmd {NODE}")
    lab.run("kill", "-KILL", *map(str, lab.processes(jobs["lost"])), check=False)
    lab.run("sh", "-c", f"rm -rf /run/gpushare/{NODE}/*", node=NODE)
    end = time.monotonic() + DARK
    until("a while", lambda: time.monotonic() > end)
    lab.run("scontrol", "update", f"nodename={NODE}", "state=down", "reason=lost")
    until("the end of its job", lambda: lab.state(jobs["lost"]) == "NODE_FAIL")
    daemons.start(lab, f"agent {NODE}")
    daemons.start(lab, f"slurmd {NODE}")  # which brings the node back


def known(lines: list[dict], name: str) -> float:
    """Return the sum of what is known of a column."""
    return sum(line[name] for line in lines if line[name] is not None)


def test_each_run_is_slurms(history: History) -> None:
    runs, slurms = history.runs(), history.slurms()
    assert {(run["job_id"], run["state"]) for run in runs} == set(slurms) and len(runs) == RUNS
    for run in runs:
        row = slurms[run["job_id"], run["state"]]
        assert (run["user"], run["account"], run["elapsed_seconds"]) == (
            row["User"],
            row["Account"],
            int(row["ElapsedRaw"]),
        )
        missed = row["gpu_seconds"] - run["gpu_seconds_reserved"]
        # From prolog to the epilog's word, against whole seconds; of the lost node what the agent had last written.
        share = run["fraction"]
        low, high = (share * (DARK - 2), share * 60) if run["job_id"] == history.lost else (-2 * share, 2 * share)
        assert low <= missed <= high, run
    first, second = (run for run in runs if run["job_id"] == history.requeued)
    assert (first["state"], first["restart"], second["state"], second["restart"]) == ("REQUEUED", 0, "COMPLETED", 1)
    found = {run["job_id"]: run for run in runs}
    assert found[history.lost]["state"] == "NODE_FAIL" and found[history.lost]["gpu_seconds_used"] > 0
    assert {(run["array_job_id"], run["array_task_id"]) for run in runs if run["array_job_id"] == history.array} == {
        (history.array, 1),
        (history.array, 2),
    }
    assert found[history.left]["gpu_seconds_used"] == pytest.approx(0.4 * BUSY, abs=0.5)
    assert found[history.right]["gpu_seconds_used"] == pytest.approx(0.2 * BUSY, abs=0.5)
    assert found[history.idle]["gpu_seconds_used"] == 0 and found[history.other]["account"] == "plasma"


def test_sums_by_everything_are_those_of_the_runs(history: History) -> None:
    for period in (history.since, ("-S", "now-5days")):  # from records alone, and as roll-ups and records
        chosen = (*period, *OURS)
        asked = [("usage", "--by", by, *chosen) for by in DIMENSIONS]
        runs, *sums = history.reports("root", ("jobs", *chosen), *asked)
        for argv, lines in zip(asked, sums, strict=True):
            assert known(lines, "runs") == len(runs) >= RUNS, argv
            assert known(lines, "jobs") == len({run["job_id"] for run in runs}), argv
            for name in ("reserved", "used", "idle", "over"):
                key = f"gpu_seconds_{name}"
                assert known(lines, key) == pytest.approx(known(runs, key), abs=0.01), argv
            assert known(lines, "energy_joules") == pytest.approx(known(runs, "energy_joules"), abs=1), argv
    runs, lines = history.reports(
        "root", ("jobs", *history.since, *OURS), ("usage", "--by", "user,account", *history.since, *OURS)
    )
    assert (known(lines, "runs"), known(lines, "jobs")) == (RUNS, JOBS)
    for line in lines:
        mine = [run for run in runs if (run["user"], run["account"]) == (line["user"], line["account"])]
        assert line["runs"] == len(mine) and line["jobs"] == len({run["job_id"] for run in mine})
        assert line["gpu_seconds_reserved"] == pytest.approx(known(mine, "gpu_seconds_reserved"), abs=0.01)
    states = history.reports("root", *(("usage", *history.since, *OURS, "-s", state) for state in ("RQ", "NF")))
    assert [(known(lines, "runs"), known(lines, "jobs")) for lines in states] == [(1, 0), (1, 1)]


def test_the_reconciliation_is_saccts_sum(history: History) -> None:
    slurms, runs = known(list(history.slurms().values()), "gpu_seconds"), known(history.runs(), "gpu_seconds_reserved")
    argv = [PYTHON, "-c", RECONCILED, str(float(history.began)), *ACCOUNTS]
    for told in json.loads(history.lab.out(*argv)):
        assert told["gpu_seconds_slurm"] == pytest.approx(slurms, abs=1e-3)
        assert told["gpu_seconds_recorded"] == pytest.approx(runs, abs=0.01)
        assert (told["gpu_seconds_unrecorded"], told["parts_foreign"]) == (None, 0)
        hours = f"{slurms / 3600:.2f} GPU-hours of runs that have ended, {runs / 3600:.2f} are recorded here"
        assert told["line"] == f"Slurm counted {hours} ({100 * runs / slurms:.1f} %)."


def test_what_each_user_sees_of_every_report(history: History) -> None:
    own = {"alice": {history.idle, history.left}, "bob": {history.right, history.lost, history.other, history.requeued}}
    own["alice"] |= set(_tasks(history.lab, history.array))
    own["root"] = own["alice"] | own["bob"]
    _sees(history, "alice", own["alice"], {"alice"}, {"acoustics"})
    _sees(history, "bob", own["bob"], {"bob"}, set(ACCOUNTS))
    _sees(history, "root", own["root"], {"alice", "bob"}, set(ACCOUNTS))
    manage = ("sacctmgr", "-i")
    history.lab.run(*manage, "add", "coordinator", "account=plasma", "name=alice")
    daemons.kill(history.lab, "serve", "TERM")  # it remembers rights for a quarter of a minute
    daemons.start(history.lab, "serve")
    _sees(history, "alice", own["alice"] | {history.other}, {"alice", "bob"}, set(ACCOUNTS))


def _sees(history: History, user: str, jobs: set[int], users: set[str], accounts: set[str]) -> None:
    chosen = (*history.since, *OURS)
    runs, by_user, by_account, ranks, advice, bill, left, other = history.reports(
        user,
        ("jobs", *chosen),
        ("usage", "--by", "user", *chosen),
        ("usage", "--by", "account", *chosen),
        ("efficiency", *chosen),
        ("advice", *chosen),
        ("chargeback", *chosen),
        ("job", str(history.left)),
        ("job", str(history.other)),
    )
    assert {run["job_id"] for run in runs} == jobs and {run["user"] for run in runs} == users
    reserved = pytest.approx(known(runs, "gpu_seconds_reserved"), abs=0.01)
    assert known(by_user, "gpu_seconds_reserved") == reserved == known(by_account, "gpu_seconds_reserved")
    assert {line["user"] for line in by_user} == users and {line["account"] for line in by_account} == accounts
    assert 3600 * sum(line["gpu_hours"] for line in bill) == pytest.approx(known(runs, "gpu_seconds_reserved"), abs=0.1)
    assert {(line["user"], line["account"]) for line in bill} == {(run["user"], run["account"]) for run in runs}
    assert {line["name"] for line in ranks["ranks"]} <= users
    assert {one["job_id"] for part in ("wasters", "holders") for one in ranks[part]} <= jobs
    assert (history.idle in {one["job_id"] for one in ranks["holders"]}) == (history.idle in jobs)
    assert {line["user"] for line in advice} <= users
    assert bool(left) == (history.left in jobs) and bool(other) == (history.other in jobs)
    if user == "root":
        assert [line["rank"] for line in ranks["ranks"]] == [1, 2]
        (line,) = (line for line in advice if (line["user"], line["request"]) == ("alice", "gpu:0.5"))
        assert line["fraction_advised"] == pytest.approx(0.4, abs=0.03) and line["memory_peak_bytes"] == 4 * GIB
    if left:
        (part,) = left[0]["measured"]
        named = [str(history.right)] if history.right in jobs else []
        assert [one["job"] for one in part["others"]] == named
        assert part["others_unnamed"] == 1 - len(named)


def test_other_formats_tell_the_same(history: History) -> None:
    chosen = (*history.since, *OURS)
    lab = history.lab
    (lines,) = history.reports("root", ("usage", "--by", "user", *chosen))
    done = lab.run("gpushare", "report", "usage", "--by", "user", *chosen, "--format", "csv")
    found = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [{name: "" if value is None else str(value) for name, value in line.items()} for line in lines] == found
    assert done.stderr.startswith("gpushare: reconciliation: Slurm counted ") and done.stderr.count("\n") == 1
    table = lab.out("gpushare", "report", "jobs", *chosen).splitlines()
    assert table[-2].startswith(f"{RUNS} runs: ") and table[-1].startswith("Slurm counted ")
    assert sum(line.startswith(f"{history.array}_") for line in table) == 2


def test_nothing_is_said_and_what_nobody_knows_is_named(history: History) -> None:
    lab = history.lab
    nothing = (*history.since, "-A", "plasma", "-u", "alice")
    names = ("jobs", "usage", "efficiency", "advice", "chargeback")
    for name, told in zip(names, history.said("root", *((name, *nothing) for name in names)), strict=True):
        assert told.startswith("No"), (name, told)
    done = lab.run("gpushare", "report", "usage", *history.since, "-A", "plasma,plasmo", "--format", "json")
    assert "plasmo: neither Slurm nor the store knows an account of that name" in done.stderr
    assert [line["account"] for line in json.loads(done.stdout)] == ["plasma"]
    done = lab.run("gpushare", "report", "jobs", "-S", "2026-02-30", check=False)
    assert done.returncode == 2 and done.stderr.startswith("gpushare: Invalid value for '-S'")
    assert done.stderr.count("\n") == 1 and "does not exist" in done.stderr
