"""The agent on a real GPU: two processes of known load beside each other, and all together against its own counters."""

import json
import os
import time
from pathlib import Path

import pynvml
import pytest

from slurm_gpushare.grant import Grant
from slurm_gpushare.launch import LaunchRecord, record_to_json
from slurm_gpushare.metrics.meter import Meter
from slurm_gpushare.metrics.spool import Spool
from slurm_gpushare.node_policy import ContainerPolicy, NodePolicy
from slurm_gpushare.paths import job_dir

from .conftest import DEADLINE, Device, result, start, wait_ready

NODE = "gpu"
SECONDS, SAMPLE = 30.0, 1.0
LOADS = {1: (0.5, 2048), 2: (0.2, 1024)}  # by job: share of the time, MiB
# The driver tells whole per cent of a sample period, in which two processes take turns.
POINTS = 0.10
CONTEXT = 1 << 30  # bytes that CUDA takes for a process beside what it asks for, at most


def _job(run_dir: Path, number: int, gpu: int, uuid: str) -> None:
    grant = Grant("shard", 1, 0.5, 50, None, 1, "test", "gpu:0.5", "")
    record = LaunchRecord(
        number,
        os.geteuid(),
        os.getegid(),
        user="tester",
        node=NODE,
        cluster="test",
        started=time.time(),
        grant=grant,
        gpus=(gpu,),
        options={"devices": [uuid]},
    )
    folder = Path(job_dir(NODE, number, str(run_dir)))
    folder.mkdir(parents=True)
    (folder / "launch.json").write_text(record_to_json(record), encoding="utf-8")


def _joules(handle: object) -> float | None:
    try:
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
    except pynvml.NVMLError:
        return None


def test_two_processes_beside_each_other(device: Device, tmp_path: Path) -> None:
    handle = pynvml.nvmlDeviceGetHandleByUUID(device.uuid)
    minor = pynvml.nvmlDeviceGetMinorNumber(handle)
    processes = {}
    for number, (share, mib) in LOADS.items():
        variables = {"SLURM_JOB_ID": str(number), "SLURMD_NODENAME": NODE}
        # One after the other, for each finds out what its kernel takes with the GPU to itself.
        processes[number] = start("load", SECONDS, share, mib, environment=variables)
        wait_ready(processes[number])
    seen = {each.pid for each in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)}
    if not {process.pid for process in processes.values()} <= seen:
        for process in processes.values():
            process.kill()
            process.communicate()
        pytest.skip("the driver speaks of other process ids than are known here: another pid namespace")

    run_dir, spool = tmp_path / "run", Spool(str(tmp_path / "spool"))
    lines: list[str] = []
    meter = Meter(NODE, NodePolicy(100, ContainerPolicy("auto", (), (), True)), spool, str(run_dir), say=lines.append)
    for number in LOADS:
        _job(run_dir, number, minor, device.uuid)
    meter.tick()
    before, began = _joules(handle), time.monotonic()
    for process in processes.values():
        process.stdin.write("\n")
        process.stdin.flush()
    while any(process.poll() is None for process in processes.values()):
        assert time.monotonic() < began + SECONDS + DEADLINE
        time.sleep(SAMPLE)
        meter.tick()
    for number in LOADS:
        meter.end(number)
    after = _joules(handle)
    meter.close()

    found = {number: result(process) for number, process in processes.items()}
    told = [json.loads(line) for line in spool.batch(100)[0]]
    records = {each["job_id"]: each for each in told if "kind" not in each}
    hours = [each for each in told if "kind" in each and each["gpu"] == device.uuid]
    device.figures["two processes beside each other"] = {
        "known": {number: {"busy_seconds": each["busy"], "mib": LOADS[number][1]} for number, each in found.items()},
        "records": records,
        "gpu_hours": hours,
        "joules by the counter": None if before is None else after - before,
        "the agent said": lines,
    }
    for number, (_, mib) in LOADS.items():
        record = records[number]
        assert found[number]["error"] == 0 and record["quality"] in ("measured", "estimated")
        assert abs(record["gpu_seconds_used"] - found[number]["busy"]) <= POINTS * SECONDS
        assert mib << 20 <= record["memory_peak_bytes"] <= (mib << 20) + CONTEXT
    total = {
        name: sum(hour[name] for hour in hours)
        for name in ("gpu_seconds_used", "gpu_seconds_jobs", "gpu_seconds_overhead", "gpu_seconds_unattributed")
    }
    parts = total["gpu_seconds_jobs"] + total["gpu_seconds_overhead"] + total["gpu_seconds_unattributed"]
    assert parts == pytest.approx(total["gpu_seconds_used"], abs=0.01)
    assert sum(record["gpu_seconds_used"] for record in records.values()) == pytest.approx(
        total["gpu_seconds_jobs"], abs=0.01
    )
    if before is not None:
        assert sum(hour["energy_joules"] for hour in hours) == pytest.approx(after - before, rel=0.05)
