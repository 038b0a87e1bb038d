"""libnvidia-ml.so.1 under NVIDIA's own Python binding, and under servers that misbehave."""

import json
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from slurm_gpushare.lab.standins.gpu.control import request

GB = 1 << 30

# What nvidia-ml-py and the gpu_nvml plugins of Slurm 24.11 and 26.05 bind.
SYMBOLS = set(
    re.findall(
        r"\w+",
        """
nvmlInit nvmlInit_v2 nvmlInitWithFlags nvmlShutdown nvmlErrorString nvmlSystemGetDriverVersion nvmlSystemGetNVMLVersion
nvmlSystemGetCudaDriverVersion nvmlSystemGetCudaDriverVersion_v2 nvmlSystemGetProcessName nvmlDeviceGetCount_v2
nvmlDeviceGetHandleByIndex_v2 nvmlDeviceGetHandleByUUID nvmlDeviceGetHandleByPciBusId_v2 nvmlDeviceGetIndex
nvmlDeviceGetMinorNumber nvmlDeviceGetUUID nvmlDeviceGetName nvmlDeviceGetPciInfo_v3 nvmlDeviceGetMemoryInfo
nvmlDeviceGetMemoryInfo_v2 nvmlDeviceGetUtilizationRates nvmlDeviceGetComputeRunningProcesses_v3
nvmlDeviceGetGraphicsRunningProcesses_v3 nvmlDeviceGetMPSComputeRunningProcesses_v3 nvmlDeviceGetProcessUtilization
nvmlDeviceGetProcessesUtilizationInfo nvmlDeviceGetRunningProcessDetailList nvmlDeviceGetAccountingMode
nvmlDeviceSetAccountingMode nvmlDeviceGetAccountingPids nvmlDeviceGetAccountingBufferSize nvmlDeviceGetAccountingStats
nvmlDeviceGetAccountingStats_v2 nvmlDeviceGetPowerUsage nvmlDeviceGetTotalEnergyConsumption
nvmlDeviceGetEnforcedPowerLimit nvmlDeviceGetTemperature nvmlDeviceGetTemperatureV nvmlDeviceGetMigMode
nvmlDeviceGetMaxMigDeviceCount nvmlDeviceGetMigDeviceHandleByIndex nvmlDeviceIsMigDeviceHandle
nvmlDeviceGetDeviceHandleFromMigDeviceHandle nvmlDeviceGetGpuInstanceId nvmlDeviceGetComputeInstanceId
nvmlDeviceGetAttributes_v2 nvmlDeviceGetVirtualizationMode nvmlDeviceGetComputeMode nvmlDeviceGetPersistenceMode
nvmlGpmQueryDeviceSupport nvmlGpmSampleAlloc nvmlGpmSampleFree nvmlGpmSampleGet nvmlGpmMigSampleGet nvmlGpmMetricsGet
nvmlDeviceGetCpuAffinity nvmlDeviceGetNvLinkState nvmlDeviceGetNvLinkRemotePciInfo_v2
nvmlDeviceGetSupportedMemoryClocks nvmlDeviceGetSupportedGraphicsClocks nvmlDeviceGetApplicationsClock
nvmlDeviceSetApplicationsClocks nvmlDeviceResetApplicationsClocks nvmlDeviceGetClockInfo nvmlDeviceSetGpuLockedClocks
nvmlDeviceSetMemoryLockedClocks nvmlDeviceResetGpuLockedClocks nvmlDeviceResetMemoryLockedClocks
""",
    )
)


def test_every_symbol_that_callers_bind_is_there(build: Path) -> None:
    listing = subprocess.run(
        ["nm", "--dynamic", build / "libnvidia-ml.so.1"], capture_output=True, text=True, check=True
    ).stdout
    defined = set(re.findall(r" T (\S+)", listing))
    assert defined >= SYMBOLS
    assert all(name.startswith("nvml") for name in defined)


