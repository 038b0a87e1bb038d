"""CPU and memory of the agent on a node with 8 GPUs and 48 processes, against nvitop's exporter on the same GPUs.

The GPUs are the stand-in's, so what the library itself costs is the same for both and in both figures. Each process is
a job of its own, the most that the agent can have to do. Both run twice, with a sample every second and every five.
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
from dataclasses import dataclass
from pathlib import Path

from bench.lab import Setting
from bench.result import MOST, TIMES, Bound, Result
from slurm_gpushare import paths
from slurm_gpushare.errors import GpushareError
from slurm_gpushare.grant import Grant
from slurm_gpushare.lab.params import gpu_list
from slurm_gpushare.lab.source import source_root
from slurm_gpushare.launch import LaunchRecord, record_to_json
from slurm_gpushare.metrics.spool import USAGE
from slurm_gpushare.policy.compile import to_node_json
from slurm_gpushare.policy.load import parse_policy

GPUS = 8
PROCESSES = 48
INTERVALS = (1, 5)  # seconds
SECONDS = 60
SETTLE = 10.0
DEADLINE = 30.0
NODE = "bench"
PORT = 18437  # of the first exporter
EXPORTER = "nvitop-exporter==1.7.2"
POLICY = "partitions: {{shard: shard}}\nbackends: {{shard: {{gpu_memory: 16280 MiB}}}}\nagent: {{interval: {}}}\n"


@dataclass(frozen=True)
class Pair:
    """An agent and an exporter that sample as often."""

    interval: int  # seconds
    folder: Path  # the agent's
    agent: subprocess.Popen
    port: int  # the exporter's
    exporter: subprocess.Popen

    @property
    def cpu(self) -> tuple[float, float]:
        """Return the seconds of CPU time that each has had."""
        return cpu_seconds(self.agent.pid), cpu_seconds(self.exporter.pid)


def run(setting: Setting) -> Iterator[Result]:
    """Yield milliseconds of CPU time per sample, and megabytes resident. Raises GpushareError."""
    if os.geteuid() != 0:
        raise GpushareError("the agent benchmark writes launch records, which are root's: run it as root")
    seconds = max(setting.runs or SECONDS, INTERVALS[-1])
    build = source_root() / "build" / "bench"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpushare-bench-")))
        environment = _start_gpus(stack, build, folder)
        venv = _exporter(build)
        pairs = [_start_pair(stack, folder, environment, venv, each) for each in INTERVALS]
        time.sleep(SETTLE)
        before = [pair.cpu for pair in pairs]
        time.sleep(seconds)
        after = [pair.cpu for pair in pairs]
        memory = resident(pairs[0].agent.pid), resident(pairs[0].exporter.pid)
        for pair in pairs:
            _check(pair)
    peer = EXPORTER.replace("==", " ")
    for pair, then, now in zip(pairs, before, after, strict=True):
        samples = seconds // pair.interval
        ours, other = ((late - early) / samples * 1e3 for late, early in zip(now, then, strict=True))
        name = f"agent: CPU per sample, one every {pair.interval} s"
        yield Result(name, peer, ours, other, "ms", samples, Bound(TIMES, 0.5))
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
        for interval in INTERVALS:
            path = Path(paths.launch_record(NODE, number, str(folder / str(interval) / "run")))
            path.parent.mkdir(parents=True)
            path.write_text(record_to_json(record))
    return environment


def _exporter(build: Path) -> Path:
    """Return the environment of the exporter, made where it is missing."""
    venv = build / "exporter"
    if not (venv / "bin/nvitop-exporter").exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        pip = [venv / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", EXPORTER]
        if subprocess.run(pip, check=False).returncode:
            raise GpushareError(f"{EXPORTER} could not be installed into {venv}: the benchmark needs it as the peer")
    return venv


def _start_pair(stack: ExitStack, folder: Path, environment: dict[str, str], venv: Path, interval: int) -> Pair:
    """Start both; return when both measure."""
    own, port = folder / str(interval), PORT + interval
    policy = own / "node.json"
    policy.write_text(to_node_json(parse_policy(POLICY.format(interval)).policy))
    argv = [Path(sys.executable).with_name("gpushare"), "agent", "--node", NODE, "--policy", policy]
    agent = _start(stack, [*argv, "--run-dir", own / "run", "--spool-dir", own / "spool"], environment)
    _until(lambda: os.path.exists(paths.agent_socket(NODE, str(own / "run"))), "the agent did not come up", agent)
    argv = [venv / "bin/nvitop-exporter", "--hostname", NODE, "--port", str(port), "--interval", str(interval)]
    exporter = _start(stack, argv, environment)
    _until(lambda: "process_info_info{" in _metrics(port), "nvitop-exporter did not come up", exporter)
    return Pair(interval, own, agent, port, exporter)


def _check(pair: Pair) -> None:
    """Raise GpushareError unless both have really measured every process."""
    seen = sum(line.startswith("process_info_info{") for line in _metrics(pair.port).splitlines())
    if pair.exporter.poll() is not None or seen != PROCESSES:
        raise GpushareError(f"nvitop-exporter reports {seen} of {PROCESSES} processes: its figures say nothing")
    for number in range(1, PROCESSES + 1):
        Path(paths.launch_record(NODE, number, str(pair.folder / "run"))).unlink()
    spool = Path(paths.spool_dir(NODE, str(pair.folder / "spool"))) / USAGE
    _until(
        lambda: spool.exists() and spool.read_text().count("\n") >= PROCESSES, "the agent left no records", pair.agent
    )
    used = [json.loads(line)["gpu_seconds_used"] for line in spool.read_text().splitlines()]
    if not all(used):
        raise GpushareError("the agent did not measure what every job used: its figures say nothing")


def _metrics(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
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


def cpu_seconds(pid: int) -> float:
    """Return the seconds of CPU time of a process with all the threads that it ever had."""
    # The clock's number as the kernel makes it of a pid; /proc/PID/stat counts in ticks of 10 ms.
    return time.clock_gettime(~pid << 3 | 2)


def resident(pid: int) -> float:
    """Return the resident megabytes (10^6 bytes) of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
