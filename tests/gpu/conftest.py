"""A real NVIDIA GPU, or the reason why there is none; what was measured on it goes to a file with its name and date."""

import ctypes
import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CLIENT = Path(__file__).parent / "client.py"
CONTROL = "nvidia-cuda-mps-control"
RESULTS = Path(__file__).parents[2] / "bench" / "results"
COMPUTE_MODES = {0: "DEFAULT", 1: "EXCLUSIVE_THREAD", 2: "PROHIBITED", 3: "EXCLUSIVE_PROCESS"}
DEADLINE = 60.0


@dataclass
class Device:
    """The first GPU, by NVML."""

    name: str
    uuid: str
    driver: str
    compute_mode: str
    sms: int  # multiprocessors, without MPS
    figures: dict[str, object] = field(default_factory=dict)  # what the tests found


def start(action: str, *amounts: float, environment: dict[str, str] | None = None) -> subprocess.Popen:
    """Start client.py."""
    return subprocess.Popen(
        [sys.executable, str(CLIENT), action, *map(str, amounts)],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process: subprocess.Popen) -> dict:
    """Return what client.py printed."""
    out, err = process.communicate(timeout=DEADLINE)
    assert out, f"status {process.returncode}: {err}"
    return json.loads(out)


def _device() -> Device:
    try:
        ctypes.CDLL("libcuda.so.1")
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    except (OSError, ImportError) as error:
        pytest.skip(f"no NVIDIA driver here: {error}")
    except Exception as error:  # pynvml's own family is known only once it could be imported
        pytest.skip(f"no NVIDIA GPU here: {error}")
    try:
        if pynvml.nvmlDeviceGetMigMode(handle)[0]:
            pytest.skip("the GPU is in MIG mode, where MPS has other rules")
    except pynvml.NVMLError:
        pass  # a model without MIG
    found = result(start("memory", 1))
    if found["error"]:
        pytest.skip(f"the GPU cannot be used: CUDA says {found['error']}")
    return Device(
        name=pynvml.nvmlDeviceGetName(handle),
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        driver=pynvml.nvmlSystemGetDriverVersion(),
        compute_mode=COMPUTE_MODES[pynvml.nvmlDeviceGetComputeMode(handle)],
        sms=found["sms"],
    )


@pytest.fixture(scope="session")
def device() -> Iterator[Device]:
    """The GPU; what the tests put into its figures is written to bench/results/gpu-NAME.json."""
    device = _device()
    yield device
    if device.figures:
        RESULTS.mkdir(parents=True, exist_ok=True)
        about = {"device": device.name, "driver": device.driver, "compute_mode": device.compute_mode}
        about |= {"date": datetime.date.today().isoformat(), "figures": device.figures}
        name = device.name.replace(" ", "-").replace("/", "-")
        (RESULTS / f"gpu-{name}.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


class Mps:
    """A control daemon of these tests' own, for one GPU."""

    def __init__(self, folder: Path, uuid: str) -> None:
        pipe, log = folder / "pipe", folder / "log"
        pipe.mkdir()
        log.mkdir()
        self.environment = {"CUDA_MPS_PIPE_DIRECTORY": str(pipe), "CUDA_MPS_LOG_DIRECTORY": str(log)}
        subprocess.run([CONTROL, "-d"], env=self._daemon(CUDA_VISIBLE_DEVICES=uuid), check=True, timeout=DEADLINE)

    def _daemon(self, **more: str) -> dict[str, str]:
        return {**os.environ, **self.environment, **more}

    def say(self, command: str) -> str:
        """Give the daemon one of its commands, return its answer."""
        done = subprocess.run(
            [CONTROL],
            input=command + "\n",
            env=self._daemon(),
            check=True,
            timeout=DEADLINE,
            text=True,
            stdout=subprocess.PIPE,
        )
        return done.stdout.strip()

    def clients(self, percentage: int | None, memory: str | None) -> dict[str, str]:
        """Return the variables of a client with these limits."""
        limits = {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": percentage, "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": memory}
        return self.environment | {name: str(value) for name, value in limits.items() if value is not None}


@pytest.fixture
def mps(device: Device, tmp_path: Path) -> Iterator[Mps]:
    """MPS for the GPU, with no defaults."""
    if shutil.which(CONTROL) is None:
        pytest.skip(f"{CONTROL} is not installed here")
    mps = Mps(tmp_path, device.uuid)
    yield mps
    mps.say("quit -t 10")


def wait_ready(process: subprocess.Popen) -> None:
    """Wait until client.py's first kernel has run."""
    began = time.monotonic()
    assert process.stderr.readline().strip() == "ready", f"no kernel ran in {time.monotonic() - began:.1f} s"
