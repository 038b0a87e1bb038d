"""gpu-workload: real processes under their real pids, and what it refuses."""

import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

MIB = 1 << 20


def test_a_process_shows_up_under_its_pid_and_is_gone_when_it_is_killed(machine, until) -> None:
    process = machine.attached(1, 20, "3G")
    state = machine.snapshot()[1]
    assert state["processes"] == [{"pid": process.pid, "memory": 3 << 30}]
    assert state["memory_used"] == 3 << 30
    until(lambda: machine.snapshot()[1]["utilisation"] == 20, "the utilisation is 20")
    assert machine.snapshot()[0]["processes"] == []
    process.send_signal(signal.SIGKILL)
    until(lambda: machine.pids(1) == set(), "the killed process is gone")
    assert machine.snapshot()[1]["memory_used"] == 0
    until(lambda: machine.snapshot()[1]["utilisation"] == 0, "the utilisation is 0")


def test_it_ends_by_itself(machine, until) -> None:
    process = machine.workload("--gpu", "0", "--sm", "1", "--memory", "1M", "--seconds", "1")
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0
    until(lambda: machine.pids(0) == set(), "its load is gone")


def test_a_command_takes_the_load_over(machine, until) -> None:
    script = 'echo "$$ $0 $1"; read line; exit 7'
    process = machine.workload("--gpu", "0", "--sm", "30", "--memory", "512MiB", "--", "sh", "-c", script, "a b", "")
    assert process.stdout.readline() == f"{process.pid} a b \n"
    assert machine.snapshot()[0]["processes"] == [{"pid": process.pid, "memory": 512 * MIB}]
    process.communicate("\n", timeout=20)
    assert process.returncode == 7
    until(lambda: machine.pids(0) == set(), "its load is gone")


def test_a_child_that_outlives_the_process_does_not_keep_the_gpu(machine, until) -> None:
    process = machine.workload(
        "--gpu", "0", "--sm", "30", "--memory", "1G", "--", "sh", "-c", "sleep 60 & echo $!; wait"
    )
    child = int(process.stdout.readline())
    try:
        assert machine.pids(0) == {process.pid}
        process.kill()
        until(lambda: machine.pids(0) == set(), "its load is gone")
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


def test_the_status_of_the_command_is_passed_on(machine) -> None:
    load = "--gpu", "0", "--sm", "1", "--memory", "1M", "--"
    assert machine.refused(*load, "sh", "-c", "exit 7") == (7, "")
    assert machine.refused(*load, "/no/such/command") == (
        127,
        "gpu-workload: /no/such/command: No such file or directory\n",
    )
    assert machine.refused(*load, "/") == (126, "gpu-workload: /: Permission denied\n")


