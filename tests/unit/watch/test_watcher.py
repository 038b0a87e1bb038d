import json
import os
import shutil

import pytest

from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.grant import Grant
from slurm_gpushare.launch import LaunchRecord, record_to_json
from slurm_gpushare.metrics.jobs import JobFolders
from slurm_gpushare.metrics.readings import GpuReading, ProcessReading
from slurm_gpushare.node_policy import BackendPolicy, ContainerPolicy, NodePolicy
from slurm_gpushare.watch.judge import Judge
from slurm_gpushare.watch.limits import Limits
from slurm_gpushare.watch.watcher import PolicyFile, Watcher


class Machine:
    """A node with a GPU: what its processes hold, whose they are, and what was done about it."""

    def __init__(self, folder):
        self.folder, self.now = folder, 0.0
        self.ways = {"shard": "warn"}
        self.load = {}  # pid: (job, bytes)
        self.done, self.lines, self.reads = [], [], []
        folders = JobFolders(str(folder))
        self.cgroups, self.limited = folder / "cgroup", []
        limits = Limits(lambda *words: self.limited.append(words) or 0, self.lines.append, str(self.cgroups))
        says = self.lines.append
        self.watcher = Watcher("n1", self.policy, folders, self, self, self, says, Judge(0, 1), limits)

    def policy(self):
        backends = {name: BackendPolicy(over_memory=way) for name, way in self.ways.items()}
        return NodePolicy(100, ContainerPolicy("auto", (), (), True), backends=backends)

    def job(self, job_id, backend="shard", memory=100):
        grant = Grant(backend, 1, 0.25, 25, memory, 1, "test", "gpu:0.25", "")
        record = LaunchRecord(job_id, os.getuid(), 1, "alice", "n1", "lab", 5.0, grant, (0,))
        (self.folder / str(job_id)).mkdir()
        (self.folder / str(job_id) / "launch.json").write_text(record_to_json(record))

    def tick(self):
        self.done.clear()
        self.now += 1
        self.watcher.tick(self.now)
        return list(self.done)

    # in the place of Nvml, ProcessTracer and Actor

    def read(self, only):
        self.reads.append(only)
        processes = tuple(ProcessReading(pid, None, memory) for pid, (_, memory) in self.load.items())
        return [GpuReading(0, 0, "GPU-0", "a", 1000, self.now, None, None, None, processes)]

    def trace(self, pids, records):
        return {pid: (1, self.load[pid][0] if self.load[pid][0] in records else None) for pid in pids}

    def warn(self, run, text):
        self.done.append(("warn", run))

    def end(self, run, text, reason):
        self.done.append(("end", run))


@pytest.fixture
def machine(tmp_path):
    if os.getuid() != 0:
        pytest.skip("launch records are root's")
    return Machine(tmp_path)


def test_the_sum_of_a_job_is_warned_of_once_and_its_neighbour_is_left_alone(machine):
    machine.job(1)
    machine.job(2)
    machine.load = {10: (1, 60), 11: (1, 60), 20: (2, 100), 30: (None, 500)}
    assert machine.tick() == [("warn", (1, 5.0))] and machine.tick() == []
    assert len(machine.lines) == 1 and machine.lines[0].startswith("warn: gpushare: job 1 holds")


def test_kill_is_asked_at_each_sample_and_a_new_policy_holds_at_once(machine):
    machine.job(1)
    machine.load = {10: (1, 101)}
    machine.tick()
    machine.ways["shard"] = "kill"
    assert machine.tick() == machine.tick() == [("end", (1, 5.0))]
    shutil.rmtree(machine.folder / "1")
    assert machine.tick() == []


@pytest.mark.parametrize("ways", [{"shard": "off"}, {}])
def test_jobs_that_are_not_watched_cost_no_sample(machine, ways):
    machine.job(1)
    machine.load, machine.ways = {10: (1, 101)}, ways
    assert machine.tick() == [] and machine.reads == []


def test_a_backend_is_judged_by_its_own_setting(machine):
    machine.job(1)
    machine.job(2, "mps")
    machine.load, machine.ways = {10: (1, 101), 20: (2, 101)}, {"shard": "off", "mps": "kill"}
    assert machine.tick() == [("end", (2, 5.0))]


def test_the_policy_is_read_again_when_it_changes_and_holds_on_when_it_is_broken(tmp_path):
    path, said = tmp_path / "node.json", []
    text = {
        "v": 1,
        "slices_per_gpu": 100,
        "container": {"runtime": "auto", "images": [], "mounts": [], "pid_namespace": True},
        "datasets": {},
        "backends": {"shard": {"over_memory": "kill"}},
        "agent": {"interval": 1, "service": None},
    }
    with pytest.raises(BrokenInstallation):
        PolicyFile(str(path), said.append)
    path.write_text(json.dumps(text))
    policy = PolicyFile(str(path), said.append)
    assert policy.read().backends["shard"].over_memory == "kill"
    path.write_text("{")
    assert policy.read() is policy.read() and policy.read().backends["shard"].over_memory == "kill"
    assert len(said) == 1 and said[0].endswith("the policy of before holds on")
    text["backends"]["shard"]["over_memory"] = "off"
    path.write_text(json.dumps(text))
    assert policy.read().backends["shard"].over_memory == "off"


def test_the_driver_limits_jobs_that_would_be_ended(machine):
    machine.ways = {"shard": "kill", "mps": "warn"}
    (machine.cgroups / "system.slice/slurmstepd.scope/job_1").mkdir(parents=True)
    (machine.cgroups / "system.slice/slurmstepd.scope/job_2").mkdir()
    (machine.cgroups / "cgroup.controllers").touch()
    machine.job(1, "shard", memory=70)
    machine.job(2, "mps", memory=70)
    machine.tick()
    machine.tick()
    assert machine.limited == [(0, str(machine.cgroups / "system.slice/slurmstepd.scope/job_1"), 70)]
