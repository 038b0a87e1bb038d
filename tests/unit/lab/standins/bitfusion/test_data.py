"""What a command sees of its GPUs: the NVML library of the stand-in over the server's data port."""

import json
import os
import signal
import socket
import sys

import pytest

LOOK = """
import json, os, pynvml
pynvml.nvmlInit()
gpus = []
for index in range(pynvml.nvmlDeviceGetCount()):
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    gpus.append([pynvml.nvmlDeviceGetUUID(handle), memory.total >> 20, memory.used >> 20, [p.pid for p in processes]])
print(json.dumps(gpus))
"""
BUSY = ("--sm", "20", "--memory", "1GiB")


@pytest.fixture
def libraries(build):
    """Return the environment in which the installed NVML library is found (it is not under /opt here)."""
    return {"LD_LIBRARY_PATH": str(build / "dest/opt/bitfusion/lib/x86_64-linux-gnu/bitfusion/lib/nvml")}


@pytest.fixture(scope="session")
def workload(build):
    """Return the program that uses a part of a GPU."""
    return str(build / "build/gpu/gpu-workload")


def test_a_command_sees_its_partition_alone(start_server, make_user, gpu, libraries, workload, wait_for):
    server = start_server(gpus=[gpu(0), gpu(1)])
    user = make_user(server)
    other = user.start("run", "-n", "1", "-p", "0.5", "--", workload, "--gpu", "0", *BUSY)
    wait_for(lambda: server.allocations() and server.allocations()[0]["processes"], "the other's process on the GPU")
    assert user("request_gpus", "-n", "2", "-p", "0.25").returncode == 0
    mine = user.start("client", "--", workload, "--gpu", "1", *BUSY)
    wait_for(lambda: server.allocations()[1]["processes"], "the process on the second GPU")
    done = user("client", "--", sys.executable, "-c", LOOK, **libraries)
    assert done.returncode == 0, done.stderr
    (pid,) = server.allocations()[1]["processes"]
    assert json.loads(done.stdout) == [
        [server.config["gpus"][0]["uuid"], 4070, 0, []],
        [server.config["gpus"][1]["uuid"], 4070, 1024, [pid]],
    ]
    assert pid not in (mine.pid, other.pid)
    os.kill(pid, signal.SIGKILL)
    mine.communicate(timeout=30)
    assert mine.returncode == 137
    wait_for(lambda: server.allocations()[1]["processes"] == [], "the process to be gone")


def test_memory_beyond_the_partition_is_refused(user, workload):
    done = user("run", "-n", "1", "-m", "1000", "--", workload, "--gpu", "0", *BUSY)
    assert done.returncode == 1
    assert "memory" in done.stderr.splitlines()[-3]


def test_release_ends_what_runs_on_the_gpus(user, server, workload, wait_for):
    user("request_gpus", "-n", "1")
    child = user.start("client", "--", workload, "--gpu", "0", *BUSY)
    wait_for(lambda: server.allocations()[0]["processes"], "the process on the GPU")
    assert user("release_gpus").returncode == 0
    child.communicate(timeout=30)
    assert child.returncode == 1
    assert server.allocations() == []


def test_a_data_connection_keeps_the_allocation_of_a_killed_run_from_being_idle(
    start_server, make_user, workload, wait_for
):
    server = start_server(on_disconnect="hold", auto_release_timeout=0.3)
    user = make_user(server)
    child = user.start("run", "-n", "1", "--", workload, "--gpu", "0", *BUSY)
    (pid,) = wait_for(lambda: server.allocations() and server.allocations()[0]["processes"], "the process on the GPU")
    user("list_gpus")
    child.kill()
    wait_for(lambda: server.allocations()[0]["connected"] == 1, "the server to see that the client is gone")
    assert server.free_mib() == [0]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: server.free_mib() == [16280], "the allocation to be released")
    assert server.state()["log"][-1]["reason"] == "auto_release_timeout"


@pytest.mark.parametrize("line", ["allocation nosuch secret", "allocation", "snapshot", ""])
def test_the_data_port_serves_only_allocations(server, line):
    with (
        socket.create_connection((server.config["listen"], 45201), timeout=30) as client,
        client.makefile("rw") as lines,
    ):
        lines.write(line + "\n")
        lines.flush()
        assert lines.read() == "error 9 no such allocation\n"
