"""The control program as it is used: processes over a machine of stand-in GPUs."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurm_gpushare.lab.standins import mps

SOURCE = Path(mps.__file__).parent


class Control:
    """nvidia-cuda-mps-control with folders of its own, and clients of its daemon."""

    def __init__(self, programs: Path, folder: Path, machine) -> None:
        self.program = str(programs / "nvidia-cuda-mps-control")
        self.machine = machine
        self.pipe = folder / "pipe"
        self.log = folder / "log"
        self.machine.environment["CUDA_MPS_PIPE_DIRECTORY"] = str(self.pipe)
        self.machine.environment["CUDA_MPS_LOG_DIRECTORY"] = str(self.log)

    def run(self, *words: str, lines: str = "", **environment: str) -> tuple[int, str, str]:
        """Run the program with ``lines`` on standard input; return its status and what it wrote."""
        done = subprocess.run(
            [self.program, *words],
            input=lines,
            capture_output=True,
            text=True,
            timeout=30,
            env={**self.machine.environment, **environment},
        )
        return done.returncode, done.stdout, done.stderr

    def start(self, *words: str, **environment: str) -> None:
        """Start the daemon in the background."""
        assert self.run("-d", *words, **environment) == (0, "", "")

    def say(self, line: str) -> str:
        """Give one command of protocol 2 that is done without complaint; return what it prints."""
        status, output, errors = self.run(lines=f"{line}\n")
        assert (status, errors) == (0, "")
        return output

    def do(self, *words: str) -> str:
        """Give one command of protocol 3 that is done without complaint; return what it prints."""
        status, output, errors = self.run(*words)
        assert (status, errors) == (0, "")
        return output

    @property
    def pid(self) -> int | None:
        """Return the daemon's process id as its file has it."""
        file = self.pipe / "nvidia-cuda-mps-control.pid"
        return int(file.read_text()) if file.exists() else None

    def close(self) -> None:
        if self.pid and runs(self.pid):
            os.kill(self.pid, signal.SIGTERM)


def runs(pid: int) -> bool:
    """Return whether the process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(name="runs")
def runs_fixture() -> Callable[[int], bool]:
    """``runs(pid)``: whether a process has not ended."""
    return runs


@pytest.fixture(scope="session")
def programs() -> Iterator[Path]:
    """Build control program and server out of tree; other users reach them."""
    folder = Path(tempfile.mkdtemp(prefix="mps-"))
    folder.chmod(0o755)
    subprocess.run(["make", "-s", "-C", str(SOURCE), f"BUILD={folder}", f"PYTHON={sys.executable}"], check=True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def make_control(programs: Path, make_machine: Callable) -> Iterator[Callable[..., Control]]:
    """``make_control(gpus, **settings)``: the program on a machine with these cards; its paths are short enough."""
    folder = Path(tempfile.mkdtemp(prefix="mps-"))
    folder.chmod(0o755)
    controls = []

    def make(*gpus: dict, **settings: str) -> Control:
        controls.append(Control(programs, folder, make_machine(*gpus, folder=folder, **settings)))
        return controls[-1]

    try:
        yield make
    finally:
        for control in controls:
            control.close()
        shutil.rmtree(folder, ignore_errors=True)
