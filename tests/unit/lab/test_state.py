"""Which processes are a lab's."""

import json
import os
import subprocess

import pytest

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab import state


def own() -> state.LabState:
    return state.LabState(holder=os.getpid(), holder_start=state.start_time(os.getpid()))


def test_a_state_is_read_as_it_was_written(tmp_path) -> None:
    assert state.read_state(tmp_path) is None
    written = state.LabState(holder=1, holder_start=2, bwrap=3, bwrap_start=4, init=5, init_start=6)
    state.write_state(tmp_path, written)
    assert state.read_state(tmp_path) == written


def test_keys_of_another_version_are_passed_over(tmp_path) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"holder": 1, "holder_start": 2, "colour": "blue"}))
    assert state.read_state(tmp_path) == state.LabState(1, 2)


@pytest.mark.parametrize("text", ["", "[]", '{"holder": 1}', '{"holder": "x", "holder_start": 2}'])
def test_an_unreadable_state_is_named(tmp_path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(LabError, match=r"state\.json"):
        state.read_state(tmp_path)


def test_a_pid_that_another_process_has_now_is_not_ours() -> None:
    assert own().alive()
    assert own().left() == [os.getpid()]
    other = state.LabState(holder=os.getpid(), holder_start=own().holder_start - 1)
    assert not other.alive()
    assert other.left() == []


def test_a_zombie_has_ended() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert state.start_time(child.pid) is None
    child.wait()


def test_a_lab_without_its_init_cannot_be_entered(tmp_path) -> None:
    (tmp_path / "lab").mkdir()
    state.write_state(tmp_path / "lab", own())
    with pytest.raises(LabError, match="gpushare lab up`"):
        state.require_up(tmp_path, "lab")
    with pytest.raises(LabError, match="lab up --name other"):
        state.require_up(tmp_path, "other")