def test_it_loads_over_an_old_c_library(build: Path) -> None:
    listing = subprocess.run(
        ["objdump", "-T", build / "libnvidia-ml.so.1"], capture_output=True, text=True, check=True
    ).stdout
    versions = {tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([0-9.]+)", listing)}
    assert max(versions) <= (2, 17)


def test_what_a_card_is(machine) -> None:
    script = """
a = n.nvmlDeviceGetHandleByUUID('GPU-22222222-0000-0000-0000-000000000000')
p = n.nvmlDeviceGetPciInfo(a)
m = n.nvmlDeviceGetMemoryInfo(a, n.nvmlMemory_v2)
say([n.nvmlSystemGetDriverVersion(), n.nvmlSystemGetNVMLVersion(), n.nvmlSystemGetCudaDriverVersion_v2(),
     n.nvmlDeviceGetCount(), n.nvmlDeviceGetName(g), n.nvmlDeviceGetUUID(g), n.nvmlDeviceGetIndex(a),
     n.nvmlDeviceGetMinorNumber(a), p.busId, p.busIdLegacy, p.bus, n.nvmlDeviceGetCudaComputeCapability(g),
     n.nvmlDeviceGetMemoryInfo(g).total, [m.total, m.reserved, m.free, m.used], n.nvmlDeviceGetPowerUsage(g),
     n.nvmlDeviceGetEnforcedPowerLimit(g), n.nvmlDeviceGetTemperature(g, 0), n.nvmlDeviceGetTemperatureV(g, 0),
     n.nvmlDeviceGetVirtualizationMode(g), n.nvmlDeviceGetComputeMode(g), n.nvmlDeviceGetPersistenceMode(g),
     n.nvmlGpmQueryDeviceSupport(g).isSupportedDevice, n.nvmlDeviceGetMaxMigDeviceCount(g),
     n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByPciBusId('00000000:02:00.0')),
     bin(n.nvmlDeviceGetCpuAffinity(g, 4)[0]).count('1') > 0])
"""
    assert machine.nvml(script) == [
        *("580.95.05", "13.580.95.05", 13000, 2),
        *("Tesla P100-PCIE-16GB", "GPU-11111111-0000-0000-0000-000000000000", 1, 1),
        *("00000000:02:00.0", "0000:02:00.0", 2, [6, 0], 16280 << 20),
        *([40960 << 20, 0, 40960 << 20, 0], 30000, 250000, 35, 35, 0, 0, 1, 0, 0, 1, True),
    ]


def test_what_happens_on_a_card(machine, until) -> None:
    first, second = machine.attached(0, 20, "3G"), machine.attached(0, 30, "1G")
    until(lambda: machine.snapshot()[0]["utilisation"] == 50, "both are sampled")
    script = """
def process(p): return [p.pid, p.usedGpuMemory, p.gpuInstanceId, p.computeInstanceId]
def sample(s): return [s.pid, s.smUtil, s.memUtil, s.encUtil, s.decUtil]
m, u = n.nvmlDeviceGetMemoryInfo(g), n.nvmlDeviceGetUtilizationRates(g)
old, new = n.nvmlDeviceGetProcessUtilization(g, 0), n.nvmlDeviceGetProcessesUtilizationInfo(g, 0)
say([m.used, u.gpu, u.memory, n.nvmlDeviceGetPowerUsage(g),
     list(map(process, n.nvmlDeviceGetComputeRunningProcesses(g))),
     n.nvmlDeviceGetGraphicsRunningProcesses(g), sorted(map(sample, old)), sorted(map(sample, new)),
     [s.jpgUtil + s.ofaUtil for s in new], n.nvmlSystemGetProcessName(old[0].pid)])
"""
    samples = sorted([[first.pid, 20, 10, 0, 0], [second.pid, 30, 15, 0, 0]])
    none = 0xFFFFFFFF
    assert machine.nvml(script) == [
        *(4 * GB, 50, 25, 140000),
        [[first.pid, 3 * GB, none, none], [second.pid, GB, none, none]],
        *([], samples, samples, [0, 0], str(machine.build / "gpu-workload")),
    ]


def test_an_idle_card_has_a_size_and_no_samples(machine) -> None:
    script = """
from ctypes import *
library = n.nvmlLib
size, none = c_uint(0), c_uint(5)
info = n.c_nvmlProcessesUtilizationInfo_v1_t(n.ProcessesUtilizationInfo_v1, 0, 0, None)
wrong = n.c_nvmlProcessesUtilizationInfo_v1_t(1, 0, 0, None)
array = (n.c_nvmlProcessUtilizationSample_t * 100)()
count = c_uint(100)
say([library.nvmlDeviceGetProcessUtilization(g, None, byref(size), c_ulonglong(0)), size.value,
     library.nvmlDeviceGetProcessUtilization(g, array, byref(count), c_ulonglong(0)), count.value,
     library.nvmlDeviceGetProcessesUtilizationInfo(g, byref(info)), info.processSamplesCount,
     library.nvmlDeviceGetProcessesUtilizationInfo(g, byref(wrong)),
     error(n.nvmlDeviceGetProcessUtilization, g, 0), error(n.nvmlDeviceGetProcessesUtilizationInfo, g, 0),
     library.nvmlDeviceGetComputeRunningProcesses_v3(g, byref(none), None), none.value])
"""
    assert machine.nvml(script) == [
        7,
        100,
        6,
        0,
        7,
        100,
        25,
        ["NVMLError_NotFound", 6],
        ["NVMLError_NotFound", 6],
        0,
        0,
    ]


def test_arrays_that_are_too_small(machine, until) -> None:
    for _ in range(3):
        machine.attached(0, 10, "1M")
    until(lambda: machine.snapshot()[0]["utilisation"] == 30, "all are sampled")
    script = """
from ctypes import *
library = n.nvmlLib
listed, sampled, none = c_uint(2), c_uint(2), c_uint(3)
processes, samples = (n.c_nvmlProcessInfo_v3_t * 2)(), (n.c_nvmlProcessUtilizationSample_t * 2)()
say([library.nvmlDeviceGetComputeRunningProcesses_v3(g, byref(listed), processes), listed.value, processes[0].pid,
     library.nvmlDeviceGetProcessUtilization(g, samples, byref(sampled), c_ulonglong(0)), sampled.value, samples[0].pid,
     library.nvmlDeviceGetComputeRunningProcesses_v3(g, byref(none), None),
     library.nvmlDeviceGetComputeRunningProcesses_v3(g, None, None),
     library.nvmlDeviceGetName(g, create_string_buffer(4), 4)])
"""
    assert machine.nvml(script) == [7, 3, 0, 7, 3, 0, 2, 2, 7]


def test_a_cursor_gives_only_what_is_new(machine, until) -> None:
    machine.attached(0, 10, "1M")
    until(lambda: machine.snapshot()[0]["utilisation"] == 10, "it is sampled")
    script = """
import time
last = n.nvmlDeviceGetProcessUtilization(g, 0)[0].timeStamp
later = last
deadline = time.monotonic() + 20
while later == last and time.monotonic() < deadline:
    try: later = n.nvmlDeviceGetProcessUtilization(g, last)[0].timeStamp
    except n.NVMLError_NotFound: pass
say([later > last, error(n.nvmlDeviceGetProcessUtilization, g, 1 << 63)])
"""
    assert machine.nvml(script) == [True, ["NVMLError_NotFound", 6]]


def test_what_the_cards_do_not_have(machine) -> None:
    script = """
a = n.nvmlDeviceGetHandleByIndex(1)
no = [n.nvmlDeviceGetMigMode, n.nvmlDeviceGetAccountingPids, n.nvmlDeviceGetAttributes,
      n.nvmlDeviceGetGpuInstanceId, n.nvmlDeviceGetComputeInstanceId, n.nvmlDeviceGetSupportedMemoryClocks]
say([[error(f, g)[1] for f in no], error(n.nvmlDeviceGetNvLinkState, g, 0)[1],
     error(n.nvmlDeviceGetMigDeviceHandleByIndex, g, 0)[1], error(n.nvmlDeviceGetAccountingStats_v2, g, 1)[1],
     error(n.nvmlDeviceGetRunningProcessDetailList, g, n.nvmlProcessDetailList_v1, 0)[1],
     error(n.nvmlDeviceGetTotalEnergyConsumption, g)[0], error(n.nvmlDeviceGetMPSComputeRunningProcesses, g)[0],
     n.nvmlDeviceGetTotalEnergyConsumption(a) >= 0, n.nvmlDeviceGetMPSComputeRunningProcesses(a),
     error(n.nvmlDeviceGetHandleByIndex, 2), error(n.nvmlDeviceGetHandleByUUID, 'GPU-zz'),
     error(n.nvmlDeviceGetMemoryInfo, g, 1), error(n.nvmlSystemGetProcessName, 2**31 - 1)])
"""
    assert machine.nvml(script) == [
        *([3] * 6, 3, 3, 3, 3, "NVMLError_NotSupported", "NVMLError_NotSupported", True, []),
        *(["NVMLError_InvalidArgument", 2], ["NVMLError_NotFound", 6]),
        *(["NVMLError_ArgumentVersionMismatch", 25], ["NVMLError_NotFound", 6]),
    ]


def test_initialisation_is_counted(machine) -> None:
    script = """
n.nvmlInit()
n.nvmlShutdown()
first = n.nvmlDeviceGetCount()
n.nvmlShutdown()
say([first, error(n.nvmlDeviceGetCount), error(n.nvmlDeviceGetName, g), error(n.nvmlDeviceGetMigMode, g),
     error(n.nvmlSystemGetProcessName, 1), error(n.nvmlShutdown), n.nvmlInit(), n.nvmlDeviceGetCount(),
     error(n.nvmlDeviceGetName, n.c_nvmlDevice_t())])
"""
    uninitialised = ["NVMLError_Uninitialized", 1]
    assert machine.nvml(script) == [2, *[uninitialised] * 5, None, 2, ["NVMLError_InvalidArgument", 2]]


def test_without_a_daemon_no_driver_is_loaded(machine) -> None:
    machine.environment["NVML_STANDIN_ENDPOINT"] = "unix:/no/such/socket"
    process = machine.python("")
    assert "NVMLError_DriverNotLoaded" in process.communicate(timeout=20)[1]


def test_a_daemon_that_ends_and_comes_back(machine) -> None:
    process = machine.python(
        "for line in sys.stdin: say([error(n.nvmlDeviceGetMinorNumber, g), error(n.nvmlInit)[1]])\n"
    )

    def answers() -> list:
        process.stdin.write("\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    assert answers() == [["ok", "0"], "None"]
    machine.daemon.kill()
    machine.daemon.wait()
    assert answers() == [["NVMLError_DriverNotLoaded", 9], 9]
    assert answers() == [["NVMLError_DriverNotLoaded", 9], 9]
    machine.start()
    assert answers() == [["ok", "0"], "None"]
    machine.daemon.kill()
    machine.daemon.wait()
    machine.start()
    assert answers() == [["ok", "0"], "None"]
    # The card of that handle is not in the machine any more.
    machine.daemon.kill()
    machine.daemon.wait()
    machine.config.write_text('{"gpus": []}')
    machine.start()
    assert answers() == [["NVMLError_GpuIsLost", 15], "None"]
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_threads_and_a_forked_child_share_the_library(machine) -> None:
    script = """
import os, threading
wrong = []
def work(gpu):
    for _ in range(300):
        if n.nvmlDeviceGetMinorNumber(n.nvmlDeviceGetHandleByIndex(gpu)) != gpu: wrong.append(gpu)
threads = [threading.Thread(target=work, args=(i % 2,)) for i in range(8)]
for t in threads: t.start()
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        work(1)
        os._exit(len(wrong) > 0)
    children.append(child)
statuses = [os.waitpid(child, 0)[1] for child in children]
for t in threads: t.join()
say([wrong, statuses])
"""
    assert machine.nvml(script) == [[], [0] * 4]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", 9),
        ("hello", 9),
        ("ok", 999),
        ("ok x", 999),
        ("ok 99999999999999999999999", 999),
        ("error", 9),
        ("error 3 no", 3),
        ("error 0 no", 9),
        ("error 12345 no", 9),
        ("ok 2 1 1", 999),
        ("ok 1000000000000 1", 999),
        ("ok 2 1 1 2 18446744073709551615" + " " * 3000, 0),
    ],
)
def test_a_server_that_talks_nonsense(build: Path, answer: str, expected: int) -> None:
    """Every connection is served alike: the answer in question is that to the process list."""

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, connection.makefile("rw") as lines:
                for line in lines:
                    asked_for_list = line.startswith("call nvmlDeviceGetComputeRunningProcesses")
                    if asked_for_list and not answer:
                        break
                    lines.write((answer if asked_for_list else "ok 0" if "Handle" in line else "ok") + "\n")
                    lines.flush()

    script = """
import sys
from ctypes import *
library, device = CDLL(sys.argv[1]), c_void_p()
assert library.nvmlInit_v2() == 0 and library.nvmlDeviceGetHandleByIndex_v2(0, byref(device)) == 0
count, processes = c_uint(3), create_string_buffer(24 * 3)
print(library.nvmlDeviceGetComputeRunningProcesses_v3(device, byref(count), processes))
"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            endpoint = f"tcp:127.0.0.1:{server.getsockname()[1]}:uuid:token"
            result = subprocess.run(
                [sys.executable, "-c", script, build / "libnvidia-ml.so.1"],
                env={"NVML_STANDIN_ENDPOINT": endpoint},
                capture_output=True,
                text=True,
                timeout=20,
            )
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=20)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{expected}\n", "")


def test_a_card_that_hangs_holds_up_no_other(machine) -> None:
    request(machine.socket, *["fail", "0", "nvmlDeviceGetPowerUsage", "slow", "60000"])
    script = """
