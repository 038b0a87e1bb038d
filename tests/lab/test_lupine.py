"""Jobs whose GPUs are those of a LUPINE server: placed by licences, led there by their environment alone."""

import json

import pytest

from tests.lab.cluster import until

IMAGE = "--container-image=/data/images/digits.sif"
SERVER = "10.77.0.1:14833"
P100_MIB = 16280

# What a CUDA program finds, as one JSON line: the environment, and each GPU that it sees with its memory in use.
LOOK = """import ctypes, json, os, sys
cuda, nvml = ctypes.CDLL("libcuda.so.1"), ctypes.CDLL("libnvidia-ml.so.1")
number, context, address = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_ulonglong()
assert cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(number)) == 0
uuids = []
for device in range(number.value):
    uuid = (ctypes.c_ubyte * 16)()
    assert cuda.cuDeviceGetUuid_v2(uuid, device) == 0
    uuids.append(bytes(uuid).hex())
assert cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0) == 0
got = cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(int(sys.argv[1]) << 20))
names = ("LUPINE_SERVER", "LUPINE_DISABLE_LOCAL", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "SLURM_LOCALID")
print(json.dumps({"uuids": uuids, "got": got, **{name: os.environ.get(name) for name in names}}), flush=True)
if len(sys.argv) > 2:
    sys.stdin.read()
"""
HOME = "/home/alice"
RUN = f"python3 {HOME}/look.py"


@pytest.fixture(scope="module")
def lab(lupine_cluster):
    lupine_cluster.run("sh", "-c", f"cat >{HOME}/look.py", user="alice", stdin=LOOK)
    server = json.loads(lupine_cluster.read("/etc/lab/lupine.json"))
    lupine_cluster.uuids = [gpu["uuid"].removeprefix("GPU-").replace("-", "") for gpu in server["gpus"]]
    return lupine_cluster


def submit(lab, *options, lines=(RUN + " 100",)):
    return lab.sbatch("alice", "-p", "lupine", "-D", HOME, *options, script=lab.script("alice", *lines))


def output(job):
    return f"{HOME}/slurm-{job}.out"


def seen(lab, job):
    text = lab.read(output(job))
    lines = [line for line in text.splitlines() if line.startswith("{")]
    assert lines, text
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("container", [(), (IMAGE,)], ids=["host", "container"])
def test_a_quarter_of_a_gpu(lab, container):
    job = submit(lab, "--gres=gpu:0.25", *container)
    assert lab.wait(job) == "COMPLETED"
    [found] = seen(lab, job)
    gpu = int(found["CUDA_VISIBLE_DEVICES"])
    assert found["LUPINE_SERVER"] == SERVER and found["LUPINE_DISABLE_LOCAL"] == "1"
    assert found["LD_LIBRARY_PATH"].split(":")[0] == "/opt/lupine/lib"
    assert found["uuids"] == [lab.uuids[gpu]] and found["got"] == 0

    [row] = lab.sacct(job, "Extra", "AllocTRES")
    grant = json.loads(row["Extra"])
    assert {name: grant[name] for name in ("backend", "gpus", "fraction", "slices", "nodes", "request")} == {
        "backend": "lupine",
        "gpus": 1,
        "fraction": 0.25,
        "slices": 25,
        "nodes": 1,
        "request": "gpu:0.25",
    }
    assert grant["memory"] == P100_MIB // 4 << 20
    assert "gres/lupine=25" in row["AllocTRES"].split(",")
    assert lab.job(job)["Licenses"] == f"gpu{gpu}@lupine1:25"

    assert f"job {job} ended: 1 record(s)" in lab.read("/var/log/lab/agent-l1.log")
    [line] = lab.report("--job", str(job))
    assert (line["backend"], line["fraction"], line["gpus"]) == ("lupine", 0.25, 1)
    # Nobody here knows how much of a server's GPU was whose.
    assert (line["quality"], line["gpu_seconds_used"], line["memory_peak_bytes"]) == ("unknown", None, None)


def test_the_user_is_told_that_nothing_holds_a_job_to_its_share(lab):
    done = lab.run("srun", "-p", "lupine", "--gres=gpu:0.25", "true", user="alice")
    assert "0.25 of one GPU" in done.stderr and "nothing holds a job to its share" in done.stderr


def test_shares_are_packed_and_what_does_not_fit_waits(lab):
    holding = [submit(lab, "--gres=gpu:0.75", lines=("sleep 600",)) for _ in range(2)]
    try:
        for job in holding:
            lab.wait_running(job)
        of = {lab.job(job)["Licenses"]: job for job in holding}
        assert set(of) == {"gpu0@lupine1:75", "gpu1@lupine1:75"}
        waiting = submit(lab, "--gres=gpu:0.5")
        until("why it waits", lambda: lab.job(waiting)["Reason"] == "Licenses")
        gpu = int(lab.job(waiting)["Licenses"].removeprefix("gpu").removesuffix("@lupine1:50"))
        lab.run("scancel", str(of[f"gpu{gpu}@lupine1:75"]))
        assert lab.wait(waiting) == "COMPLETED"
        assert seen(lab, waiting)[0]["uuids"] == [lab.uuids[gpu]]
    finally:
        lab.run("scancel", *map(str, holding))


def test_whole_gpus_lie_on_one_server(lab):
    job = submit(lab, "--gres=gpu:2", IMAGE)
    assert lab.wait(job) == "COMPLETED"
    [found] = seen(lab, job)
    assert sorted(found["uuids"]) == sorted(lab.uuids)
    assert sorted(found["CUDA_VISIBLE_DEVICES"].split(",")) == ["0", "1"]


def test_each_task_has_a_gpu_of_its_own(lab):
    job = submit(lab, "-n2", "--ntasks-per-node=2", "--gpus-per-task=0.75", lines=(f"srun {RUN} 100",))
    assert lab.wait(job) == "COMPLETED"
    found = seen(lab, job)
    assert {each["SLURM_LOCALID"] for each in found} == {"0", "1"}
    assert {each["uuids"][0] for each in found} == set(lab.uuids)
    assert all(len(each["uuids"]) == 1 for each in found)


def test_nothing_is_left_on_the_server(lab):
    job = submit(lab, "--gres=gpu:2", lines=(f"sleep 600 | {RUN} 16000 wait",))
    until("its output", lambda: lab.read(output(job)).startswith("{"))
    assert seen(lab, job)[0]["got"] == 0
    lab.run("scancel", str(job))
    lab.wait(job)
    again = submit(lab, "--gres=gpu:2", lines=(RUN + " 16000",))
    assert lab.wait(again) == "COMPLETED"
    assert seen(lab, again)[0]["got"] == 0


def test_a_node_without_the_shims_says_so(lab):
    lab.run("mv", "/opt/lupine/lib/libcuda.so.1", "/opt/lupine/lib/away")
    try:
        done = lab.run("srun", "-p", "lupine", "--gres=gpu:0.25", "true", user="alice", check=False)
    finally:
        lab.run("mv", "/opt/lupine/lib/away", "/opt/lupine/lib/libcuda.so.1")
    assert "libcuda.so.1 is not on this node: install LUPINE's client libraries there" in done.stderr
    assert done.returncode == 78
