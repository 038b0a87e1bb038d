"""MPS on a node, from the first job to the last, on both versions of Slurm; and what newer drivers bring."""

import json

import pytest

from tests.lab import daemons as lab_daemons
from tests.lab.cluster import Cluster, until
from tests.lab.local_jobs import HOME, output, submit, uuids


@pytest.fixture
def lab(local_lab: Cluster) -> Cluster:
    """The lab with a node for each local backend, on each version of Slurm."""
    return local_lab


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
        "d['backends']['mps'].update(yaml.safe_load(sys.argv[1])); yaml.safe_dump(d, open(p, 'w'))"
    )

    def set_users(way: str, **settings: float) -> None:
        lab.run("/opt/gpushare/bin/python3", "-c", change, json.dumps({"users": way} | settings))
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


# MPS of newer drivers


@pytest.fixture
def driver(lab: Cluster):
    """Return a function that gives the node of MPS another driver and other GPUs; all is as before at the end."""
    path = "/etc/lab/gpu-m1.json"
    before = lab.read(path)

    def restart(text: str) -> None:
        lab.run("sh", "-c", f"cat >{path}", stdin=text)
        lab_daemons.kill(lab, "gpu-m1")
        lab_daemons.start(lab, "gpu-m1")

    def change(version: str, **gpu: str) -> None:
        document = json.loads(before)
        document["gpus"] = [one | gpu for one in document["gpus"]]
        restart(json.dumps(document | {"driver_version": version}))

    yield change
    until("the end of MPS", lambda: nothing_left(lab))
    restart(before)


EXCLUSIVE = {"compute_mode": "EXCLUSIVE_PROCESS", "capability": "8.0"}
# As a user would try who has read about MPS: each way around the limits, and what it gives.
TRY = """import os, subprocess, sys
pipe = os.environ["CUDA_MPS_PIPE_DIRECTORY"]
for name, change in {
    "as it is": {},
    "without the variables": {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": None, "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": None,
                              "CUDA_MPS_SM_PARTITION": None},
    "without MPS": {"CUDA_MPS_PIPE_DIRECTORY": "/tmp/none"},
    "another way in": {"CUDA_MPS_PIPE_DIRECTORY": os.path.dirname(pipe)},
    "the main way in": {"CUDA_MPS_PIPE_DIRECTORY": os.path.dirname(os.path.dirname(pipe))},
}.items():
    variables = {k: v for k, v in (os.environ | change).items() if v is not None}
    argv = ["gpu-workload", "--gpu", "0", "--sm", "10", "--memory", sys.argv[1], "--seconds", "1"]
    done = subprocess.run(argv, env=variables, capture_output=True, text=True)
    print(name, done.returncode == 0, done.stderr.strip(), sep=": ", flush=True)
"""


def tried(lab: Cluster, memory: str) -> dict[str, bool]:
    """Return by which ways around the limits a job of a quarter could have ``memory`` of the card."""
    lab.run("sh", "-c", f"cat >{HOME}/try.py", stdin=TRY)
    job = submit(lab, "mps", "gpu:0.25", lines=(f"python3 {HOME}/try.py {memory}",))
    assert lab.wait(job) == "COMPLETED", output(lab, job)
    rows = [line.split(": ") for line in output(lab, job).splitlines() if not line.startswith("{")]
    return {name: word == "True" for name, word, *_ in rows}


def test_a_namespace_of_mps_holds_whatever_a_program_tries(lab: Cluster, driver) -> None:
    driver("615.10.01", **EXCLUSIVE)
    assert tried(lab, "3G") == {
        "as it is": True,
        "without the variables": True,
        "without MPS": False,
        "another way in": False,
        "the main way in": False,
    }
    assert not any(tried(lab, "5G").values())


def test_jobs_in_namespaces_end_one_by_one(lab: Cluster, driver, held: list[int]) -> None:
    driver("615.10.01", **EXCLUSIVE)
    held += [hold(lab), hold(lab)]
    first, second = (running(lab, job) for job in held)
    assert first["CUDA_MPS_PIPE_DIRECTORY"].endswith(f"/j{held[0]}")
    lab.run("scancel", str(held[0]))
    lab.wait(held[0])
    assert len(daemons(lab)) == 1
    until(
        "its namespace to go",
        lambda: lab.run("ls", first["CUDA_MPS_PIPE_DIRECTORY"], node="m1", check=False).returncode,
    )
    assert lab.run("ls", second["CUDA_MPS_PIPE_DIRECTORY"], node="m1").returncode == 0


def test_a_static_partition_holds_whatever_a_program_tries(lab: Cluster, driver, users) -> None:
    driver("590.44.01", **EXCLUSIVE)
    users("one_per_node", fraction=0.25)
    assert tried(lab, "3G") == {
        "as it is": True,
        "without the variables": False,
        "without MPS": False,
        "another way in": False,
        "the main way in": False,
    }
    assert not any(tried(lab, "5G").values())
