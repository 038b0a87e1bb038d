"""`gpushare gpu`: what is asked of whom, and what is said."""

import json

import pytest
from click.testing import CliRunner

from slurm_gpushare.cli import gpu as command
from slurm_gpushare.drain import nodes, servers
from slurm_gpushare.drain.hold import write_comment
from slurm_gpushare.errors import GpushareError, RefusedError, RequestError
from slurm_gpushare.slurm import config, licences
from slurm_gpushare.slurm import nodes as slurm_nodes
from slurm_gpushare.slurm.licences import Licence
from slurm_gpushare.slurm.nodes import Gpu, Node
from slurm_gpushare.status import jobs
from slurm_gpushare.status.jobs import HeldJob

NODE = Node("n1", ("main", "other"), ("IDLE",), "", (Gpu(0, 100, False),) * 2, {}, {}, 8, 8000, types=("p100",) * 2)


class Slurm:
    """What the doors to Slurm say, and what was asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reservations: dict[str, str] = {}
        self.drained: list[tuple] = []
        self.jobs: list[HeldJob] = []
        self.holders: list[nodes.Holder] = []
        self.uid = 0
        monkeypatch.setattr(servers, "fetch_holds", self.holds)
        monkeypatch.setattr(servers, "drain", self.drain)
        monkeypatch.setattr(servers, "resume", lambda server: self.reservations.pop(server))
        monkeypatch.setattr(licences, "fetch_licences", lambda: {"x": Licence("gpu0@s1", 100, 0, 100, True)})
        monkeypatch.setattr(jobs, "fetch_jobs", lambda: self.jobs)
        monkeypatch.setattr(config, "slurm_user", lambda: 64030)
        monkeypatch.setattr(slurm_nodes, "fetch_nodes", lambda: [NODE])
        monkeypatch.setattr(nodes, "fetch_holders", lambda slurm_user: self.holders)
        monkeypatch.setattr(nodes, "drain", lambda *given: self.drained.append(given) or 17)
        monkeypatch.setattr(command.os, "geteuid", lambda: self.uid)

    def holds(self) -> dict:
        form = "ReservationName=gpushare-drain-{} StartTime=1 Comment={}"
        return servers.parse_holds("\n".join(form.format(*item) for item in self.reservations.items()))

    def drain(self, server: str, names: dict, comment: str) -> str:
        self.reservations[server] = comment
        return f"gpushare-drain-{server}"


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Slurm:
    monkeypatch.setenv("SUDO_USER", "carol; rm")
    return Slurm(monkeypatch)


def run(*words: str) -> str:
    """Run the command and return what it prints; its errors are raised."""
    result = CliRunner().invoke(command.gpu, words, catch_exceptions=False, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.output


def test_a_server_out_and_back(slurm: Slurm) -> None:
    slurm.jobs = [HeldJob(5, "5", "alice", "RUNNING", 0, None, licences={"gpu0@s1": 25})]
    assert run("drain", "s1", "--reason", "fan").endswith("keeps its 1 GPUs; still there until they end: jobs 5\n")
    assert ": fan" in slurm.reservations["s1"] and "rm" not in slurm.reservations["s1"]
    comment = slurm.reservations["s1"]
    assert run("drain", "s1", "--reason", "other").startswith("s1 is out of service already, since ")
    assert slurm.reservations == {"s1": comment}
    (row,) = json.loads(run("list", "--format", "json"))
    assert (row["target"], row["reason"], row["jobs"]) == ("s1", "fan", [5])
    assert "reservation gpushare-drain-s1" in run("list")
    assert run("resume", "s1") == "s1 is in service again\n"
    assert run("resume", "s1") == "s1 is in service already\n"
    assert run("list").startswith("no GPU and no server")
    assert json.loads(run("list", "--format", "json")) == []


def test_a_gpu_of_a_node(slurm: Slurm) -> None:
    assert run("drain", "n1:01", "--reason", "fan") == "n1:1 is out of service: job 17 holds it, and one CPU of n1\n"
    ((node, number, comment, partition, uid),) = slurm.drained
    assert (node, number, partition, uid) == (NODE, 1, "main", 64030) and comment.startswith("gpushare: n1:1 is ")
    run("drain", "n1:0", "--reason", "fan", "--partition", "other")
    assert slurm.drained[1][3] == "other"
    hold = servers.read_comment(write_comment("n1:1", "root", 0, "fan"), "node", "job 17")
    slurm.holders = [nodes.Holder(17, "RUNNING", hold, (("n1", 1),)), nodes.Holder(18, "RUNNING", hold, (("n1", 0),))]
    assert "already" in run("drain", "n1:1", "--reason", "other") and len(slurm.drained) == 2
    assert [row["held_by"] for row in json.loads(run("list", "--format", "json"))] == ["job 17"]


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (("drain", "s2", "--reason", "x"), RequestError, "s1"),
        (("drain", "s1", "--reason", " "), RequestError, "--reason"),
        (("drain", "s1", "--reason", "x", "--partition", "p"), RequestError, "--partition p"),
        (("drain", "n2:0", "--reason", "x"), RequestError, "no node n2"),
        (("drain", "n1:2", "--reason", "x"), RequestError, "has 2 GPUs"),
        (("drain", "n1:", "--reason", "x"), RequestError, "NODE:GPU"),
        (("resume", "s2"), RequestError, "s1"),
        (("resume", "n2:0"), RequestError, "no node n2"),
    ],
)
def test_what_is_refused(slurm: Slurm, words: tuple, error: type[GpushareError], said: str) -> None:
    with pytest.raises(error) as raised:
        run(*words)
    assert said in str(raised.value) and "\n" not in str(raised.value)
    assert slurm.drained == [] and slurm.reservations == {}


def test_others_than_root_and_slurm(slurm: Slurm) -> None:
    slurm.uid = 64030
    run("drain", "n1:0", "--reason", "fan")
    slurm.uid = 1000
    for words in (("drain", "n1:1", "--reason", "x"), ("resume", "n1:0")):
        with pytest.raises(RefusedError, match="only root"):
            run(*words)
    assert len(slurm.drained) == 1
