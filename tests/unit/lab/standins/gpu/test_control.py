"""The control command: what it prints, and what it says of what it cannot do."""

import json

import pytest

from slurm_gpushare.lab.standins.gpu.control import main


def test_failures_are_set_shown_and_removed(machine, capsys: pytest.CaptureFixture) -> None:
    control = ["--socket", machine.socket]
    assert main([*control, "fail", "0", "nvmlDeviceGetPowerUsage", "not_supported"]) == 0
    assert main([*control, "fail", "all", "all", "slow", "5"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main([*control, "failures"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"gpu": 0, "function": "nvmlDeviceGetPowerUsage", "failure": "not_supported", "milliseconds": 0},
        {"gpu": "all", "function": "all", "failure": "slow", "milliseconds": 5},
    ]
    assert main([*control, "heal", "0", "all"]) == 0
    assert main([*control, "heal", "all", "all"]) == 0
    assert main([*control, "failures"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_the_state_is_printed(machine, capsys: pytest.CaptureFixture) -> None:
    process = machine.attached(1, 10, "1G")
    assert main(["--socket", machine.socket, "snapshot"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert [gpu["memory_total"] >> 20 for gpu in state] == [16280, 40960]
    assert state[1]["processes"] == [{"pid": process.pid, "memory": 1 << 30}]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["fail", "0", "nvmlDeviceGetPowerUsages", "not_found"], "the nearest is nvmlDeviceGetPowerUsage"),
        (["fail", "0", "nvmlDeviceGetPowerUsage", "explode"], "'explode' is no failure"),
        (["fail", "0", "nvmlDeviceGetPowerUsage", "slow"], "slow needs milliseconds"),
        (["fail", "0", "nvmlDeviceGetPowerUsage", "slow", "soon"], "milliseconds 'soon' is not a number"),
        (["fail", "9", "nvmlDeviceGetPowerUsage", "not_found"], "'9' names no GPU of the 2 here"),
        (["heal", "0", "nvmlDeviceGetPowerUsage"], "no failure is set for GPU 0"),
        (["fail", "0", "two words", "not_found"], "must not be empty, nor hold blanks"),
    ],
)
def test_what_is_not_known_is_refused_in_one_line(
    machine, capsys: pytest.CaptureFixture, words: list[str], why: str
) -> None:
    assert main(["--socket", machine.socket, *words]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("gpu-standin-control: ") and why in errors and errors.count("\n") == 1


def test_a_daemon_that_is_not_there(capsys: pytest.CaptureFixture) -> None:
    assert main(["--socket", "/no/such/socket", "failures"]) == 1
    assert "is the GPU stand-in's daemon running?" in capsys.readouterr().err


def test_an_unknown_request_is_wrong_usage(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["explode"])
    assert exit.value.code == 2
