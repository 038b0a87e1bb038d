"""`gpushare pool`: what it prints, how often it looks, and that a dry run does nothing."""

import json
import os
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from slurm_gpushare.cli import pool as command
from slurm_gpushare.pool import leftovers, look
from slurm_gpushare.slurm import command as slurm
from slurm_gpushare.slurm import config, licences
from tests.unit.pool import pools
from tests.unit.pool.pools import BY_GPU, FLAT, SLICES, job, server

AWAY = {"10.0.0.2:56001": "Connection refused"}
BOTH = (server(1, 2500, 0), server(2, 0, 0))


class Door:
    """Slurm and the pool, as they would answer: one look after the other, the last for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks: list = [pools.look(*BOTH, jobs=(job(7, s1_0=25),))]
        self.taken = 0
        self.ran: list[str] = []
        self.slept: list[float] = []
        self.pool = BY_GPU
        monkeypatch.setattr(command, "_pool", lambda file: (self.pool, SLICES))
        monkeypatch.setattr(look, "take_look", lambda pool: self._look())
        monkeypatch.setattr(slurm, "run_slurm", lambda argv, timeout: self.ran.append(" ".join(argv)))
        monkeypatch.setattr(config, "cluster_name", lambda: "lab")
        monkeypatch.setattr(licences, "fetch_licences", lambda: self.after)
        monkeypatch.setattr(command.time, "sleep", self.slept.append)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        self.after = pools.licences(s2_0=200, s2_1=200)

    def _look(self) -> object:
        self.taken += 1
        return self.looks[min(self.taken, len(self.looks)) - 1]


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    yield Door(monkeypatch)


def invoke(*argv: str) -> Result:
    return CliRunner().invoke(command.pool, argv)


def test_table(door: Door) -> None:
    done = invoke()
    assert done.exit_code == 0
    lines = [line.split() for line in done.output.splitlines()]
    assert ["s1", "10.0.0.1:56001", "up", "0", "10000", "MiB", "0.25", "0.25", "0", "7"] in lines
    assert "4 GPUs: 0.25 in use as the pool says, 0.25 held by Slurm's jobs" in done.output
    assert any(line[:4] == ["7", "alice", "RUNNING", "gpu:0.25"] for line in lines)
    assert done.output.endswith("policy, pool and Slurm agree\n")


def test_differences_are_one_line_each_and_a_fault_is_told_by_the_status(door: Door) -> None:
    door.looks = [pools.look(server(1, 0, 0), jobs=(job(7, s1_0=25),), refused=AWAY)]
    done = invoke("status")
    assert done.exit_code == 1
    assert [line.partition(":")[0] for line in done.output.splitlines()[-2:]] == ["note", "differs"]


def test_what_passes_by_itself_is_no_fault(door: Door) -> None:
    door.looks = [pools.look(server(1, 0, 0), server(2, 0, 0), jobs=(job(7, s1_0=25),))]
    assert invoke().exit_code == 0


def test_json_and_csv(door: Door) -> None:
    data = json.loads(invoke("--format", "json").output)
    assert (data["placement"], data["gpus_total"], data["gpus_used_slurm"]) == ("first_fit", 4, 0.25)
    assert (data["gpus"][0]["jobs"], data["jobs"][0]["held"], data["differences"]) == ([7], {"gpu0@s1": 25}, [])
    lines = invoke("--format", "csv").output.splitlines()
    assert lines[0] == "server,address,state,gpu,model,memory,pool_used,slurm_used,withheld,jobs"
    assert lines[1] == "s1,10.0.0.1:56001,up,0,A100,10485760000,0.25,0.25,0.0,7"


def test_a_flat_pool_has_no_slurm_for_each_gpu(door: Door) -> None:
    door.pool = FLAT
    door.looks = [pools.look(*BOTH, jobs=(job(7, bitfusion=25),), of=pools.licences(flat=400))]
    done = invoke()
    assert done.exit_code == 0
    assert "Withheld" not in done.output
    assert "0.25 in use as the pool says, 0.25 held by Slurm's jobs" in done.output


def test_sync_looks_once_where_all_is_well(door: Door) -> None:
    done = invoke("sync")
    assert (done.exit_code, door.taken, door.ran, door.slept) == (0, 1, [], [])
    assert done.output == "4 of 4 GPUs are there; Slurm's licences are right\n"


def test_sync_believes_that_a_server_is_away_after_all_tries(door: Door) -> None:
    door.looks = [pools.look(server(1, 0, 0), refused=AWAY)]
    done = invoke("sync", "--tries", "4", "--pause", "7")
    assert (done.exit_code, door.taken, door.slept) == (0, 4, [7, 7, 7])
    assert door.ran == [
        f"sacctmgr -i modify resource where name=gpu{gpu} server=s2 set lastconsumed=200" for gpu in (0, 1)
    ]
    assert done.output.splitlines() == [f"run `{argv}`: s2 does not answer" for argv in door.ran]


def test_one_lost_packet_changes_nothing(door: Door) -> None:
    door.looks = [pools.look(server(1, 0, 0), refused=AWAY), pools.look(*BOTH, jobs=(job(7, s1_0=25),))]
    done = invoke("sync")
    assert (done.exit_code, door.taken, door.ran) == (0, 2, [])


def test_a_dry_run_changes_nothing(door: Door) -> None:
    door.looks = [pools.look(server(1, 0, 0), refused=AWAY)]
    done = invoke("sync", "--dry-run")
    assert (done.exit_code, door.ran) == (0, [])
    assert [line.split("`")[0] for line in done.output.splitlines()] == ["would run ", "would run "]


def test_what_slurmctld_does_not_take_is_told(door: Door) -> None:
    door.looks = [pools.look(server(1, 0, 0), refused=AWAY)]
    door.after = pools.licences()
    done = invoke("sync")
    assert (done.exit_code, len(door.ran)) == (1, 2 * command.ROUNDS)
    assert "slurmctld did not take it: sacctmgr -i modify" in done.output


def test_what_slurm_conf_keeps_is_left_to_the_administrator(door: Door) -> None:
    of = pools.licences(flat=400, remote=False)
    door.pool, door.after = FLAT, of
    door.looks = [pools.look(server(1, 0, 0), refused=AWAY, of=of)]
    done = invoke("sync")
    assert (done.exit_code, door.ran) == (1, [])
    assert "write Licenses=bitfusion:200 there, then `scontrol reconfigure`" in done.output


def test_leftovers_are_given_back_first(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    left = leftovers.Leftover("c1", 12, "12.left.1700000000", True)
    given = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(leftovers, "find_leftovers", lambda active: [left])
    monkeypatch.setattr(leftovers, "give_back", lambda one: given.append((one, door.taken)))
    assert invoke("sync", "--here", "--dry-run").output.startswith(
        "would give back what job 12, which is over, left in "
    )
    assert given == []
    done = invoke("sync")
    assert (done.exit_code, given) == (0, [(left, 0)])
    assert done.output.startswith("gave back what job 12")
    monkeypatch.setattr(leftovers, "give_back", lambda one: "status 1: connection refused")
    done = invoke("sync", "--here")
    assert done.exit_code == 1
    assert done.output.endswith("12.left.1700000000: status 1: connection refused\n")


def test_here_needs_root(door: Door) -> None:
    done = invoke("sync", "--here")
    assert "needs root" in str(done.exception)
