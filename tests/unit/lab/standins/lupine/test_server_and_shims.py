"""The stand-in as it is used: the server as a process, programs that load the shims."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import slurm_gpushare
from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.lupine.server import read_port

SOURCE = Path(slurm_gpushare.__file__).parent / "lab/standins/lupine"
UUIDS = ["GPU-11111111-0000-0000-0000-000000000000", "GPU-22222222-0000-0000-0000-000000000000"]
MIB = 1 << 20

# What a CUDA program does first; prints one JSON object.
PROGRAM = """
import ctypes, json, sys
cuda = ctypes.CDLL("libcuda.so.1")
status = cuda.cuInit(0)
count, uuids, got = ctypes.c_int(-1), [], []
if status == 0:
    assert cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
    for device in range(count.value):
        uuid = (ctypes.c_ubyte * 16)()
        assert cuda.cuDeviceGetUuid_v2(uuid, device) == 0
        uuids.append(bytes(uuid).hex())
    context, address = ctypes.c_void_p(), ctypes.c_ulonglong()
    assert cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0) == 0
    for mib in map(int, sys.argv[1:]):
        got.append(cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(mib << 20)))
    nvml = ctypes.CDLL("libnvidia-ml.so.1")
    seen = ctypes.c_uint()
    assert nvml.nvmlInit_v2() == 0 and nvml.nvmlDeviceGetCount_v2(ctypes.byref(seen)) == 0
    memory = (ctypes.c_ulonglong * 3)()
    used = []
    for index in range(seen.value):
        handle = ctypes.c_void_p()
        assert nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) == 0
        assert nvml.nvmlDeviceGetMemoryInfo(handle, memory) == 0
        used.append(memory[2] >> 20)
    print(json.dumps({"status": status, "uuids": uuids, "got": got, "nvml": seen.value, "used": used}))
else:
    print(json.dumps({"status": status}))
"""


@pytest.fixture(scope="module")
def shims(tmp_path_factory):
    build = tmp_path_factory.mktemp("lupine")
    subprocess.run(["make", "-s", "-C", SOURCE, f"BUILD={build}", "all"], check=True)
    return build


@pytest.fixture
def port(tmp_path):
    gpu = {"name": "Tesla P100", "memory_mib": 1000, "idle_watts": 30, "max_watts": 250, "capability": "6.0"}
    config = tmp_path / "gpus.json"
    config.write_text(json.dumps({"gpus": [{"uuid": uuid, "minor": n, **gpu} for n, uuid in enumerate(UUIDS)]}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "slurm_gpushare.lab.standins.lupine.server", "--config", config],
        env={**os.environ, "LUPINE_PORT": str(number)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdout.readline() == f"Server listening on port {number}...\n"
        yield number
        server.terminate()
        assert server.wait(20) == 0


def run(shims, *sizes, **variables):
    environment = {"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": str(shims), "LUPINE_DISABLE_LOCAL": "1", **variables}
    environment = {name: value for name, value in environment.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, sizes)], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout), done.stderr


def hexes(*indices):
    return [UUIDS[index].removeprefix("GPU-").replace("-", "") for index in indices]


def test_all_gpus_of_the_server_are_seen_and_nothing_limits_a_client(shims, port):
    seen, _ = run(shims, 600, 600, LUPINE_SERVER=f"127.0.0.1:{port}")
    assert seen == {"status": 0, "uuids": hexes(0, 1), "got": [0, 2], "nvml": 2, "used": [600, 0]}
    again, _ = run(shims, 1000, LUPINE_SERVER=f"http://localhost:{port}")
    assert again["got"] == [0]  # what the first had ended with its connection


@pytest.mark.parametrize(
    "visible, found",
    [
        ("1", [1]),
        ("1,0", [1, 0]),
        (UUIDS[1], [1]),
        ("GPU-2222", [1]),
        ("0,7,1", [0]),
    ],
)
def test_the_driver_shim_follows_cuda_visible_devices_and_nvml_does_not(shims, port, visible, found):
    seen, _ = run(shims, 100, LUPINE_SERVER=f"127.0.0.1:{port}", CUDA_VISIBLE_DEVICES=visible)
    assert seen["uuids"] == hexes(*found) and seen["nvml"] == 2
    assert seen["used"][found[0]] == 100


@pytest.mark.parametrize(
    "variables, why",
    [
        ({"LUPINE_SERVER": None}, "LUPINE_SERVER is not set"),
        ({"LUPINE_SERVER": "127.0.0.1:1"}, "Connection refused"),
        ({"LUPINE_SERVER": "127.0.0.1:1,127.0.0.1:2"}, "one HOST[:PORT] without TLS"),
        ({"LUPINE_SERVER": "https://127.0.0.1:1"}, "one HOST[:PORT] without TLS"),
        ({"LUPINE_SERVER": "127.0.0.1:1", "LUPINE_DISABLE_LOCAL": "0"}, "LUPINE_DISABLE_LOCAL is not 1"),
        ({"LUPINE_SERVER": "127.0.0.1:1", "LUPINE_SERVERS": "x"}, "LUPINE_SERVERS=x: not known here"),
    ],
)
def test_what_the_shims_do_not_know_they_refuse(shims, variables, why):
    seen, said = run(shims, **variables)
    assert seen == {"status": 100} and why in said


def test_no_gpu_is_visible(shims, port):
    assert run(shims, LUPINE_SERVER=f"127.0.0.1:{port}", CUDA_VISIBLE_DEVICES="")[0] == {"status": 100}


def test_a_stranger_is_turned_away(port):
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b"GET /metrics HTTP/1.1\n")
        assert stranger.makefile().read() == "error 9 this is no client of the LUPINE stand-in\n"


def test_lupine_port():
    assert read_port(None) == 14833 and read_port("1") == 1
    for text in ("", "0", "65536", "x", "-1", "1 "):
        with pytest.raises(LabError):
            read_port(text)
