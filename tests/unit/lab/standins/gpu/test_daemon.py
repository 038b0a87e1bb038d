"""The daemon as a process: its socket, its configuration, and who may script failures."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.gpu.daemon import load_gpus, main


def test_everybody_may_connect_and_the_socket_goes_with_the_daemon(machine) -> None:
    assert stat.S_IMODE(os.stat(machine.socket).st_mode) == 0o666
    machine.workload("--gpu", "0", "--sm", "1", "--memory", "1M")
    machine.daemon.send_signal(signal.SIGTERM)
    assert machine.daemon.wait(timeout=20) == 0
    assert machine.daemon.stderr.read() == ""
    assert not os.path.exists(machine.socket)


def test_a_socket_that_nobody_serves_is_replaced(machine) -> None:
    machine.daemon.kill()
    machine.daemon.wait()
    assert os.path.exists(machine.socket)
    machine.start()
    assert len(machine.snapshot()) == 2


def test_a_socket_that_is_served_is_left_alone(machine, capsys: pytest.CaptureFixture) -> None:
    assert main(["--config", str(machine.config), "--socket", machine.socket]) == 1
    assert capsys.readouterr().err.startswith(f"gpu-standin: {machine.socket} is served already")
    assert len(machine.snapshot()) == 2


def test_a_socket_that_cannot_be_made(machine, capsys: pytest.CaptureFixture) -> None:
    assert main(["--config", str(machine.config), "--socket", "/no/such/folder/socket"]) == 1
    assert capsys.readouterr().err == "gpu-standin: /no/such/folder/socket: No such file or directory\n"


@pytest.mark.parametrize("text", [None, "{", '{"gpus": 1}', "\xff"])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "gpus.json"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(LabError, match=str(path)):
        load_gpus(str(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_only_root_may_script_failures(machine) -> None:
    # The temporary folder is root's alone: the socket is reached by its open folder.
    os.chmod(Path(machine.socket).parent, 0o755)
    script = f"""
import os, socket
folder = os.open({str(Path(machine.socket).parent)!r}, os.O_PATH)
os.setgid(65534); os.setgroups([]); os.setuid(65534)
s = socket.socket(socket.AF_UNIX); s.connect(f"/proc/self/fd/{{folder}}/socket")
f = s.makefile("rw")
for line in ("fail 0 all gpu_is_lost", "failures", "call nvmlDeviceGetCount", "attach 0 1 1"):
    f.write(line + "\\n"); f.flush(); print(f.readline(), end="")
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=20)
    assert result.stdout.splitlines() == ["error 4 only root may script failures"] * 2 + ["ok 2", "ok 1"]


def test_scripted_failures_reach_pynvml(machine) -> None:
    def control(*words: str) -> None:
        module = "slurm_gpushare.lab.standins.gpu.control"
        subprocess.run([sys.executable, "-m", module, "--socket", machine.socket, *words], check=True, timeout=20)

    expected = {
        "not_supported": ["NVMLError_NotSupported", 3],
        "not_found": ["NVMLError_NotFound", 6],
        "gpu_is_lost": ["NVMLError_GpuIsLost", 15],
        "no_permission": ["NVMLError_NoPermission", 4],
        "driver_mismatch": ["NVMLError_LibRmVersionMismatch", 18],
    }
    process = machine.python(
        "a = n.nvmlDeviceGetHandleByIndex(1)\n"
        "for line in sys.stdin:\n"
        "    power = n.nvmlDeviceGetPowerUsage\n"
        "    say([error(power, g), error(power, a)[0], error(n.nvmlDeviceGetProcessUtilization, g, 0),\n"
        "         error(n.nvmlDeviceGetMigMode, g)[1], error(n.nvmlInit)])\n"
    )

    def answers() -> list:
        process.stdin.write("\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    usual = [["ok", "30000"], "ok", ["NVMLError_NotFound", 6], 3, ["ok", "None"]]
    assert answers() == usual
    for failure, error in expected.items():
        control("fail", "0", "nvmlDeviceGetPowerUsage", failure)
        assert answers() == [error, *usual[1:]]
    control("heal", "0", "nvmlDeviceGetPowerUsage")
    control("fail", "0", "all", "gpu_is_lost")
    assert answers() == [["NVMLError_GpuIsLost", 15], "ok", ["NVMLError_GpuIsLost", 15], 15, ["ok", "None"]]
    control("heal", "all", "all")
    control("fail", "all", "nvmlInit", "driver_mismatch")
    assert answers() == [*usual[:4], ["NVMLError_LibRmVersionMismatch", 18]]
    control("heal", "all", "nvmlInit")
    control("fail", "0", "nvmlDeviceGetPowerUsage", "slow", "1")
    assert answers() == usual


def test_a_slow_call_holds_up_its_own_client_alone(machine) -> None:
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(machine.socket)
        slow.sendall(b"fail 0 nvmlDeviceGetName slow 600000\ncall nvmlDeviceGetName 0\n")
        assert slow.recv(100) == b"ok\n"
        assert machine.nvml("say(n.nvmlDeviceGetMinorNumber(g))") == 0
        machine.daemon.send_signal(signal.SIGTERM)
        assert machine.daemon.wait(timeout=20) == 0
