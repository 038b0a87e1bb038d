"""The agent as a process of its own, over the stand-in's NVML library, with real processes on its GPUs."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import slurm_gpushare
from slurm_gpushare.lab.standins.gpu import control
from slurm_gpushare.metrics import agent as module

from .records import launch, write

GIB = 1 << 30
STANDIN = Path(slurm_gpushare.__file__).parent / "lab/standins/gpu"
INTERVAL = 0.25
# Percentage points: over so few samples, on a machine that does other work too, the stand-in counts a little late.
NEAR = 5
POLICY = {
    "v": 1,
    "slices_per_gpu": 100,
    "container": {"runtime": "auto", "images": [], "mounts": [], "pid_namespace": True},
    "datasets": {},
    "backends": {},
    "agent": {"interval": INTERVAL, "service": None},
}


@pytest.fixture(scope="session")
def standin(tmp_path_factory):
    """Build the library and the workload program once."""
    build = tmp_path_factory.mktemp("gpu-standin")
    subprocess.run(["make", "-s", "-C", STANDIN, f"BUILD={build}"], check=True)
    return build


def until(condition, seconds=20):
    """Wait for ``condition`` to be true and return its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return value


class Node:
    """A node with two GPUs, their daemon, and the agent."""

    def __init__(self, folder, build):
        self.folder, self.build = folder, build
        self.socket = str(folder / "gpu.sock")
        self.run, self.log = folder / "run", folder / "agent.log"
        self.children = []
        self.environment = os.environ | {"NVML_STANDIN_ENDPOINT": f"unix:{self.socket}", "LD_LIBRARY_PATH": str(build)}
        common = {"name": "Tesla", "memory_mib": 16384, "idle_watts": 30, "max_watts": 230}
        gpus = [
            common | {"uuid": f"GPU-{minor:04d}-aa", "minor": minor, "capability": capability}
            for minor, capability in enumerate(("6.0", "7.0"))
        ]
        (folder / "gpus.json").write_text(json.dumps({"gpus": gpus}))
        self.daemon = self.start_daemon()
        self.agent = None

    def start(self, *argv, **environment):
        child = subprocess.Popen(argv, env=self.environment | environment)
        self.children.append(child)
        return child

    def start_daemon(self):
        argv = ("--config", str(self.folder / "gpus.json"), "--socket", self.socket)
        daemon = self.start(sys.executable, "-m", "slurm_gpushare.lab.standins.gpu.daemon", *argv)
        until(lambda: os.path.exists(self.socket))
        return daemon

    def start_agent(self, **policy):
        (self.folder / "node.json").write_text(json.dumps(POLICY | policy))
        argv = ["--node", "n1", "--policy", self.folder / "node.json", "--run-dir", self.run]
        argv += ["--state-dir", self.run, "--spool-dir", self.folder / "spool", "--python", sys.executable]
        with open(self.log, "ab") as log:
            self.agent = subprocess.Popen(
                [sys.executable, "-I", "-m", "slurm_gpushare.metrics.agent", *argv], env=self.environment, stderr=log
            )
        self.children.append(self.agent)
        until(lambda: b"a sample every" in self.log.read_bytes())

    def workload(self, job_id, gpu, sm, memory="1G"):
        """Start a process of ``job_id`` that uses a GPU; return when NVML's next sample will show it."""
        before = len(self.processes(gpu))
        argv = ("--gpu", str(gpu), "--sm", str(sm), "--memory", memory)
        child = self.start(str(self.build / "gpu-workload"), *argv, SLURM_JOB_ID=str(job_id))
        until(lambda: len(self.processes(gpu)) > before)
        return child

    def processes(self, gpu):
        return json.loads(control.request(self.socket, "snapshot"))[gpu]["processes"]

    def utilisation(self, gpu):
        return json.loads(control.request(self.socket, "snapshot"))[gpu]["utilisation"]

    def job(self, job_id, *arguments, **options):
        folder = write(self.run, launch(job_id, *arguments, **{"started": time.time()} | options))
        until(lambda: f"job {job_id} of alice".encode() in self.log.read_bytes())
        return folder

    def sampled(self, seconds):
        """Let the jobs run for as long as the figures need."""
        end = time.monotonic() + seconds
        until(lambda: time.monotonic() > end)

    def end(self, job_id):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(self.run / "n1/agent.sock"))
            client.sendall(b"end %d\n" % job_id)
            assert client.recv(100) == b"ok\n"

    def records(self):
        text = (self.folder / "spool/n1/usage.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        return {(data["job_id"], data["gpu_index"]): data for data in lines if "kind" not in data}

    def close(self):
        for child in reversed(self.children):
            child.kill()
            child.wait()


@pytest.fixture
def node(tmp_path, standin):
    node = Node(tmp_path, standin)
    yield node
    node.close()


def share(record):
    """Return the SM share in per cent over the sampled time."""
    return 100 * record["gpu_seconds_used"] / record["seconds_sampled"]


@pytest.mark.parametrize("gpu", [0, 1])
def test_four_jobs_of_known_load_on_one_gpu(node, gpu):
    loads = {11: (40, 4), 12: (20, 3), 13: (10, 2), 14: (0, 1)}
    for job_id, (sm, memory) in loads.items():
        node.workload(job_id, gpu, sm, f"{memory}G")
    until(lambda: node.utilisation(gpu) == 70)
    node.start_agent()
    for job_id in loads:
        node.job(job_id, 0.25, (gpu,))
    node.sampled(3)
    for job_id in loads:
        node.end(job_id)
    records = node.records()
    for job_id, (sm, memory) in loads.items():
        record = records[job_id, gpu]
        assert share(record) == pytest.approx(sm, abs=NEAR)
        assert record["memory_peak_bytes"] == memory * GIB
        assert record["quality"] == "measured" and record["gpu"] == f"GPU-000{gpu}-aa"
        span = record["ended"] - record["started"]
        assert record["gpu_seconds_reserved"] == pytest.approx(span / 4)
        assert record["energy_joules"] > 0 and record["processes_seen"] == 1
    assert records[11, gpu]["energy_joules"] > records[13, gpu]["energy_joules"]


def test_a_killed_process_uses_nothing_from_then_on(node):
    child = node.workload(11, 0, 80, "2G")
    until(lambda: node.utilisation(0) == 80)
    node.start_agent()
    node.job(11, 0.5, (0,))
    node.sampled(1)
    child.kill()
    child.wait()
    node.sampled(2)
    node.end(11)
    record = node.records()[11, 0]
    assert 10 < share(record) < 60 and record["memory_peak_bytes"] == 2 * GIB


def test_a_lost_gpu_costs_its_own_jobs_coverage_alone(node):
    for job_id, gpu in ((11, 0), (12, 1)):
        node.workload(job_id, gpu, 40)
    until(lambda: node.utilisation(0) == node.utilisation(1) == 40)
    node.start_agent()
    node.job(11, 0.5, (0,))
    node.job(12, 0.5, (1,))
    node.sampled(1.5)
    control.request(node.socket, "fail", "1", "all", "gpu_is_lost")
    until(lambda: b"GPU 1 is lost" in node.log.read_bytes())
    node.sampled(1.5)
    node.end(11)
    node.end(12)
    healthy, lost = node.records()[11, 0], node.records()[12, 1]
    assert share(healthy) == pytest.approx(40, abs=NEAR) and share(lost) == pytest.approx(40, abs=NEAR)
    assert lost["seconds_sampled"] < healthy["seconds_sampled"] - 0.5
    assert lost["gpu_seconds_reserved"] == pytest.approx(0.5 * (lost["ended"] - lost["started"]))


@pytest.mark.parametrize(
    "function", ["nvmlDeviceGetProcessesUtilizationInfo", "nvmlDeviceGetMPSComputeRunningProcesses"]
)
def test_a_gpu_that_lacks_a_function_is_measured_by_another(node, function):
    control.request(node.socket, "fail", "all", function, "not_supported")
    node.workload(11, 1, 30)
    until(lambda: node.utilisation(1) == 30)
    node.start_agent()
    node.job(11, 0.5, (1,))
    node.sampled(1.5)
    node.end(11)
    assert share(node.records()[11, 1]) == pytest.approx(30, abs=NEAR)


def test_a_driver_that_was_replaced_is_opened_again(node):
    node.workload(11, 0, 30)
    node.start_agent()
    until(lambda: b"NVML is open" in node.log.read_bytes())
    control.request(node.socket, "fail", "all", "all", "driver_mismatch")
    until(lambda: b"NVML is closed" in node.log.read_bytes())
    control.request(node.socket, "heal", "all", "all")
    until(lambda: node.log.read_bytes().count(b"NVML is open") == 2)
    node.job(11, 0.5, (0,))
    node.sampled(1.5)
    node.end(11)
    assert share(node.records()[11, 0]) == pytest.approx(30, abs=NEAR)


def test_the_agent_survives_its_gpus_going_away_and_coming_back(node):
    node.workload(11, 0, 30)
    node.start_agent()
    node.job(11, 0.5, (0,))
    node.sampled(1)
    node.daemon.send_signal(signal.SIGKILL)
    node.daemon.wait()
    os.unlink(node.socket)
    node.sampled(1)
    assert node.agent.poll() is None
    node.end(11)
    assert node.records()[11, 0]["gpu_seconds_used"] is not None
    node.start_daemon()
    node.workload(12, 0, 50)
    until(lambda: node.log.read_bytes().count(b"NVML is open") == 2)
    node.job(12, 0.5, (0,))
    node.sampled(1.5)
    node.end(12)
    assert share(node.records()[12, 0]) == pytest.approx(50, abs=NEAR)


def test_without_any_gpu_the_agent_runs_and_its_records_are_unknown(node):
    node.environment = os.environ.copy()
    node.start_agent()
    node.job(11, 0.5, (0,))
    node.end(11)
    record = node.records()[11, 0]
    assert record["quality"] == "unknown" and record["gpu_seconds_used"] is None


def test_a_pool_job_is_sampled_in_its_allocation(node):
    client = node.folder / "bitfusion"
    variables = " ".join(f"{name}={node.environment[name]}" for name in ("NVML_STANDIN_ENDPOINT", "LD_LIBRARY_PATH"))
    client.write_text(f'#!/bin/sh\n[ "$1 $2" = "client --" ] || exit 9\nshift 2\nexec env {variables} "$@"\n')
    client.chmod(stat.S_IRWXU)
    backend = {"gpu_memory": None, "command": str(client), "licence": "bitfusion", "gres": None}
    node.workload(99, 0, 30, "3G")
    until(lambda: node.utilisation(0) == 30)
    node.start_agent(backends={"bitfusion": backend})
    folder = node.job(11, 0.5, (), "bitfusion")
    allocation = Path(folder) / "work/bitfusion215848399"
    allocation.write_text("")
    until(lambda: b"sampling its allocation" in node.log.read_bytes())
    node.sampled(2)
    allocation.unlink()
    node.end(11)
    record = node.records()[11, 0]
    assert share(record) == pytest.approx(30, abs=NEAR)
    assert (record["source"], record["gpu"], record["memory_peak_bytes"]) == ("allocation", "GPU-0000-aa", 3 * GIB)
    children = Path(f"/proc/{node.agent.pid}/task/{node.agent.pid}/children").read_text()
    assert children == ""


def test_sigterm_ends_it_and_running_jobs_are_left_to_the_next(node):
    node.start_agent()
    node.job(11, 0.5, (0,))
    node.agent.send_signal(signal.SIGTERM)
    assert node.agent.wait(20) == 0
    assert node.records() == {}
    node.log.write_bytes(b"")
    node.start_agent()
    until(lambda: b"taken up again: job 11" in node.log.read_bytes())
    node.end(11)
    assert set(node.records()) == {(11, 0)}


def test_a_second_agent_for_the_same_node_is_refused(node):
    node.start_agent()
    argv = ["--node", "n1", "--policy", str(node.folder / "node.json"), "--run-dir", str(node.run)]
    done = subprocess.run(
        [sys.executable, "-m", "slurm_gpushare.metrics.agent", *argv], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 78 and done.stderr.count("\n") == 1 and "another agent" in done.stderr
    node.end(1)  # the first one is still there to answer


def test_it_shows_what_it_measures(node):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    node.start_agent(agent=POLICY["agent"] | {"metrics": address})
    node.job(1)
    node.workload(1, 0, 20)

    def shown():
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as answer:
            return answer.read().decode()

    until(lambda: f"/metrics on {address}".encode() in node.log.read_bytes())
    until(lambda: "gpushare_job_gpu_utilization_ratio{" in shown())
    mine = 'gpushare_job_gpu_memory_used_bytes{jobid="1",user="alice",gpu="0",uuid="GPU-0000-aa",source="node"} '
    until(lambda: f"{mine}{GIB}" in shown())
    node.end(1)
    assert "gpushare_job_" not in shown() and "gpushare_gpu_info" in shown()


def test_an_address_that_is_none_is_refused(capsys):
    for text in ("6828", "host:port", ":6828", "host:66000"):
        with pytest.raises(SystemExit):
            module.main(["--metrics", text])
        assert f"{text!r} is not HOST:PORT" in capsys.readouterr().err


def test_a_missing_policy_is_one_line(capsys):
    assert module.main(["--policy", "/nonexistent/node.json"]) == 78
    assert capsys.readouterr().err.count("\n") == 1


def test_a_server_whose_gpus_slurm_does_not_place_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "node.json").write_text(json.dumps(POLICY | {"backends": {"bitfusion": {"placement": "flat"}}}))
    argv = ["--server", "server1", "--policy", str(tmp_path / "node.json"), "--run-dir", str(tmp_path / "run")]
    assert module.main(argv) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "server 'server1'" in said and "pinned or first_fit" in said
    assert not (tmp_path / "run").exists()


def test_node_name_is_slurmds(monkeypatch):
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    assert module.default_node() == "n7"
    monkeypatch.delenv("SLURMD_NODENAME")
    assert "." not in module.default_node()


def test_the_resident_process_loads_neither_orm_nor_validation():
    heavy = {"click", "rich", "sqlalchemy", "pydantic", "aiohttp", "yaml", "psutil"}
    code = "import sys, slurm_gpushare.metrics.agent; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not heavy & set(loaded)
