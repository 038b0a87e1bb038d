"""CPU and memory of the agent on a node with 8 GPUs and 48 processes, against nvitop's exporter on the same GPUs.

The GPUs are the stand-in's, so what the library itself costs is the same for both and in both figures. Each process is
a job of its own, the most that the agent can have to do.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.lab import Setting
from bench.result import MOST, TIMES, Bound, Result
from slurm_gpushare import paths
from slurm_gpushare.errors import GpushareError
from slurm_gpushare.grant import Grant
from slurm_gpushare.lab.params import gpu_list
from slurm_gpushare.lab.source import source_root
from slurm_gpushare.launch import LaunchRecord, record_to_json
from slurm_gpushare.policy.compile import to_node_json
from slurm_gpushare.policy.load import parse_policy

GPUS = 8
PROCESSES = 48
SECONDS = 60  # one sample a second
SETTLE = 5.0
DEADLINE = 30.0
NODE = "bench"
PORT = 18437
EXPORTER = "nvitop-exporter==1.7.2"
POLICY = "partitions: {shard: shard}\nbackends: {shard: {gpu_memory: 16280 MiB}}\nagent: {interval: 1}\n"
TICKS = os.sysconf("SC_CLK_TCK")


def run(setting: Setting) -> Iterator[Result]:
    """Yield milliseconds of CPU time per sample, and megabytes resident. Raises GpushareError."""
    if os.geteuid() != 0:
        raise GpushareError("the agent benchmark writes launch records, which are root's: run it as root")
    seconds = setting.runs or SECONDS
    build = source_root() / "build" / "bench"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpushare-bench-")))
        environment = _start_gpus(stack, build, folder)
        agent = _start_agent(stack, folder, environment)
        exporter = _start_exporter(stack, build, environment)
        time.sleep(SETTLE)
        before = _cpu(agent.pid), _cpu(exporter.pid)
        time.sleep(seconds)
        ours, other = (now - then for now, then in zip((_cpu(agent.pid), _cpu(exporter.pid)), before, strict=True))
        memory = _resident(agent.pid), _resident(exporter.pid)
        _check(folder, agent, exporter)
    peer = EXPORTER.replace("==", " ")
    times = ours / seconds * 1e3, other / seconds * 1e3
    yield Result("agent: CPU per sample", peer, *times, "ms", seconds, Bound(TIMES, 0.5))
    yield Result("agent: resident memory", peer, *memory, "MB", 1, Bound(MOST, 60))


def _start_gpus(stack: ExitStack, build: Path, folder: Path) -> dict[str, str]:
    """Start the GPUs and the processes on them; return the environment in which NVML finds them."""
    standin = source_root() / "slurm_gpushare/lab/standins/gpu"
    subprocess.run(["make", "-s", "-C", standin, f"BUILD={build}/gpu"], check=True)
    socket = folder / "gpus"
    config = folder / "gpus.json"
    config.write_text(json.dumps({"gpus": gpu_list(NODE, NODE, GPUS)}))
    environment = {
        "PATH": "/usr/bin:/bin",
        "LD_LIBRARY_PATH": str(build / "gpu"),
        "NVML_STANDIN_ENDPOINT": f"unix:{socket}",
    }
    daemon = [sys.executable, "-m", "slurm_gpushare.lab.standins.gpu.daemon", "--config", config, "--socket", socket]
    process = _start(stack, daemon, {"PATH": "/usr/bin:/bin"})
    _until(socket.exists, "the stand-in GPUs did not come up", process)
    for number in range(1, PROCESSES + 1):
        gpu = (number - 1) % GPUS
        job = {"SLURM_JOB_ID": str(number), "SLURMD_NODENAME": NODE}
        argv = [build / "gpu/gpu-workload", "--gpu", str(gpu), "--sm", "10", "--memory", "512M"]
        _start(stack, argv, environment | job)
        grant = Grant("shard", 1, 0.16, 16, None, 1, "bench", "gpu:0.16", "")
        record = LaunchRecord(number, 0, 0, "root", NODE, NODE, time.time(), grant, (gpu,))
        path = Path(paths.launch_record(NODE, number, str(folder / "run")))
        path.parent.mkdir(parents=True)
        path.write_text(record_to_json(record))
    return environment


def _start_agent(stack: ExitStack, folder: Path, environment: dict[str, str]) -> subprocess.Popen:
    policy = folder / "node.json"
    policy.write_text(to_node_json(parse_policy(POLICY).policy))
    argv = [Path(sys.executable).with_name("gpushare"), "agent", "--node", NODE, "--policy", policy]
    argv += ["--run-dir", folder / "run", "--spool-dir", folder / "spool"]
    agent = _start(stack, argv, environment)
    _until(lambda: os.path.exists(paths.agent_socket(NODE, str(folder / "run"))), "the agent did not come up", agent)
    return agent


def _start_exporter(stack: ExitStack, build: Path, environment: dict[str, str]) -> subprocess.Popen:
    venv = build / "exporter"
    if not (venv / "bin/nvitop-exporter").exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        pip = [venv / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", EXPORTER]
        if subprocess.run(pip, check=False).returncode:
            raise GpushareError(f"{EXPORTER} could not be installed into {venv}: the benchmark needs it as the peer")
    argv = [venv / "bin/nvitop-exporter", "--hostname", NODE, "--port", str(PORT), "--interval", "1"]
    exporter = _start(stack, argv, environment)
    _until(lambda: "process_info_info{" in _metrics(), "nvitop-exporter did not come up", exporter)
    return exporter


def _check(folder: Path, agent: subprocess.Popen, exporter: subprocess.Popen) -> None:
    """Raise GpushareError unless both have really measured every process."""
    seen = sum(line.startswith("process_info_info{") for line in _metrics().splitlines())
    if exporter.poll() is not None or seen != PROCESSES:
        raise GpushareError(f"nvitop-exporter reports {seen} of {PROCESSES} processes: its figures say nothing")
    for number in range(1, PROCESSES + 1):
        Path(paths.launch_record(NODE, number, str(folder / "run"))).unlink()
    spool = Path(paths.spool_dir(NODE, str(folder / "spool"))) / "usage.jsonl"
    _until(lambda: spool.exists() and spool.read_text().count("\n") == PROCESSES, "the agent left no records", agent)
    used = [json.loads(line)["gpu_seconds_used"] for line in spool.read_text().splitlines()]
    if not all(used):
        raise GpushareError("the agent did not measure what every job used: its figures say nothing")


def _metrics() -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=5) as answer:
            return answer.read().decode()
    except (urllib.error.URLError, OSError):
        return ""


def _start(stack: ExitStack, argv: list, environment: dict[str, str]) -> subprocess.Popen:
    """Start a program that ends with the benchmark."""
    process = subprocess.Popen(
        argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def _until(ready: Callable[[], bool], what: str, process: subprocess.Popen) -> None:
    end = time.monotonic() + DEADLINE
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise GpushareError(f"{what} within {DEADLINE:g} s")
        time.sleep(0.1)


def _cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has had, with its threads and the children that it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS


def _resident(pid: int) -> float:
    """Return the resident megabytes (10^6 bytes) of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