def test_the_pid_is_true_from_within_a_pid_namespace(machine, build: Path, until) -> None:
    namespace = ["unshare", "--pid", "--fork", "--mount-proc"]
    if os.geteuid() != 0 or subprocess.run([*namespace, "true"], capture_output=True).returncode != 0:
        pytest.skip("needs to be root and able to make a pid namespace")
    script = f'{build}/gpu-workload --gpu 0 --sm 5 --memory 1M -- sh -c "echo \\$\\$; read line"'
    process = subprocess.Popen(
        [*namespace, "sh", "-c", script + "; true"],
        env=machine.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        inner = int(process.stdout.readline())
        (seen,) = machine.pids(0)
        status = Path(f"/proc/{seen}/status").read_text()
        (row,) = [line.split() for line in status.splitlines() if line.startswith("NSpid:")]
        assert row[-1] == str(inner) and len(row) > 2
        assert seen != inner
    finally:
        process.communicate("\n", timeout=20)
    until(lambda: machine.pids(0) == set(), "its load is gone")


def test_processes_contend_for_a_card(machine, until) -> None:
    pids = [machine.attached(0, sm, "1G").pid for sm in (100, 60, 40)]
    until(lambda: machine.snapshot()[0]["utilisation"] == 100, "the card is busy")
    script = """
shares = [[sample.pid, sample.smUtil] for sample in n.nvmlDeviceGetProcessUtilization(g, 0)]
say([*shares, n.nvmlDeviceGetUtilizationRates(g).gpu])
"""
    until(
        lambda: machine.nvml(script) == [[pids[0], 50], [pids[1], 30], [pids[2], 20], 100],
        "the shares are those declared",
    )


def test_out_of_memory(machine) -> None:
    machine.attached(0, 10, "10G")
    load = "--gpu", "0", "--sm", "10", "--memory"
    assert machine.refused(*load, "6G") == (1, "gpu-workload: GPU 0: out of memory (asked 6144 MiB, free 6040 MiB)\n")
    assert machine.refused(*load, str((6040 << 20) + 1))[1].endswith("(asked 6333399041 bytes, free 6040 MiB)\n")
    machine.attached(0, 10, "6040M")


@pytest.mark.parametrize(
    ("visible", "gpu", "found"),
    [
        ("0", 0, 0),
        ("1", 0, 1),
        ("1,0", 1, 0),
        ("GPU-22222222-0000-0000-0000-000000000000", 0, 1),
        ("GPU-2,0", 1, 0),
        ("1", 1, None),
        ("", 0, None),
        ("0,-1,1", 1, None),
        ("0,9,1", 2, None),
        ("NoDevFiles", 0, None),
        ("GPU-3", 0, None),
        ("GPU-", 0, None),
        (" 0", 0, None),
        ("0,", 1, None),
    ],
)
def test_gpus_are_counted_within_those_visible(machine, until, visible: str, gpu: int, found: int | None) -> None:
    load = "--gpu", str(gpu), "--sm", "1", "--memory", "1M"
    if found is None:
        expected = f"gpu-workload: GPU {gpu}: no such GPU within CUDA_VISIBLE_DEVICES={visible}\n"
        assert machine.refused(*load, CUDA_VISIBLE_DEVICES=visible) == (1, expected)
        return
    process = machine.workload(*load, CUDA_VISIBLE_DEVICES=visible)
    until(lambda: machine.pids(found) == {process.pid}, "the load is there")


def test_a_gpu_that_is_not_there(machine) -> None:
    status, errors = machine.refused("--gpu", "2", "--sm", "1", "--memory", "1M")
    assert (status, errors) == (1, "gpu-workload: GPU 2: '2' names no GPU of the 2 here\n")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "--gpu, --sm and --memory"),
        (["--gpu", "0", "--sm", "1"], "--gpu, --sm and --memory"),
        (["--gpu", "0", "--sm", "101", "--memory", "1M"], "--sm 101"),
        (["--gpu", "0", "--sm", "1.5", "--memory", "1M"], "--sm 1.5"),
        (["--gpu", "-1", "--sm", "1", "--memory", "1M"], "--gpu -1"),
        (["--gpu", "", "--sm", "1", "--memory", "1M"], "--gpu"),
        (["--gpu", "0", "--sm", "1", "--memory", "1MB"], "--memory 1MB"),
        (["--gpu", "0", "--sm", "1", "--memory", "1X"], "--memory 1X"),
        (["--gpu", "0", "--sm", "1", "--memory", "G"], "--memory G"),
        (["--gpu", "0", "--sm", "1", "--memory", "99999999999999999999"], "--memory 99999999999999999999"),
        (["--gpu", "0", "--sm", "1", "--memory", "999999T"], "--memory 999999T"),
        (["--gpu", "0", "--sm", "1", "--memory", "1M", "--seconds", "1", "--", "true"], "--seconds"),
        (["--gpu", "0", "--sm", "1", "--memory", "1M", "--"], "--"),
        (["--gpu", "0", "--sm", "1", "--memory", "1M", "true"], "true"),
        (["--gpu", "0", "--sm", "1", "--mem", "1M"], "--mem"),
        (["--gpu=0"], "--gpu=0"),
        (["--gpu"], "--gpu"),
    ],
)
def test_what_it_does_not_know_is_refused_in_one_line(build: Path, words: list[str], named: str) -> None:
    result = subprocess.run([build / "gpu-workload", *words], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith(f"gpu-workload: {named}") and result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("unix:/no/such/socket", "No such file or directory"),
        ("unix:/" + "x" * 200, "File name too long"),
        ("tcp:127.0.0.1:1:uuid:token", "Connection refused"),
        ("tcp:127.0.0.1:1:uuid", "Invalid argument"),
        ("tcp:localhost:1:uuid:token", "Invalid argument"),
        ("tcp:127.0.0.1:70000:uuid:token", "Invalid argument"),
        ("tcp:127.0.0.1:1:uuid:token:more", "Invalid argument"),
        ("/dev/nvidia-standin/socket", "it must be unix:PATH or tcp:IP:PORT:ALLOCATION:TOKEN"),
    ],
)
def test_gpus_that_cannot_be_reached(build: Path, endpoint: str, why: str) -> None:
    argv = [build / "gpu-workload", "--gpu", "0", "--sm", "1", "--memory", "1M"]
    result = subprocess.run(argv, env={"NVML_STANDIN_ENDPOINT": endpoint}, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, f"gpu-workload: {endpoint}: the GPUs cannot be reached: {why}\n")


