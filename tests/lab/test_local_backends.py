"""A job on each backend whose GPUs are the node's own, on both versions of Slurm: grant, environment, usage record."""

import json
from dataclasses import dataclass

import pytest

from tests.lab.cluster import Cluster
from tests.lab.local_jobs import output, submit

IMAGE = "--container-image=/data/images/digits.sif"
MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    """What a request must become."""

    partition: str
    request: str
    backend: str
    fraction: float
    slices: int
    tres: str
    memory: int | None = None  # bytes of the grant; None: not known, or what the policy says of the type
    type: str | None = None  # Slurm's, where the share is a typed GPU


CASES = {
    "shard": Case("shard", "gpu:0.25", "shard", 0.25, 25, "gres/shard=25"),
    "mps": Case("mps", "gpu:0.25", "mps", 0.25, 25, "gres/shard=25", memory=16160 * MIB // 4),
    "hami": Case("hami", "gpu:0.25", "hami", 0.25, 25, "gres/shard=25", memory=16280 * MIB // 4),
    # A fifth of a GPU: one seventh is too small, two sevenths are what the user gets and pays for.
    "mig": Case("mig", "gpu:0.2", "mig", 2 / 7, 29, "gres/gpu:a100_2g.10gb=1", type="a100_2g.10gb"),
    "vgpu": Case("vgpu", "gpu:0.25", "vgpu", 0.25, 25, "gres/gpu:a40-12q=1", type="a40-12q"),
}


@pytest.fixture
def lab(local_lab: Cluster) -> Cluster:
    """The lab with a node for each local backend, on each version of Slurm."""
    return local_lab


def found_by(lab: Cluster, job: int) -> dict[str, str]:
    """Return the environment that the job printed."""
    lines = [line for line in output(lab, job).splitlines() if line.startswith("{")]
    assert lines, output(lab, job)
    return json.loads(lines[0])


def has_environment(lab: Cluster, backend: str, found: dict[str, str]) -> None:
    """Assert what the backend puts into a job's environment."""
    if backend == "mig":
        [gpu] = json.loads(lab.read("/etc/lab/gpu-g1.json"))["gpus"]
        assert found["CUDA_VISIBLE_DEVICES"] in [part["uuid"] for part in gpu["mig"] if part["profile"] == "2g.10gb"]
    elif backend == "mps":
        assert found["CUDA_MPS_PIPE_DIRECTORY"].startswith("/run/gpushare/m1/mps/GPU-")
        assert float(found["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"]) == 25
        assert found["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"].split("=")[1].startswith("4040M")
    elif backend == "hami":
        assert found["LD_PRELOAD"] == "/usr/local/vgpu/libvgpu.so"
        assert (found["CUDA_DEVICE_SM_LIMIT"], found["CUDA_DEVICE_MEMORY_LIMIT"]) == ("25", "4070m")
    else:
        assert found["CUDA_VISIBLE_DEVICES"] in ("0", "1")
    # Frameworks that take the whole card are told, where they are shown the whole card.
    told = backend in ("shard", "mps")
    assert (found.get("TF_FORCE_GPU_ALLOW_GROWTH") == "true") == told
    assert ("XLA_PYTHON_CLIENT_MEM_FRACTION" in found) == told


@pytest.mark.parametrize("container", [(), (IMAGE,)], ids=["host", "container"])
@pytest.mark.parametrize("name", CASES)
def test_a_job(lab: Cluster, name: str, container: tuple[str, ...]) -> None:
    case = CASES[name]
    job = submit(lab, case.partition, case.request, *container)
    assert lab.wait(job) == "COMPLETED", output(lab, job)

    [row] = lab.sacct(job, "Extra", "AllocTRES")
    grant = json.loads(row["Extra"])
    assert (grant["backend"], grant["gpus"], grant["slices"]) == (case.backend, 1, case.slices)
    assert grant["request"] == case.request
    assert grant["fraction"] == pytest.approx(case.fraction, abs=1e-9)
    memory = case.memory
    if case.type:
        memory = json.loads(lab.read("/etc/gpushare/node.json"))["backends"][name]["types"][case.type]["memory"]
        assert memory
    assert grant["memory"] == memory
    assert case.tres in row["AllocTRES"].split(",")

    has_environment(lab, name, found_by(lab, job))

    [line] = lab.report("--job", str(job))
    assert (line["backend"], line["gpus"], line["request"]) == (case.backend, 1, case.request)
    assert line["fraction"] == pytest.approx(case.fraction)
    # Reserved from prolog to the end, to which Slurm's whole seconds are near.
    assert line["gpu_seconds_reserved"] == pytest.approx(case.fraction * line["elapsed_seconds"], abs=3 * case.fraction)
    if name == "mig":
        # NVML has no utilisation in MIG mode.
        assert (line["quality"], line["gpu_seconds_used"]) == ("unknown", None)
    else:
        assert line["quality"] == "measured"
        assert 0 < line["gpu_seconds_used"] <= 0.2 * (line["elapsed_seconds"] + 1)
    assert line["memory_peak_bytes"] == 1 << 30


def test_a_whole_gpu_is_as_before(lab: Cluster) -> None:
    job = submit(lab, "shard", "gpu:1")
    assert lab.wait(job) == "COMPLETED", output(lab, job)
    found = found_by(lab, job)
    assert not {name for name in found if name.startswith(("CUDA_MPS_", "TF_", "XLA_", "GPUSHARE_"))}
    [line] = lab.report("--job", str(job))
    assert (line["backend"], line["gpus"], line["fraction"], line["quality"]) == ("gpu", 1, 1, "measured")
    assert line["memory_peak_bytes"] == 1 << 30 and line["gpu_seconds_used"] > 0


def test_slurm_detects_the_parts_of_the_gpu(lab: Cluster) -> None:
    assert "NodeName=g1 AutoDetect=nvml" in lab.read("/etc/slurm/gres.conf").splitlines()
    gres = lab.out("sinfo", "-h", "-n", "g1", "-o", "%G")
    for words in ("gpu:a100_3g.20gb:1", "gpu:a100_2g.10gb:1", "gpu:a100_1g.5gb:2"):
        assert words in gres


@pytest.mark.parametrize(("backend", "request_"), [("mig", "gpu:0.7"), ("vgpu", "gpu:0.5"), ("mig", "gpu:1")])
def test_what_no_profile_holds_is_refused_with_the_list(lab: Cluster, backend: str, request_: str) -> None:
    done = lab.run("srun", "-p", backend, f"--gres={request_}", "true", user="alice", check=False)
    assert done.returncode != 0
    known = ("a40-12q",) if backend == "vgpu" else ("a100_1g.5gb", "a100_2g.10gb", "a100_3g.20gb")
    assert all(name in done.stderr for name in known), done.stderr


def test_a_part_that_the_user_names_is_what_the_user_gets(lab: Cluster) -> None:
    job = submit(lab, "mig", "gpu:a100_1g.5gb:1", lines=("gpu-workload --gpu 0 --sm 10 --memory 5G --seconds 1",))
    assert lab.wait(job) == "FAILED"
    assert "out of memory (asked 5120 MiB, free 4864 MiB)" in output(lab, job)
    [row] = lab.sacct(job, "Extra", "AllocTRES")
    assert json.loads(row["Extra"])["fraction"] == pytest.approx(1 / 7)
    assert "gres/gpu:a100_1g.5gb=1" in row["AllocTRES"].split(",")


@pytest.mark.parametrize("container", [(), (IMAGE,)], ids=["host", "container"])
def test_mps_holds_a_job_to_its_memory(lab: Cluster, container: tuple[str, ...]) -> None:
    job = submit(lab, "mps", "gpu:0.25", *container, lines=("gpu-workload --gpu 0 --sm 10 --memory 5G --seconds 1",))
    assert lab.wait(job) == "FAILED"
    assert "out of memory (asked 5120 MiB, free 4040 MiB)" in output(lab, job)
