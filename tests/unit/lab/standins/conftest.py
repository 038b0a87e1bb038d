"""The stand-in as it is used: the C parts compiled, the daemon as a process, clients as processes."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import slurm_gpushare
from slurm_gpushare.lab.standins.gpu.control import request

SOURCE = Path(slurm_gpushare.__file__).parent / "lab/standins/gpu"
P100 = {
    "uuid": "GPU-11111111-0000-0000-0000-000000000000",
    "name": "Tesla P100-PCIE-16GB",
    "memory_mib": 16280,
    "idle_watts": 30,
    "max_watts": 250,
    "capability": "6.0",
    "minor": 0,
}
A100 = {
    "uuid": "GPU-22222222-0000-0000-0000-000000000000",
    "name": "NVIDIA A100-SXM4-40GB",
    "memory_mib": 40960,
    "idle_watts": 50,
    "max_watts": 400,
    "capability": "8.0",
    "minor": 1,
}


def poll(condition: Callable[[], bool], what: str) -> None:
    """Poll ``condition``; fail when it is not met in 20 seconds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"not in 20 s: {what}"
        time.sleep(0.02)


class Machine:
    """A running daemon, and clients of it. Everything that was started ends with it."""

    def __init__(self, folder: Path, build: Path, gpus: list[dict] | None = None, **settings: str) -> None:
        self.socket = str(folder / "socket")
        self.config = folder / "gpus.json"
        self.config.write_text(json.dumps({"gpus": gpus or [P100, A100], **settings}))
        self.build = build
        self.processes: list[subprocess.Popen] = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"},
            "NVML_STANDIN_ENDPOINT": f"unix:{self.socket}",
            "LD_LIBRARY_PATH": str(build),
            "CUDA_MPS_PIPE_DIRECTORY": str(folder / "no-mps"),
        }

    def start(self) -> subprocess.Popen:
        module = "slurm_gpushare.lab.standins.gpu.daemon"
        argv = [sys.executable, "-m", module, "--config", str(self.config), "--socket", self.socket]
        self.daemon = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
        self.processes.append(self.daemon)
        poll(self.answers, "the daemon answers")
        return self.daemon

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self.socket) == 0

    def snapshot(self) -> list[dict]:
        return json.loads(request(self.socket, "snapshot"))

    def pids(self, gpu: int) -> set[int]:
        return {process["pid"] for process in self.snapshot()[gpu]["processes"]}

    def workload(self, *words: str, **environment: str) -> subprocess.Popen:
        """Start gpu-workload."""
        process = subprocess.Popen(
            [str(self.build / "gpu-workload"), *words],
            env={**self.environment, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def attached(self, gpu: int, sm: int, memory: str, **environment: str) -> subprocess.Popen:
        """Start gpu-workload and return when its load is there."""
        process = self.workload("--gpu", str(gpu), "--sm", str(sm), "--memory", memory, **environment)
        poll(lambda: process.pid in self.pids(gpu), f"{process.args} is seen")
        return process

    def refused(self, *words: str, **environment: str) -> tuple[int, str]:
        """Run gpu-workload to its end and return (exit status, stderr)."""
        process = self.workload(*words, **environment)
        _, errors = process.communicate(timeout=20)
        return process.returncode, errors

    def python(self, script: str) -> subprocess.Popen:
        """Start Python over the stand-in library: pynvml is ``n``, the first GPU ``g``; ``say`` prints JSON."""
        prelude = (
            "import json, sys, pynvml as n\n"
            "def say(value): print(json.dumps(value), flush=True)\n"
            "def error(function, *words):\n"
            "    try: return ['ok', repr(function(*words))]\n"
            "    except n.NVMLError as problem: return [type(problem).__name__, problem.value]\n"
            "n.nvmlInit()\n"
            "g = n.nvmlDeviceGetHandleByIndex(0) if n.nvmlDeviceGetCount() else None\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", prelude + script],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def nvml(self, script: str) -> object:
        """Run a script to its end and return what it said."""
        process = self.python(script)
        output, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
        return json.loads(output)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                # What a dead process did not read any more cannot be flushed.
                with contextlib.suppress(OSError):
                    if stream:
                        stream.close()


@pytest.fixture(name="until")
def until_fixture() -> Callable[[Callable[[], bool], str], None]:
    """``until(condition, what)``: poll with a deadline."""
    return poll


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile library and workload out of tree."""
    folder = tmp_path_factory.mktemp("gpu-standin")
    subprocess.run(["make", "--silent", "-C", str(SOURCE), f"BUILD={folder}"], check=True)
    return folder


@pytest.fixture
def machine(tmp_path: Path, build: Path) -> Iterator[Machine]:
    """A node with a P100 and an A100."""
    machine = Machine(tmp_path, build)
    try:
        machine.start()
        yield machine
    finally:
        machine.close()


@pytest.fixture
def make_machine(tmp_path: Path, build: Path) -> Iterator[Callable[..., Machine]]:
    """``make_machine(gpus, folder=…, **settings)``: a node with the cards, which are changes of an A100."""
    machines = []

    def make(*gpus: dict, folder: Path = tmp_path, **settings: str) -> Machine:
        cards = [
            {**A100, "uuid": f"GPU-{place + 1:08}-0000-0000-0000-000000000000", "minor": place, **gpu}
            for place, gpu in enumerate(gpus)
        ]
        machines.append(Machine(folder, build, cards, **settings))
        machines[-1].start()
        return machines[-1]

    try:
        yield make
    finally:
        for machine in machines:
            machine.close()
