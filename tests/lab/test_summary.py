"""Summaries in AdminComment, written by `gpushare serve`, read by the real reportseff and as the format says."""

import base64
import fcntl
import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_gpushare.accounting.summary import decode
from tests.lab.cluster import Cluster, until
from tests.lab.daemons import kill, pids, start

REPORTSEFF = "reportseff==2.10.3"
CACHE = Path(__file__).resolve().parents[2] / "build" / "reportseff"
POLICY = "/etc/gpushare/gpushare.yaml"
SWITCH_ON = (
    f"import yaml; p = {POLICY!r}; d = yaml.safe_load(open(p)); "
    "d['service']['admin_comment'] = True; yaml.safe_dump(d, open(p, 'w'))"
)
# 20 % of the GPU, four fifths of a quarter.
BUSY = "gpu-workload --gpu 0 --sm 20 --memory 2G --seconds 12"


@pytest.fixture(scope="module", params=["cluster", "new_cluster"])
def lab(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A lab of each Slurm version whose service writes summaries."""
    cluster = request.getfixturevalue(request.param)
    before = cluster.read(POLICY)
    cluster.run("/opt/gpushare/bin/python3", "-c", SWITCH_ON)
    kill(cluster, "serve", "TERM")
    start(cluster, "serve")
    yield cluster
    cluster.run("sh", "-c", f"cat >{POLICY}", stdin=before)
    if pids(cluster, "serve"):
        kill(cluster, "serve", "TERM")
    start(cluster, "serve")


@pytest.fixture(scope="session")
def wheel() -> Path:
    """reportseff as PyPI has it, fetched once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    # Each process of pytest-xdist has a session fixture of its own.
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(CACHE.glob("reportseff-*.whl")):
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            subprocess.run([*pip, "--dest", CACHE, REPORTSEFF], check=True)
    return next(CACHE.glob("reportseff-*.whl"))


def submit(lab: Cluster, *options: str, work: str = BUSY) -> int:
    options = ("-pshard", "-N1", "--gres=gpu:0.25", "-o/home/alice/summary-%j.out", *options)
    return lab.sbatch("alice", *options, script=lab.script("alice", work))


def comment(lab: Cluster, job: int | str, run: int = -1) -> str:
    rows = lab.sacct(job, "AdminComment", "JobID")  # a row must not be empty: it would be stripped
    return rows[run]["AdminComment"] if rows else ""


def summary(lab: Cluster, job: int | str) -> dict:
    """Return a job's summary, by the steps that jobstats' own readers take."""
    text = str(until(f"the summary of job {job}", lambda: comment(lab, job), 60))
    assert text.startswith("JS1:H4s")
    return json.loads(gzip.decompress(base64.b64decode(text[4:])))


def gpus(lab: Cluster, job: int | str) -> dict:
    """Return the tables of the job's one node."""
    (node,) = summary(lab, job)["nodes"].values()
    return node


@pytest.fixture(scope="module")
def shares(lab: Cluster) -> list[int]:
    """Two quarters of one GPU beside each other, both ended and summed up."""
    jobs = [submit(lab), submit(lab, work="gpu-workload --gpu 0 --sm 5 --memory 1G --seconds 12")]
    assert [lab.wait(job) for job in jobs] == ["COMPLETED"] * 2
    for job in jobs:
        summary(lab, job)
    return jobs


def test_a_share_has_a_summary_of_its_own(lab: Cluster, shares: list[int]) -> None:
    gib = 1024**3
    for job, percent, memory in zip(shares, (80, 20), (2 * gib, gib), strict=True):
        found = summary(lab, job)
        row = lab.sacct(job, "Start", "End", "NodeList")[0]
        assert (found["total_time"], found["gpus"]) == (int(row["End"]) - int(row["Start"]), 1)
        assert list(found["nodes"]) == [row["NodeList"]]
        node = found["nodes"][row["NodeList"]]
        (gpu,) = node["gpu_utilization"]
        assert node["gpu_share"] == {gpu: 0.25}
        # The job's own start and end take part of its time.
        assert 0.75 * percent <= node["gpu_utilization"][gpu] <= 1.02 * percent + 1
        assert memory <= node["gpu_used_memory"][gpu] <= 1.3 * memory
        assert node["gpu_total_memory"][gpu] > node["gpu_used_memory"][gpu]
        assert node["cpus"] == 1 and 0 < node["used_memory"] <= node["total_memory"] and node["total_time"] >= 0


def test_reportseff_shows_it(lab: Cluster, shares: list[int], wheel: Path) -> None:
    packed = base64.b64encode(wheel.read_bytes()).decode()
    lab.run("sh", "-c", "base64 -d >/home/alice/reportseff.whl", user="alice", stdin=packed)
    program = (
        "import sys; sys.path.insert(0, '/home/alice/reportseff.whl'); from reportseff.console import main; main()"
    )
    text = lab.out(
        *("env", "LC_ALL=C.UTF-8", "/opt/gpushare/bin/python3", "-c", program, "--no-color"),
        *("--format", "JobID,GPUEff,GPUMem,CPUEff,MemEff", "--parsable", *map(str, shares)),
        user="alice",
    )
    rows = {line.split("|")[0]: line.split("|")[1:] for line in text.splitlines()}
    for job in shares:
        node = gpus(lab, job)
        (gpu,) = node["gpu_utilization"]
        efficiency, memory = (float(value) for value in rows[str(job)][:2])
        assert efficiency == pytest.approx(node["gpu_utilization"][gpu], abs=0.1)
        assert memory == pytest.approx(100 * node["gpu_used_memory"][gpu] / node["gpu_total_memory"][gpu], abs=0.1)


def test_the_text_of_others_stays(lab: Cluster) -> None:
    job = submit(lab, work="gpu-workload --gpu 0 --sm 20 --memory 1G --seconds 3")
    lab.wait_running(job)
    lab.run("scontrol", "update", f"jobid={job}", "admincomment=ticket 12")
    other = submit(lab, work="gpu-workload --gpu 0 --sm 20 --memory 1G --seconds 3")
    assert [lab.wait(job), lab.wait(other)] == ["COMPLETED"] * 2
    summary(lab, other)  # ended later: the first was looked at before
    assert comment(lab, job) == "ticket 12"


def test_what_ended_while_the_service_was_away_is_made_up_for(lab: Cluster) -> None:
    kill(lab, "serve")
    jobs = [submit(lab, work="gpu-workload --gpu 0 --sm 20 --memory 1G --seconds 2") for _ in range(2)]
    assert [lab.wait(job) for job in jobs] == ["COMPLETED"] * 2
    lab.run("sacctmgr", "-i", "modify", "job", "where", f"jobid={jobs[0]}", "set", "admincomment=JS1:Short")
    start(lab, "serve")
    summary(lab, jobs[1])
    assert comment(lab, jobs[0]) == "JS1:Short"


def test_each_task_of_an_array_has_its_own(lab: Cluster) -> None:
    work = "gpu-workload --gpu 0 --sm $SLURM_ARRAY_TASK_ID --memory 1G --seconds 4"
    array = submit(lab, "--array=5,20", work=work)
    assert {lab.wait(f"{array}_{task}") for task in (5, 20)} == {"COMPLETED"}
    low, high = (max(gpus(lab, f"{array}_{task}")["gpu_utilization"].values()) for task in (5, 20))
    assert 0 < low <= 22 < high <= 83


def test_the_last_run_of_a_requeued_job_has_its_own(lab: Cluster) -> None:
    job = submit(lab, "--requeue", work="gpu-workload --gpu 0 --sm 20 --memory 1G --seconds 4")
    lab.wait_running(job)
    lab.run("scontrol", "requeue", str(job))
    until("the second run", lambda: len(lab.sacct(job, "Restarts")) == 2)
    assert lab.wait(job, 200) == "COMPLETED"
    until("the summary of the second run", lambda: comment(lab, job), 60)
    row = lab.sacct(job, "Start", "End")[-1]
    assert summary(lab, job)["total_time"] == int(row["End"]) - int(row["Start"])
    # The first has one where Slurm had not yet submitted the job anew: its own.
    first = decode(comment(lab, job, run=0))
    row = lab.sacct(job, "Start", "End")[0]
    assert first is None or first["total_time"] == int(row["End"]) - int(row["Start"])
