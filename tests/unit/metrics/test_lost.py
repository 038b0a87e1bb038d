"""The file that tells HealthCheckProgram which GPUs are lost, and the program."""

import os
import subprocess
from pathlib import Path

import pytest

from slurm_gpushare.metrics import nvml
from slurm_gpushare.metrics.lost import LOST, LostGpus
from slurm_gpushare.metrics.readings import GpuReading

HEALTH = Path(__file__).parents[3] / "etc/libexec/gpushare-health"


def reading(index: int, fault: str | None = None, minor: int | None = None) -> GpuReading:
    return GpuReading(index, minor, "GPU-x", "P100", 1, 0.0, None, None, None, None, fault=fault)


@pytest.fixture
def lost(tmp_path: Path) -> LostGpus:
    return LostGpus(str(tmp_path), lambda line: pytest.fail(line))


def test_the_faults_are_those_that_the_door_tells() -> None:
    assert set(LOST) == {f"GPU {what}" for what in nvml._LOST.values()}


def test_the_file_follows_what_is_read(lost: LostGpus, tmp_path: Path) -> None:
    file = tmp_path / "lost"
    file.write_text("of an agent that was killed\n")
    lost.note([reading(0), reading(1)])
    assert not file.exists()
    lost.note([reading(0, minor=3, fault="GPU is lost"), reading(1, fault="GPU needs a reset")])
    assert file.read_text() == "GPU 1 needs a reset\nGPU 3 is lost\n"
    # What was not read, and what may pass by itself, changes nothing.
    lost.note([])
    lost.note([reading(0, minor=3, fault="GPU does not answer"), reading(1)])
    assert file.read_text() == "GPU 3 is lost\n"
    lost.note([reading(0, minor=3)])
    assert list(tmp_path.iterdir()) == []
    lost.note([reading(2, fault="GPU is lost"), reading(4, fault="GPU does not answer")])
    assert file.read_text() == "GPU 2 is lost\n"
    lost.forget()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    lost = LostGpus(str(tmp_path / "gone"), said.append)
    for _ in range(3):
        lost.note([reading(0, fault="GPU is lost")])
    assert len(said) == 1 and "No such file" in said[0]


@pytest.fixture
def health(tmp_path: Path):
    """Run the program on a node with such a file, state and jobs that hold GPUs; return what it did."""
    programs = tmp_path / "bin"
    programs.mkdir()
    log = tmp_path / "log"

    def run(file: str | None, state: str = "idle", held: str = "") -> list[str]:
        log.write_text("")
        shown = {"sinfo": state, "squeue": held, "scontrol": "SlurmUser               = slurm(64030)"}
        for name, text in shown.items():
            (programs / name).write_text(f"#!/bin/sh\nprintf '%s\\n' \"{name} $*\" >>{log}\nprintf '%s\\n' '{text}'\n")
            (programs / name).chmod(0o755)
        folder = tmp_path / "run/n1"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "lost").write_text(file) if file is not None else (folder / "lost").unlink(missing_ok=True)
        script = HEALTH.read_text().replace("/run/gpushare", str(tmp_path / "run"))
        assert str(tmp_path) in script
        environment = {"SLURMD_NODENAME": "n1", "PATH": f"{programs}:{os.environ['PATH']}"}
        argv = ["/bin/sh", "-eu", "-c", script]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return log.read_text().splitlines()

    return run


def test_a_node_that_is_well_asks_slurm_nothing(health) -> None:
    assert health(None) == []
    assert health("") == []


def test_a_lost_gpu_drains_the_node(health) -> None:
    ran = health("GPU 1 is lost\nGPU 3 needs a reset\n")
    assert ran[-1] == "scontrol update nodename=n1 state=drain reason=gpushare: GPU 1 lost, GPU 3 needs a reset"
    assert any("--user=root,64030" in line for line in ran)


@pytest.mark.parametrize("state", ["drained", "draining*", "down*", "maint", "failing", ""])
def test_a_node_that_is_out_of_service_is_left_alone(health, state: str) -> None:
    assert not any("update" in line for line in health("GPU 1 is lost\n", state))


def test_a_gpu_that_takes_no_jobs_is_no_reason(health) -> None:
    held = "gpushare: n1:1 is out of service since 2026-11-23T17:25:00Z by root: fan"
    assert not any("update" in line for line in health("GPU 1 is lost\n", held=held))
    assert health("GPU 1 is lost\nGPU 11 is lost\n", held=held)[-1].endswith("reason=gpushare: GPU 11 lost")
