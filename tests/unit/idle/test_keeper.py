import json
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from slurm_gpushare.errors import StoreError
from slurm_gpushare.grant import Grant
from slurm_gpushare.idle.keeper import Keeper, pause
from slurm_gpushare.node_policy import ContainerPolicy, IdlePolicy, NodePolicy
from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.status.jobs import HeldJob

AFTER, GRACE = 100.0, 50.0
BORN = 1e9
GRANT = Grant("shard", 1, 0.25, 25, None, 1, "rule", "gpu:0.25", "")


class Site:
    """A cluster: what its agents measured, what Slurm says of its jobs, and what was done about them."""

    def __init__(self):
        self.now = 0.0
        self.idle = IdlePolicy("end", AFTER, GRACE, 0.005, None, False, 1, ())
        self.service = "http://serve:6827"
        self.jobs, self.used, self.silent = {}, {}, set()
        self.done, self.lines, self.asked = [], [], []
        self.broken = set()
        self.keeper = Keeper(self.policy, self, self.lines.append, self.ask, self.fetch, lambda: BORN + self.now)

    def policy(self):
        box = ContainerPolicy("auto", (), (), True)
        return NodePolicy(100, box, service=self.service, idle=self.idle)

    def job(self, number, **more):
        given = {"grant": GRANT, "gpus": {"n1": {0: (25, 100)}}, "nodes": ("n1",), "requeue": True}
        self.jobs[number] = HeldJob(number, str(number), "alice", "RUNNING", 1000 + number, **{**given, **more})
        self.used[number] = 0.0

    def pass_time(self, seconds, by=10):
        """Ask every ``by`` seconds; return what was done meanwhile."""
        self.done.clear()
        for _ in range(int(seconds / by)):
            self.now += by
            self.keeper.tick(self.now)
        return list(self.done)

    # in the place of the service, of squeue and of Actor

    def ask(self, service):
        if "service" in self.broken:
            raise StoreError(f"{service}: away")
        jobs = [
            {
                "job_id": number,
                "uid": 1001,
                "gpu": 0,
                "sm": 0.0,
                "memory": 1,
                "started": BORN,
                "measured": self.now,
                "used": self.used[number],
            }
            for number in self.jobs
            if number not in self.silent
        ]
        gpus = [{"number": 0, "sm": 0.0}]
        agent = {"kind": "node", "name": "n1", "age": 0.0, "silent": False, "gpus": gpus, "jobs": jobs}
        return {"listening": 1.0, "agents": [agent]}

    def fetch(self, jobs):
        if "slurm" in self.broken:
            raise SlurmError("squeue: away")
        self.asked.append(sorted(jobs))
        return {number: job for number, job in self.jobs.items() if number in jobs}

    def warn(self, run, text, reason):
        self.done.append(("warn", run[0], self.now))

    def end(self, run, text, reason):
        self.done.append(("end", run[0], self.now))
        if "scancel" not in self.broken:
            del self.jobs[run[0]]

    def requeue(self, run, text, reason):
        self.done.append(("requeue", run[0], self.now))
        del self.jobs[run[0]]


@pytest.fixture
def site():
    site = Site()
    site.job(1)
    return site


def test_its_owner_is_warned_and_then_it_is_ended(site):
    assert site.pass_time(300) == [("warn", 1, 100.0), ("end", 1, 150.0)]
    assert [line.split(":")[0] for line in site.lines] == ["warn", "end"]


def test_another_that_uses_its_share_is_left_alone_and_slurm_is_not_asked_of_it(site):
    site.job(2)
    for _ in range(20):
        site.used[2] += 1.0
        assert not any(number == 2 for _, number, _ in site.pass_time(10))
    assert site.asked == [[1], [1]]


def test_use_in_the_grace_time_saves_it_and_it_is_warned_again_later(site):
    assert site.pass_time(140) == [("warn", 1, 100.0)]
    site.used[1] += 1.0
    assert site.pass_time(300) == [("warn", 1, 250.0), ("end", 1, 300.0)]


def test_warn_only_warns_once(site):
    site.idle = site.idle._replace(action="warn")
    assert site.pass_time(1000) == [("warn", 1, 100.0)]
    assert len(site.asked) == 1


def test_requeue_where_it_may_be(site):
    site.idle = site.idle._replace(action="requeue")
    site.job(2, requeue=False)
    site.job(3, batch=False)
    done = site.pass_time(200)
    assert [(what, number) for what, number, _ in done if what != "warn"] == [("requeue", 1), ("end", 2), ("end", 3)]


def test_jobs_of_srun_and_salloc_may_have_longer(site):
    site.idle = site.idle._replace(interactive_after=400.0)
    site.job(2, batch=False)
    assert site.pass_time(600) == [("warn", 1, 100.0), ("end", 1, 150.0), ("warn", 2, 400.0), ("end", 2, 450.0)]


