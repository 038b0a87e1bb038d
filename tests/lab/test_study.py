"""`gpushare study` through Slurm: real jobs with whole GPUs and shares; what they compute is a program that waits."""

import json

import pytest

from slurm_gpushare.lab.params import SLURM_VERSIONS
from tests.lab.cluster import Cluster, until

HOME = "/home/alice/study"
# It needs a moment, so that jobs meet, and fails for one model.
PROGRAM = """#!/usr/bin/env python3
import sys, time
time.sleep(2)
if sys.argv[1] == "--model=broken":
    sys.exit("no such network")
print("Devices:  ['/cpu:0']")
print("total images/sec: 50.00")
"""


@pytest.fixture(params=["cluster", "new_cluster"], ids=SLURM_VERSIONS)
def lab(request: pytest.FixtureRequest) -> Cluster:
    """A lab of each version, with the program in alice's home."""
    lab = request.getfixturevalue(request.param)
    make = f"rm -rf {HOME} && mkdir {HOME} && cat >{HOME}/program && chmod 755 {HOME}/program"
    lab.run("sh", "-c", make, user="alice", stdin=PROGRAM)
    until("an empty queue", lambda: not lab.out("squeue", "-h", "-ualice"), 60)
    return lab


def study(lab: Cluster, *options: str, check: bool = True) -> tuple[int, str, str]:
    words = ["--jobs=2", "--repeat=1", "--burn-in=0", f"--command={HOME}/program", "--ways=shard", f"--out={HOME}/out"]
    done = lab.run("gpushare", "study", *words, *options, "--", "--nodelist=n1", user="alice", check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.returncode, done.stdout, done.stderr


def test_whole_and_shares_are_compared(lab: Cluster) -> None:
    _, table, _ = study(lab, "--models=one,two")
    results = json.loads(lab.read(f"{HOME}/out/results.json"))
    whole, shared = results["cases"]
    assert (whole["jobs"], whole["fraction"], shared["jobs"], shared["fraction"]) == (1, 1, 2, 0.5)
    assert (whole["backend"], shared["backend"]) == (None, "shard")  # a whole GPU is Slurm's own
    (comparison,) = results["comparisons"]
    assert comparison["throughput_ratio"] == {"one": 2.0, "two": 2.0}
    assert comparison["work_ratio"] == pytest.approx(2 / comparison["completion_ratio"])
    assert shared["rounds"][0]["objection"] is None and shared["rounds"][0]["seconds"] >= 4
    assert results["gpu"] is False and "these are not numbers of a GPU" in table

    jobs = {run["job"]: run for case in results["cases"] for one in case["rounds"] for run in one["runs"]}
    assert len(jobs) == 3
    for job, run in jobs.items():
        assert lab.wait(job) == "COMPLETED"
        (row,) = lab.sacct(job, "AllocTRES", "JobName")
        amount = {"study-whole-1": "gres/gpu=1", "study-shard-1": "gres/shard=50"}[row["JobName"]]
        assert amount in row["AllocTRES"].split(",") and sorted(run["order"]) == ["one", "two"]

    # The same command has nothing left to run.
    before = lab.out("sacct", "-XnPu", "alice", "-S", "now-1hours", "-o", "JobIDRaw")
    assert "round" not in study(lab, "--models=one,two")[2]
    assert lab.out("sacct", "-XnPu", "alice", "-S", "now-1hours", "-o", "JobIDRaw") == before


def test_a_failure_is_told_and_nothing_is_left(lab: Cluster) -> None:
    status, _, said = study(lab, "--models=broken", check=False)
    assert status == 1 and "broken: status 1" in said and "Traceback" not in said
    assert not lab.out("squeue", "-h", "-ualice", "--states=PD,R")
    status, _, said = study(lab, "--models=one", f"--out={HOME}/none", "--whole=nowhere", check=False)
    assert status == 1 and "nowhere" in said and "Traceback" not in said
