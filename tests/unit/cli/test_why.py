"""`gpushare why`: arguments, and what the answer looks like."""

import json
import socket

import pytest
from click.testing import CliRunner

from slurm_gpushare.cli import why as command
from slurm_gpushare.slurm import job as job_door
from tests.unit.slurm.recorded import view


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer from the recording that the job's number names: 1 is fragmented, 2 the full pool."""
    names = {"1": "shard-fragmented", "2": "pool-full"}
    monkeypatch.setattr(job_door, "fetch_job", lambda number: view("24.11", names[number]).job)
    by_id = {view("24.11", name).job.job_id: name for name in names.values()}
    monkeypatch.setattr(command, "look", lambda job: view("24.11", by_id[job.job_id]))


def test_text(recorded: None) -> None:
    done = CliRunner().invoke(command.why, ["1"])
    lines = done.output.splitlines()
    assert lines[0].endswith("(gpu:0.5, partition shard): enough is free in sum, but no single GPU has it")
    assert "sooner: --gres=gpu:0.25 would find room now, on n1, n2" in lines
    assert lines[-1].startswith("Slurm plans it for ")


def test_json(recorded: None) -> None:
    data = json.loads(CliRunner().invoke(command.why, ["2", "--format", "json"]).output)
    assert (data["kind"], data["reason"], data["expected_start"]) == ("full", "Licenses", None)
    assert set(data) == {"job_id", "state", "reason", "kind", "why", "details", "sooner", "expected_start"}


@pytest.mark.parametrize("job", ["", "abc", "-1", "0", "1_", "1;id", "1 2", "٣", "1" * 20, "1\n"])
def test_what_is_no_number_of_a_job(job: str, recorded: None) -> None:
    done = CliRunner().invoke(command.why, ["--", job])
    assert done.exit_code == 2
    assert "is not a job's number" in done.output


def test_servers_that_do_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        closed = f"127.0.0.1:{other.getsockname()[1]}"
        other.close()
        there = f"127.0.0.1:{server.getsockname()[1]}"
        assert command.silent_servers([there, closed]) == [f"{closed} does not answer: Connection refused"]
    assert command.silent_servers([]) == []


def test_the_pools_servers_are_the_policys(tmp_path) -> None:
    assert command.pool_servers(str(tmp_path / "none.yaml")) == []
    policy = tmp_path / "gpushare.yaml"
    policy.write_text("no: policy\n")
    assert command.pool_servers(str(policy)) == []
    from slurm_gpushare.policy.lua import shipped_etc

    assert command.pool_servers(f"{shipped_etc()}/gpushare.yaml") == ["10.77.0.10:56001"]
