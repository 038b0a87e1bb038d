"""A GPU of a node out of service: what is refused, and that just one job stays, on the right GPU."""

import json
from dataclasses import replace

import pytest

from slurm_gpushare.drain import nodes
from slurm_gpushare.drain.hold import write_comment
from slurm_gpushare.errors import RefusedError
from slurm_gpushare.node_policy import BackendPolicy, ContainerPolicy, NodePolicy
from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.nodes import Gpu, Node
from slurm_gpushare.status.jobs import HeldJob

NODE = Node("n1", ("main",), ("IDLE",), "", (Gpu(0, 100, False),) * 3, {}, {}, 8, 8000, types=("p100",) * 3)
COMMENT = write_comment("n1:1", "root", 0, "fan")
POLICY = NodePolicy(
    slices_per_gpu=100,
    container=ContainerPolicy(runtime="auto", images=(), mounts=(), pid_namespace=True),
    backends={"mig": BackendPolicy(types={"a100_3g.20gb": {"fraction": 0.5, "memory": None}})},
)


def held(job_id: int, **gpus: int) -> HeldJob:
    """Return a job; ``n1=0``: it has a share of GPU 0 of n1."""
    return HeldJob(job_id, str(job_id), "alice", "RUNNING", 0, None, {node: {gpu: None} for node, gpu in gpus.items()})


def row(job_id: int, gpu: int | None, comment: str = COMMENT, name: str = nodes.NAME, state: str = "RUNNING") -> dict:
    """Return a job as squeue's JSON has it."""
    detail = [] if gpu is None else [f"gpu:p100:1(IDX:{gpu})"]
    place = {} if gpu is None else {"nodes": "n1", "gres_detail": detail}
    return {"job_id": job_id, "name": name, "job_state": [state], "comment": comment, "user_name": "root", **place}


def test_holders_are_known_by_name_comment_and_place() -> None:
    rows = [row(1, 1), row(2, 0), row(3, None, state="PENDING"), row(4, 1, "mine"), row(5, 1, name="train")]
    found = nodes.parse_holders(json.dumps({"jobs": rows}))
    assert [(each.job_id, each.in_place) for each in found] == [(1, True), (2, False), (3, False)]
    assert found[0].hold.held_by == "job 1" and found[0].hold.target == "n1:1"


def test_what_cannot_be_taken_out_of_service() -> None:
    nodes.check(NODE, 1, [held(7, n1=0), held(8, n2=1)], POLICY)
    with pytest.raises(RefusedError, match=r"jobs 7 9 have shares of it.*`scancel 7 9`.*nodename=n1 state=drain"):
        nodes.check(NODE, 1, [held(7, n1=1), held(8, n1=0), held(9, n1=1)], POLICY)
    with pytest.raises(RefusedError, match=r"n1 is idle\+drain.*state=resume"):
        nodes.check(replace(NODE, state=("IDLE", "DRAIN")), 1, [], POLICY)
    nodes.check(replace(NODE, state=("IDLE", "NOT_RESPONDING")), 1, [], POLICY)
    part = replace(NODE, types=("a100_3g.20gb",) * 3)
    with pytest.raises(RefusedError, match=r"a part of a GPU \(a100_3g.20gb\).*nodename=n1 state=drain"):
        nodes.check(part, 1, [], POLICY)
    nodes.check(part, 1, [], None)


class Slurm:
    """slurmctld, which gives GPUs in the order of ``order`` to the jobs that hold them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, order: list[int | None], jobs: list[HeldJob]) -> None:
        self.order, self.jobs = order, jobs
        self.made: list[int] = []
        self.ended: list[str] = []
        self.updated: list[list[str]] = []
        self.clock = 0.0
        monkeypatch.setattr(nodes, "run_slurm", self.run)
        monkeypatch.setattr(nodes, "fetch_jobs", lambda: self.jobs)
        monkeypatch.setattr(nodes.time, "monotonic", lambda: self.clock)
        monkeypatch.setattr(nodes.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.clock += seconds

    def run(self, argv: list[str], timeout: float) -> str:
        if argv[0] == "sbatch":
            self.made.append(100 + len(self.made))
            return f"{self.made[-1]};lab\n"
        if argv[0] == "squeue":
            running = [job for job in self.made if str(job) not in self.ended]
            states = [(job, self.order[job - 100]) for job in running]
            rows = [row(job, gpu, state="PENDING" if gpu is None else "RUNNING") for job, gpu in states]
            return json.dumps({"jobs": rows})
        if argv[0] == "scancel":
            self.ended += argv[1:]
        else:
            self.updated.append(argv)
        return ""


def test_one_job_stays_on_the_right_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm(monkeypatch, [0, 2, 1], [])
    assert nodes.drain(NODE, 1, COMMENT, "main", 64030) == 102
    assert slurm.made == [100, 101, 102] and slurm.ended == ["100", "101"]
    assert slurm.updated == [["scontrol", "update", "jobid=102", "timelimit=UNLIMITED"]]


def test_as_many_as_there_are_idle_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm(monkeypatch, [1], [held(7, n1=0), held(8, n1=2), held(9, n2=1)])
    assert nodes.drain(NODE, 1, COMMENT, "main", 64030) == 100
    assert slurm.made == [100] and slurm.ended == []


def test_nothing_stays_where_it_did_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm(monkeypatch, [0, 2, None], [])
    with pytest.raises(RefusedError, match="within 30 s"):
        nodes.drain(NODE, 1, COMMENT, "main", 64030)
    assert slurm.ended == ["100", "101", "102"] and slurm.clock == pytest.approx(30, abs=1)

    slurm = Slurm(monkeypatch, [0, 2, None], [])
    monkeypatch.setattr(nodes, "fetch_jobs", lambda: [held(9, n1=1)] if len(slurm.made) == 2 else [])
    with pytest.raises(RefusedError, match="job 9 has a share of it"):
        nodes.drain(replace(NODE, gpus=NODE.gpus[:2]), 1, COMMENT, "main", 64030)
    assert slurm.ended == ["100", "101"]


def test_root_that_is_not_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "fetch_jobs", list)

    def refuse(argv: list[str], timeout: float) -> str:
        raise SlurmError("sbatch: status 1: Invalid account")

    monkeypatch.setattr(nodes, "run_slurm", refuse)
    with pytest.raises(SlurmError, match=r"Invalid account.*--partition"):
        nodes.drain(NODE, 1, COMMENT, "main", 64030)


def test_resume_ends_all_that_was_made_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm(monkeypatch, [1, 0], [])
    slurm.made = [100, 101]
    assert nodes.resume("n1:0", 64030) == [] and slurm.ended == []
    assert nodes.resume("n1:1", 64030) == [100, 101]
    assert slurm.ended == ["100", "101"]