def test_it_says_so_when_the_gpus_go_away(machine) -> None:
    process = machine.attached(0, 10, "1G")
    machine.daemon.kill()
    assert process.communicate(timeout=20)[1] == "gpu-workload: GPU 0: lost: the server closed the connection\n"
    assert process.returncode == 1


def test_over_tcp_it_names_its_allocation_and_its_pid(build: Path) -> None:
    heard: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, connection.makefile("rw") as lines:
                for answer in ("ok", "ok 1", "ok 1"):
                    heard.append(lines.readline())
                    lines.write(answer + "\n")
                    lines.flush()

        thread = threading.Thread(target=serve)
        thread.start()
        endpoint = f"tcp:127.0.0.1:{server.getsockname()[1]}:1234-abcd:secret"
        argv = [build / "gpu-workload", "--gpu", "0", "--sm", "10", "--memory", "1K", "--", "true"]
        environment = {"NVML_STANDIN_ENDPOINT": endpoint, "CUDA_VISIBLE_DEVICES": "3"}
        process = subprocess.Popen(argv, env={**os.environ, **environment})
        assert process.wait(timeout=20) == 0
        thread.join(timeout=20)
    assert heard == [
        "allocation 1234-abcd secret\n",
        "call nvmlDeviceGetHandleByIndex 3\n",
        f"attach 3 10 1024 {process.pid}\n",
    ]


def test_a_refused_allocation_is_told(build: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"error 9 no such allocation\n")

        thread = threading.Thread(target=serve)
        thread.start()
        endpoint = f"tcp:127.0.0.1:{server.getsockname()[1]}:1234-abcd:secret"
        argv = [build / "gpu-workload", "--gpu", "0", "--sm", "10", "--memory", "1K"]
        result = subprocess.run(
            argv, env={"NVML_STANDIN_ENDPOINT": endpoint}, capture_output=True, text=True, timeout=20
        )
        thread.join(timeout=20)
    assert (result.returncode, result.stderr) == (
        1,
        f"gpu-workload: {endpoint}: the GPUs cannot be reached: no such allocation\n",
    )


def test_it_is_static(build: Path) -> None:
    # A program header of type PT_INTERP would name a loader that an image may lack.
    headers = subprocess.run(
        ["readelf", "--program-headers", build / "gpu-workload"], capture_output=True, text=True, check=True
    )
    assert "LOAD" in headers.stdout and "INTERP" not in headers.stdout