import threading
a = n.nvmlDeviceGetHandleByIndex(1)
threading.Thread(target=lambda: n.nvmlDeviceGetPowerUsage(g), daemon=True).start()
time.sleep(0.1)
begun = time.monotonic()
n.nvmlDeviceGetPowerUsage(a)
say(time.monotonic() - begun < 30)
"""
    assert machine.nvml("import time\n" + script) is True


def test_accounts_survive_their_processes(machine, until) -> None:
    stays = machine.attached(1, 20, "2G")
    script = """
a = n.nvmlDeviceGetHandleByIndex(1)
modes = [n.nvmlDeviceGetAccountingMode(a), error(n.nvmlDeviceGetAccountingPids, a)[1]]
n.nvmlDeviceSetAccountingMode(a, 1)
say([*modes, n.nvmlDeviceGetAccountingMode(a), n.nvmlDeviceGetAccountingBufferSize(a),
     n.nvmlDeviceGetAccountingPids(a)])
"""
    assert machine.nvml(script) == [0, 3, 1, 4000, [stays.pid]]
    short = machine.workload("--gpu", "1", "--sm", "50", "--memory", "3G", "--seconds", "1")
    assert short.wait(timeout=20) == 0
    until(lambda: short.pid not in machine.pids(1), "it has ended")
    script = f"""
import time
a = n.nvmlDeviceGetHandleByIndex(1)
def stats(pid):
    s = n.nvmlDeviceGetAccountingStats(a, pid)
    return [s.gpuUtilization, s.maxMemoryUsage, s.time, abs(s.startTime / 1e6 - time.time()) < 60, s.isRunning]
say([n.nvmlDeviceGetAccountingPids(a), stats({stays.pid}), stats({short.pid}),
     error(n.nvmlDeviceGetAccountingStats, a, 1)[1]])
"""
    pids, running, ended, unknown = machine.nvml(script)
    assert pids == [stays.pid, short.pid] and unknown == 6
    assert running == [20, 2 * GB, 0, True, 1]
    assert ended[:2] == [50, 3 * GB] and 900 <= ended[2] <= 20000 and ended[3:] == [True, 0]
