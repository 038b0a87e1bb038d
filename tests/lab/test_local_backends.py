"""A job on each backend whose GPUs are the node's own, on both versions of Slurm: grant, environment, usage record."""

import json
from dataclasses import dataclass

import pytest

from tests.lab.cluster import Cluster, until

IMAGE = "--container-image=/data/images/digits.sif"
HOME = "/home/alice"
MIB = 1 << 20
# What the job found in its environment, one JSON line, then a load that lasts long enough to be measured.
LOOK = 'import json, os; print(json.dumps({k: v for k, v in os.environ.items() if "BASH" not in k}), flush=True)'
LOAD = "gpu-workload --gpu 0 --sm 20 --memory 1G --seconds 4"


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


@pytest.fixture(scope="module", params=["local_cluster", "new_local_cluster"], ids=["24.11", "26.05"])
def lab(request: pytest.FixtureRequest) -> Cluster:
    """The lab with a node for each backend, on each version of Slurm."""
    cluster = request.getfixturevalue(request.param)
    cluster.run("sh", "-c", f"cat >{HOME}/look.py", user="alice", stdin=LOOK)
    return cluster


def submit(lab: Cluster, partition: str, request: str, *options: str, lines: tuple[str, ...] = ()) -> int:
    """Submit a job of alice's that looks at its environment and then does ``lines``."""
    script = lab.script("alice", f"python3 {HOME}/look.py", *(lines or (f"exec {LOAD}",)))
    return lab.sbatch("alice", "-p", partition, f"--gres={request}", "-D", HOME, *options, script=script)


def output(lab: Cluster, job: int) -> str:
    return lab.read(f"{HOME}/slurm-{job}.out")


def found_by(lab: Cluster, job: int) -> dict[str, str]:
    """Return the environment that the job printed."""
    lines = [line for line in output(lab, job).splitlines() if line.startswith("{")]
    assert lines, output(lab, job)
    return json.loads(lines[0])


def uuids(lab: Cluster, node: str) -> list[str]:
    return [gpu["uuid"] for gpu in json.loads(lab.read(f"/etc/lab/gpu-{node}.json"))["gpus"]]


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


# MPS: from the first job to the last


def daemons(lab: Cluster) -> list[int]:
    """Return the control daemons of MPS that run in the lab."""
    found = (line.split() for line in lab.out("ps", "-eo", "pid=,args=").splitlines())
    # Not the short-lived commands to one.
    return [
        int(words[0])
        for words in found
        if any(word.endswith("/nvidia-cuda-mps-control") for word in words[1:4]) and {"-d", "-f"} & set(words)
    ]


def nothing_left(lab: Cluster) -> bool:
    return not daemons(lab)


def hold(lab: Cluster, user: str = "alice") -> int:
    """Submit a job that uses a quarter of a GPU until it is cancelled."""
    lines = (f"python3 {HOME}/look.py", "exec gpu-workload --gpu 0 --sm 10 --memory 1G")
    return lab.sbatch(user, "-p", "mps", "--gres=gpu:0.25", f"-o/tmp/hold-%j.{user}", script=lab.script(user, *lines))


def running(lab: Cluster, job: int, user: str = "alice") -> dict[str, str]:
    """Wait until a held job computes; return its environment."""
    lab.wait_running(job)
    until("its environment", lambda: lab.read(f"/tmp/hold-{job}.{user}").startswith("{"))
    until("its load", lambda: any("gpu-workload" in argv for _, argv in lab.processes(job).values()))
    return json.loads(lab.read(f"/tmp/hold-{job}.{user}").splitlines()[0])


@pytest.fixture
def held(lab: Cluster):
    """Jobs that are cancelled at the end of the test."""
    lab.run("chmod", "755", HOME)
    jobs: list[int] = []
    yield jobs
    lab.run("scancel", *map(str, jobs), check=False)
    for job in jobs:
        lab.wait(job)
    until("the end of MPS", lambda: nothing_left(lab))