def test_a_grace_of_nothing_ends_it_at_the_next_look(site):
    site.idle = site.idle._replace(grace=0.0)
    assert site.pass_time(200) == [("warn", 1, 100.0), ("end", 1, 110.0)]


def test_an_end_that_slurm_refuses_is_tried_again_every_minute_and_logged_once(site):
    site.broken = {"scancel"}
    assert site.pass_time(280) == [("warn", 1, 100.0), ("end", 1, 150.0), ("end", 1, 210.0), ("end", 1, 270.0)]
    assert len(site.lines) == 2


def test_who_is_exempt_is_left_alone_until_the_policy_says_otherwise(site):
    site.idle = site.idle._replace(exempt=({"users": ["alice"]},))
    assert site.pass_time(500) == [] and len(site.asked) < 5
    site.idle = site.idle._replace(exempt=())
    assert site.pass_time(10) == [("warn", 1, 510.0)]


def test_a_job_of_which_not_all_is_measured_is_not_judged(site):
    site.job(2, gpus={"n1": {0: None}, "n2": {0: None}}, nodes=("n1", "n2"))
    assert [number for _, number, _ in site.pass_time(500)] == [1, 1]
    assert any("job 2: not all that it holds is measured" in line for line in site.lines)


def test_a_suspended_job_begins_anew(site):
    site.jobs[1] = replace(site.jobs[1], state="SUSPENDED")
    assert site.pass_time(150) == []
    site.jobs[1] = replace(site.jobs[1], state="RUNNING")
    # It is looked at again only when it has held its share for so long again.
    (warned, *_) = site.pass_time(600)
    assert warned[:2] == ("warn", 1) and warned[2] >= 200.0


def test_a_job_that_slurm_no_longer_knows_is_left_alone(site):
    gone = site.jobs[1]
    site.fetch = lambda jobs: {}
    site.keeper._fetch = site.fetch
    assert site.pass_time(500) == [] and gone.job_id == 1


@pytest.mark.parametrize("away", ["service", "slurm"])
def test_what_is_away_is_told_of_once_and_the_idle_time_goes_on(site, away):
    site.pass_time(90)
    site.broken = {away}
    assert site.pass_time(500) == []
    site.broken = set()
    assert site.pass_time(100)[0] == ("warn", 1, 600.0)
    assert len(site.lines) == 4 and "nothing is judged meanwhile" in site.lines[0]
    assert site.lines[1] == "jobs are judged again"


def test_an_agent_that_is_silent_for_a_moment_costs_no_second_warning(site):
    site.pass_time(120)
    site.silent = {1}
    assert site.pass_time(20) == []
    site.silent = set()
    assert site.pass_time(50) == [("end", 1, 150.0)]


def test_off_asks_nobody_and_a_new_policy_holds_at_once(site):
    site.idle, idle = None, site.idle
    site.broken = {"service", "slurm"}
    assert site.pass_time(500) == [] and site.lines == []
    site.idle, site.broken = idle, set()
    assert site.pass_time(10) == [("warn", 1, 510.0)]


def test_without_a_service_it_says_that_it_knows_nothing(site):
    site.service = None
    assert site.pass_time(500) == []
    assert len(site.lines) == 1 and "agent.service" in site.lines[0]


def test_the_service_is_asked_often_enough_for_the_policys_times():
    idle = IdlePolicy("end", 3600.0, 900.0, 0.005, None, False, 1, ())
    times = [(3600.0, 900.0), (3600.0, 0.0), (60.0, 900.0), (3600.0, 20.0), (10.0, 1.0)]
    assert [pause(idle._replace(after=one, grace=other)) for one, other in times] == [30, 30, 6, 2, 1]
    assert pause(None) > 0


NODE_JSON = {
    "v": 1,
    "slices_per_gpu": 100,
    "container": {"runtime": "auto", "images": [], "mounts": [], "pid_namespace": True},
    "datasets": {},
    "backends": {},
    "agent": {"interval": 1, "service": None},
}


def test_one_runs_at_a_time_and_ends_when_told(tmp_path):
    policy = tmp_path / "node.json"
    policy.write_text(json.dumps(NODE_JSON))
    argv = [sys.executable, "-I", "-m", "slurm_gpushare.idle.keeper", f"--policy={policy}", f"--run-dir={tmp_path}"]
    first = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    try:
        assert first.stderr.readline() == "gpushare-idle: off by the policy\n"
        second = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
        assert second.returncode == 78 and "runs here already" in second.stderr
        first.send_signal(signal.SIGTERM)
        assert first.wait(30) == 0
    finally:
        first.kill()
        first.communicate()


def test_a_node_without_a_policy_is_told_in_one_line(tmp_path):
    argv = [sys.executable, "-I", "-m", "slurm_gpushare.idle.keeper", f"--policy={tmp_path}/none"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 78 and done.stderr.count("\n") == 1 and done.stderr.startswith("gpushare: ")
