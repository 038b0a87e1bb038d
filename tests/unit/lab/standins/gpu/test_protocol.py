"""The lines: every request's answer, every refusal, and the life of a connection."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.lab.standins.gpu import answers
from slurm_gpushare.lab.standins.gpu.engine import MIB, PERIOD_US, Gpus, GpuSpec
from slurm_gpushare.lab.standins.gpu.protocol import MAX_LINE, serve_connection
from slurm_gpushare.lab.standins.gpu.view import View

SPECS = [
    GpuSpec("GPU-aa-1", "Tesla P100-PCIE-16GB", 100, 30, 250, "6.0", 0),
    GpuSpec("GPU-ab-2", "NVIDIA A100-SXM4-40GB", 200, 50, 400, "8.0", 1),
]
Ask = Callable[[str], Awaitable[str]]


class Clock:
    now = 0

    def __call__(self) -> int:
        return self.now


def talk(gpus: Gpus, *lines: str, peer_pid: int | None = 77, allow_control: bool = False) -> list[str]:
    """Send the lines over one connection, one after the other, and return the answers; '' where it was closed."""

    async def conversation() -> list[str]:
        async with Served(gpus, peer_pid, allow_control) as served:
            return [await served.ask(line) for line in lines]

    return asyncio.run(conversation())


class Served:
    """A connection to a server of ``gpus``."""

    def __init__(self, gpus: Gpus, peer_pid: int | None = 77, allow_control: bool = False) -> None:
        self.gpus, self.peer_pid, self.allow_control = gpus, peer_pid, allow_control
        self.done = asyncio.Event()

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve_connection(reader, writer, self.gpus, self.peer_pid, self.allow_control)
        self.done.set()

    async def __aenter__(self) -> "Served":
        self.server = await asyncio.start_server(self.client, "127.0.0.1", 0, limit=MAX_LINE)
        self.reader, self.writer = await asyncio.open_connection(*self.server.sockets[0].getsockname(), limit=MAX_LINE)
        return self

    async def ask(self, line: str) -> str:
        self.writer.write(line.encode() + b"\n")
        try:
            await self.writer.drain()
            return (await self.reader.readline()).decode().removesuffix("\n")
        except OSError:
            return ""

    async def __aexit__(self, *exception: object) -> None:
        self.writer.close()
        await asyncio.wait_for(self.done.wait(), 10)
        self.server.close()


def test_the_values_of_the_functions() -> None:
    clock = Clock()
    gpus = Gpus(SPECS, clock)
    gpus.attach(5, 1, 40, 3 * MIB)
    gpus.attach(6, 1, 20, 4 * MIB)
    clock.now += 2 * PERIOD_US
    expected = {
        "call nvmlInit": "ok",
        "call nvmlSystemGetDriverVersion": "ok 580.95.05",
        "call nvmlDeviceGetCount": "ok 2",
        "call nvmlDeviceGetHandleByUUID GPU-ab-2": "ok 1",
        "call nvmlDeviceGetHandleByPciBusId 0000:02:00.0": "ok 1",
        "call nvmlDeviceGetName 1": "ok NVIDIA A100-SXM4-40GB",
        "call nvmlDeviceGetPciInfo 1": "ok 0 2 0",
        "call nvmlDeviceGetCudaComputeCapability 0": "ok 6 0",
        "call nvmlDeviceGetMemoryInfo 1": f"ok {200 * MIB} {7 * MIB} {193 * MIB}",
        "call nvmlDeviceGetUtilizationRates 1": "ok 60 30",
        "call nvmlDeviceGetUtilizationRates 0": "ok 0 0",
        "call nvmlDeviceGetComputeRunningProcesses 1": f"ok 2 5 {3 * MIB} 6 {4 * MIB}",
        "call nvmlDeviceGetComputeRunningProcesses 0": "ok 0",
        "call nvmlDeviceGetProcessUtilization 1 0": "ok 2 5 400000 40 20 6 400000 20 10",
        "call nvmlDeviceGetProcessesUtilizationInfo 1 0": "ok 2 5 400000 40 20 6 400000 20 10",
        "call nvmlDeviceGetPowerUsage 1": "ok 260000",
        "call nvmlDeviceGetTotalEnergyConsumption 1": "ok 104000",
        "call nvmlDeviceGetMPSComputeRunningProcesses 1": "ok 0",
        "call nvmlGpmQueryDeviceSupport 1": "ok 0",
    }
    assert dict(zip(expected, talk(gpus, *expected), strict=True)) == expected


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("call nvmlDeviceGetProcessUtilization 1 0", answers.NOT_FOUND),
        ("call nvmlDeviceGetTotalEnergyConsumption 0", answers.NOT_SUPPORTED),
        ("call nvmlDeviceGetMPSComputeRunningProcesses 0", answers.NOT_SUPPORTED),
        ("call nvmlDeviceGetMigMode 0", answers.NOT_SUPPORTED),
        ("call nvmlDeviceGetAccountingPids 1", answers.NOT_SUPPORTED),
        ("call nvmlDeviceGetHandleByIndex 2", answers.INVALID_ARGUMENT),
        ("call nvmlDeviceGetHandleByUUID GPU-zz", answers.NOT_FOUND),
        ("call nvmlDeviceGetHandleByUUID GPU-a", answers.NOT_FOUND),
        ("call nvmlDeviceGetName 2", answers.GPU_IS_LOST),
        ("attach 2 0 0", answers.GPU_NOT_FOUND),
        ("attach 0 0 104857601", answers.MEMORY),
        ("attach 0 101 0", answers.INVALID_ARGUMENT),
        ("attach 0 -1 0", answers.INVALID_ARGUMENT),
        ("attach 0 1 1.5", answers.INVALID_ARGUMENT),
        ("attach 0 1 0 5", answers.INVALID_ARGUMENT),
        ("attach 0 1", answers.INVALID_ARGUMENT),
        ("change 1 1 1", answers.INVALID_ARGUMENT),
        ("detach 1", answers.INVALID_ARGUMENT),
        ("", answers.INVALID_ARGUMENT),
        ("dance", answers.INVALID_ARGUMENT),
        ("close", answers.INVALID_ARGUMENT),
        ("fault 2", answers.GPU_NOT_FOUND),
        ("mps-serve", answers.INVALID_ARGUMENT),
        ("mps-serve 0,2", answers.GPU_NOT_FOUND),
        ("mps-client 5 25 -", answers.INVALID_ARGUMENT),
        ("mps-terminate 5", answers.INVALID_ARGUMENT),
        ("mps-state", answers.INVALID_ARGUMENT),
        ("snapshot all", answers.INVALID_ARGUMENT),
        ("call", answers.INVALID_ARGUMENT),
        ("call nvmlDeviceGetFanSpeed 0", answers.INVALID_ARGUMENT),
        ("call nvmlDeviceGetMemoryInfo_v2 0", answers.INVALID_ARGUMENT),
        ("call nvmlDeviceGetName", answers.INVALID_ARGUMENT),
        ("call nvmlDeviceGetName 0 1", answers.INVALID_ARGUMENT),
        ("call nvmlInit 0", answers.INVALID_ARGUMENT),
        ("call nvmlDeviceGetProcessUtilization 0", answers.INVALID_ARGUMENT),
        ("call nvmlDeviceGetProcessUtilization 0 then", answers.INVALID_ARGUMENT),
        ("fail 0 nvmlDeviceGetName not_found", answers.NO_PERMISSION),
        ("heal all all", answers.NO_PERMISSION),
        ("failures", answers.NO_PERMISSION),
    ],
)
def test_refusals_have_nvml_s_number_and_leave_the_connection_open(line: str, code: int) -> None:
    gpus = Gpus(SPECS, Clock())
    refusal, after = talk(gpus, line, "call nvmlDeviceGetCount")
    assert refusal.startswith(f"error {code} ")
    assert after == "ok 2"
    assert gpus.processes(0) == []


def test_an_mps_server_says_who_its_clients_are() -> None:
    gpus = Gpus(SPECS, Clock())
    expected = {
        "mps-serve 1": "ok",
        "mps-serve 0": "error 2 process 77 is an MPS server or client already",
        "mps-client 5 25 1=1048576": "ok",
        "mps-client 5 25 -": "error 2 process 5 is an MPS server or client already",
        "mps-client 6 0 -": "error 2 '0' percent of the threads: it must be above 0 and at most 100",
        "mps-client 6 25 1=1G": "error 2 memory limit '1G' is not a number: it must be decimal digits",
        "mps-state": "ok ACTIVE 1",
        "mps-terminate 6": "error 2 6 is no client of server 77",
        "mps-terminate 5": "ok",
        "mps-leave 5": "ok",
        "mps-leave 6": "ok",
    }
    assert dict(zip(expected, talk(gpus, *expected), strict=True)) == expected
    assert gpus.mps.servers == {}
    assert gpus.processes(1) == []


@pytest.mark.parametrize(("driver", "most"), [("580.95.05", 48), ("590.44.01", 60)])
def test_a_server_takes_so_many_clients(driver: str, most: int) -> None:
    gpus = Gpus(SPECS, Clock(), driver)
    joining = [f"mps-client {pid} 100 -" for pid in range(100, 100 + most + 1)]
    _, *answered = talk(gpus, "mps-serve 1", *joining)
    assert answered[:most] == ["ok"] * most
    assert answered[most].startswith(f"error {answers.INSUFFICIENT_RESOURCES} ")


def test_an_unknown_function_is_answered_with_the_nearest() -> None:
    (refusal,) = talk(Gpus(SPECS, Clock()), "call nvmlDeviceGetMemoryInfo_v2 0")
    assert refusal.endswith("the nearest is nvmlDeviceGetMemoryInfo")


def test_out_of_memory_says_how_much() -> None:
    (refusal,) = talk(Gpus(SPECS, Clock()), f"attach 0 1 {101 * MIB}")
    assert refusal == f"error 20 out_of_memory asked {101 * MIB} free {100 * MIB}"


def test_a_load_changes_and_ends_by_its_connection_alone() -> None:
    gpus = Gpus(SPECS, Clock())

    async def conversation() -> None:
        async with Served(gpus, 11) as one, Served(gpus, 12) as other:
            handle = (await one.ask("attach GPU-aa 10 1000")).removeprefix("ok ")
            assert (await other.ask(f"detach {handle}")).startswith("error 2 ")
            assert await one.ask(f"change {handle} 20 3000") == "ok"
            assert gpus.processes(0) == [(11, 3000)]
            assert (await other.ask("attach 0 1 1")).startswith("ok ")
            assert await one.ask(f"detach {handle}") == "ok"
            assert (await one.ask(f"detach {handle}")).startswith("error 2 ")
            assert gpus.processes(0) == [(12, 1)]
            assert json.loads((await one.ask("snapshot")).removeprefix("ok "))[0]["processes"] == [
                {"pid": 12, "memory": 1}
            ]

    asyncio.run(conversation())
    assert gpus.processes(0) == []


def test_a_server_that_cannot_see_its_clients_is_told_their_pid() -> None:
    gpus = Gpus(SPECS, Clock())
    view = View(gpus, [(1, 50 * MIB)])

    async def conversation() -> None:
        async with Served(view, None) as served:
            assert (await served.ask("attach 0 1 1")).startswith("error 2 ")
            assert (await served.ask("attach 0 1 1 0")).startswith("error 2 ")
            assert (await served.ask("attach 0 1 1 4711")).startswith("ok ")
            assert view.processes(0) == [(4711, 1)]
            assert await served.ask("call nvmlDeviceGetMemoryInfo 0") == f"ok {50 * MIB} 1 {50 * MIB - 1}"
            assert (await served.ask(f"attach 0 1 {50 * MIB} 4712")).startswith("error 20 out_of_memory")
            assert await served.ask("call nvmlDeviceGetCount") == "ok 1"

    asyncio.run(conversation())
    assert view.processes(0) == []


def test_a_process_that_cannot_be_seen_is_refused() -> None:
    gpus = Gpus(SPECS, Clock())
    (refusal,) = talk(gpus, "attach 0 1 1", peer_pid=0)
    assert refusal.startswith("error 2 ") and "pid namespace" in refusal


def test_closing_a_view_closes_its_connections() -> None:
    view = View(Gpus(SPECS, Clock()), [(1, MIB)])

    async def conversation() -> None:
        async with Served(view, 5) as served:
            assert (await served.ask("attach 0 1 1")).startswith("ok ")
            view.close()
            assert await served.ask("snapshot") == ""

    asyncio.run(conversation())
    assert view.on_close == []


def test_root_scripts_failures() -> None:
    gpus = Gpus(SPECS, Clock())
    lines = [
        "fail 1 nvmlDeviceGetName gpu_is_lost",
        "call nvmlDeviceGetName 1",
        "call nvmlDeviceGetName 0",
        "fail all nvmlInit driver_mismatch",
        "call nvmlInit",
        "fail GPU-aa all slow 1",
        "call nvmlDeviceGetMinorNumber 0",
        "failures",
        "heal all all",
        "call nvmlDeviceGetName 1",
        "failures",
        "heal all all",
        "fail 1 nvmlDeviceGetNames not_found",
        "fail 1 nvmlDeviceGetName explode",
        "fail 1 nvmlDeviceGetName slow",
        "fail 3 nvmlDeviceGetName not_found",
    ]
    said = talk(gpus, *lines, allow_control=True)
    assert said[:7] == [
        "ok",
        "error 15 scripted: gpu_is_lost",
        "ok Tesla P100-PCIE-16GB",
        "ok",
        "error 18 scripted: driver_mismatch",
        "ok",
        "ok 0",
    ]
    assert json.loads(said[7].removeprefix("ok ")) == [
        {"gpu": 1, "function": "nvmlDeviceGetName", "failure": "gpu_is_lost", "milliseconds": 0},
        {"gpu": "all", "function": "nvmlInit", "failure": "driver_mismatch", "milliseconds": 0},
        {"gpu": 0, "function": "all", "failure": "slow", "milliseconds": 1},
    ]
    assert said[8:11] == ["ok", "ok NVIDIA A100-SXM4-40GB", "ok []"]
    assert [answer.split(" ", 2)[:2] for answer in said[11:]] == [
        ["error", code] for code in ("2", "2", "2", "2", "28")
    ]


def test_every_failure_has_its_number() -> None:
    for failure, code in answers.FAILURE_CODES.items():
        lines = f"fail 0 nvmlDeviceGetName {failure}", "call nvmlDeviceGetName 0"
        assert talk(Gpus(SPECS, Clock()), *lines, allow_control=True)[1].startswith(f"error {code} ")


def test_a_line_beyond_the_limit_closes_the_connection_and_ends_its_loads() -> None:
    gpus = Gpus(SPECS, Clock())
    assert talk(gpus, "attach 0 1 1", "x" * (2 * MAX_LINE)) == ["ok 1", ""]
    assert gpus.processes(0) == []


@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=("Cs",)), max_size=60), max_size=5))
def test_any_line_is_answered_by_one_line(lines: list[str]) -> None:
    said = talk(Gpus(SPECS, Clock()), *lines, "call nvmlDeviceGetCount")
    assert said[-1] == "ok 2"
    assert all(answer.startswith(("ok", "error ")) for answer in said)