def test_jobs_of_one_user_share_mps_and_the_last_one_out_ends_it(lab: Cluster, held: list[int]) -> None:
    assert nothing_left(lab)
    held += [hold(lab), hold(lab)]
    first, second = (running(lab, job) for job in held)
    assert first["CUDA_MPS_PIPE_DIRECTORY"] == second["CUDA_MPS_PIPE_DIRECTORY"]
    [daemon] = daemons(lab)
    lab.run("scancel", str(held[0]))
    lab.wait(held[0])
    assert daemons(lab) == [daemon]
    lab.run("scancel", str(held[1]))
    lab.wait(held[1])
    until("the end of MPS", lambda: nothing_left(lab))


def test_a_daemon_that_was_killed_is_replaced_by_the_next_job(lab: Cluster, held: list[int]) -> None:
    held.append(hold(lab))
    running(lab, held[0])
    [daemon] = daemons(lab)
    lab.run("kill", "-9", str(daemon))
    until("the end of the daemon", lambda: daemon not in daemons(lab))
    held.append(hold(lab))
    running(lab, held[1])
    [other] = daemons(lab)
    assert other != daemon


def test_what_a_reboot_left_is_in_nobodys_way(lab: Cluster) -> None:
    assert nothing_left(lab)
    gpu = uuids(lab, "m1")[0]
    old = f"/run/gpushare/m1/mps/{gpu}"
    lab.run(
        "sh",
        "-c",
        f"mkdir -p {old}/pipe {old}/log {old}/jobs && touch {old}/jobs/4000000 {old}/pipe/control"
        f" && echo 4000000 >{old}/pipe/nvidia-cuda-mps-control.pid",
        node="m1",
    )
    job = submit(lab, "mps", "gpu:0.25")
    assert lab.wait(job) == "COMPLETED", output(lab, job)
    until("the end of MPS", lambda: nothing_left(lab))


@pytest.fixture
def users(lab: Cluster):
    """Return a function that sets how MPS serves several users; the policy is as before at the end."""
    before = lab.read("/etc/gpushare/gpushare.yaml")
    change = (
        "import sys, yaml; p = '/etc/gpushare/gpushare.yaml'; d = yaml.safe_load(open(p)); "
        "d['backends']['mps']['users'] = sys.argv[1]; yaml.safe_dump(d, open(p, 'w'))"
    )

    def set_users(way: str) -> None:
        lab.run("/opt/gpushare/bin/python3", "-c", change, way)
        lab.run("gpushare", "policy", "compile")

    yield set_users
    lab.run("sh", "-c", "cat >/etc/gpushare/gpushare.yaml", stdin=before)
    lab.run("gpushare", "policy", "compile")


def test_one_user_at_a_time_has_the_node(lab: Cluster, users, held: list[int]) -> None:
    users("one_per_node")
    held.append(hold(lab))
    running(lab, held[0])
    held.append(hold(lab, "bob"))
    until("why bob waits", lambda: lab.job(held[1])["Reason"] in ("Resources", "Priority"))
    assert lab.job(held[1])["JobState"] == "PENDING"
    lab.run("scancel", str(held[0]))
    running(lab, held[1], "bob")
    assert len(daemons(lab)) == 1


def test_one_server_for_all_users(lab: Cluster, users, held: list[int]) -> None:
    users("multiuser")
    held += [hold(lab), hold(lab, "bob")]
    alices, bobs = running(lab, held[0]), running(lab, held[1], "bob")
    assert alices["CUDA_MPS_PIPE_DIRECTORY"] == bobs["CUDA_MPS_PIPE_DIRECTORY"]
    assert len(daemons(lab)) == 1


def test_each_user_has_mps_of_their_own(lab: Cluster, users, held: list[int]) -> None:
    users("time_sliced")
    held += [hold(lab), hold(lab, "bob")]
    alices, bobs = running(lab, held[0]), running(lab, held[1], "bob")
    assert alices["CUDA_MPS_PIPE_DIRECTORY"] != bobs["CUDA_MPS_PIPE_DIRECTORY"]
    assert len(daemons(lab)) == 2
    # Neither may connect to the other's.
    done = lab.run("ls", bobs["CUDA_MPS_PIPE_DIRECTORY"], user="alice", node="m1", check=False)
    assert done.returncode != 0
