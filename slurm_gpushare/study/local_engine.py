"""Rounds as processes of this machine, without Slurm: by the GPU's time-slicing, or by an MPS daemon of their own."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from slurm_gpushare.backends import mps_control
from slurm_gpushare.backends.mps_ways import percentage
from slurm_gpushare.errors import GpushareError
from slurm_gpushare.node import frameworks
from slurm_gpushare.study.plan import LOCAL_WAYS, WHOLE, Round, Settings
from slurm_gpushare.study.read import StudyError
from slurm_gpushare.study.runner import card

CONTROL = "nvidia-cuda-mps-control"
GENTLE = 5.0  # seconds between SIGTERM and SIGKILL


def possible_ways() -> tuple[str, ...]:
    """Return the ways to share that this machine has: time-slicing, and MPS where there is a GPU and its daemon."""
    slicing, mps, _ = LOCAL_WAYS
    return (slicing, mps) if card() and shutil.which(CONTROL) else (slicing,)


class LocalEngine:
    """Runs rounds on the first GPU that this process sees, or on the CPU."""

    def __init__(self, settings: Settings):
        """Remember what is the same for all rounds."""
        self.settings = settings
        self.gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]

    def run(self, one: Round, scripts: list[Path]) -> dict:
        """Run the processes of a round to their end. Raises StudyError; kills what is left when it does not end."""
        with contextlib.ExitStack() as stack:
            environment = {**os.environ, "CUDA_VISIBLE_DEVICES": self.gpu}
            if one.case != WHOLE:
                environment |= frameworks.variables(self.settings.fraction, 1, 1, environment.get)
            if one.case.startswith("mps"):
                environment |= stack.enter_context(_mps(self.settings.fraction, limited=one.case == "mps"))
            statuses = _processes(scripts, environment)
        for number, (status, script) in enumerate(zip(statuses, scripts, strict=True), 1):
            if status:
                output = script.with_suffix(".out")
                lines = [line for line in output.read_text(errors="replace").splitlines() if line.strip()]
                why = lines[-1] if lines else "it wrote nothing"
                raise StudyError(f"process {number} ended with status {status}: {why} ({output})")
        return {"backend": None if one.case == WHOLE else one.case, "remote": False}


def _processes(scripts: list[Path], environment: dict[str, str]) -> list[int]:
    """Run the scripts at one time and return their exit statuses."""
    running: list[subprocess.Popen] = []
    try:
        for script in scripts:
            script.chmod(0o700)
            with open(script.with_suffix(".out"), "wb") as output:
                running.append(
                    subprocess.Popen(
                        [str(script)],
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        return [process.wait() for process in running]
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            left = [process for process in running if process.poll() is None]
            for process in left:
                os.killpg(process.pid, number)
            for process in left:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(GENTLE)


@contextlib.contextmanager
def _mps(fraction: float, limited: bool) -> Iterator[dict[str, str]]:
    """Start MPS for the GPU alone and return the variables of its clients, with limits as the backend ``mps`` sets."""
    control, gpu = shutil.which(CONTROL), card()
    if control is None or gpu is None:
        raise StudyError(f"MPS cannot be had here: {'no GPU' if gpu is None else CONTROL + ' is not installed'}")
    # Short: the sockets below have paths of limited length.
    with tempfile.TemporaryDirectory(prefix="gpushare-") as folder:
        for name in ("pipe", "log"):
            os.mkdir(os.path.join(folder, name))
        daemon = mps_control.environment(folder, gpu["uuid"])
        try:
            status, text = mps_control.run(daemon, "-d", program=control)
            if status:
                raise StudyError(f"MPS did not start: {text[:200] or status}")
            variables = {name: daemon[name] for name in ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")}
            variables["CUDA_VISIBLE_DEVICES"] = gpu["uuid"]
            if limited:
                variables["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = percentage(fraction)
                variables["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] = f"0={int(_memory(gpu['uuid']) * fraction)}M"
            try:
                yield variables
            finally:
                mps_control.run(daemon, say="quit -t 5", program=control)
        except StudyError:
            raise
        except GpushareError as error:
            raise StudyError(str(error)) from error


def _memory(uuid: str) -> int:
    """Return the GPU's memory in MiB, as nvidia-smi tells it."""
    query = ["nvidia-smi", f"--id={uuid}", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        return int(subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise StudyError(f"nvidia-smi does not tell the memory of GPU {uuid}: {error}") from error
