"""Where the allocations of a job lie: what Slurm gave, what nodes read of it and what the pool's servers hold agree."""

import json
import re
from collections import Counter

import pytest

from slurm_gpushare.backends.places import find_places
from slurm_gpushare.grant import decode_grant
from slurm_gpushare.node_policy import BackendPolicy
from tests.lab.cluster import Cluster, until

SERVERS = {f"server{number}": f"10.77.0.{9 + number}:56001" for number in (1, 2, 3)}
SETTINGS = BackendPolicy(servers=SERVERS)
OUT = "/home/alice/places-%j.out"

# Every step makes the allocations of its own tasks and then waits for them all to be looked at.
STEP = ["echo ready >>ready.$SLURM_JOB_ID", "while [ ! -e go.$SLURM_JOB_ID ]; do sleep 0.1; done"]


@pytest.fixture(params=["pinned_cluster", "first_fit_cluster"], ids=["pinned 24.11", "first_fit 26.05"])
def site(request: pytest.FixtureRequest) -> Cluster:
    """A pool of three servers with two GPUs each, in each placement."""
    return request.getfixturevalue(request.param)


def given(site: Cluster, job: int) -> str:
    """The licences that Slurm gave a job."""
    told = site.job(job)
    return told.get("LicensesAlloc", told["Licenses"])


def grant_of(site: Cluster, job: int) -> object:
    text = site.out("scontrol", "show", "job", str(job), "--json")
    return decode_grant(json.loads(text)["jobs"][0]["extra"])


def held(site: Cluster) -> Counter:
    """What the pool's servers hold: of which GPUs how many MiB each, for each allocation."""
    found: Counter = Counter()
    for number, name in enumerate(SERVERS, start=1):
        for allocation in site.pool(number)["allocations"]:
            found[name, tuple(sorted(allocation["gpus"])), allocation["mib"]] += 1
    return found


@pytest.mark.parametrize(
    "options",
    [
        "--gres=gpu:0.25",
        "--gres=gpu:2",
        "--gres=gpu:0.5:2",
        "--gres=gpu:0.25 --licenses=matlab:1",
        "-n2 --gpus-per-task=0.5",
        "-n3 --gpus-per-task=0.75",
        "-N2 --gres=gpu:0.75",
        "-N2 -n4 --gpus-per-task=0.5",
    ],
)
def test_every_allocation_lies_where_slurm_has_it(site: Cluster, options: str) -> None:
    until("an empty pool", lambda: not held(site))
    tasks = "" if "per-task" in options else "--ntasks-per-node=1 "
    step = "; ".join(STEP)
    lines = ["cd $HOME", f"srun {tasks}sh -c '{step}'"]
    job = site.sbatch("alice", "-pbitfusion", f"-o{OUT}", *options.split(), script=site.script("", *lines))
    site.wait_running(job)
    grant, licences = grant_of(site, job), given(site, job)
    wanted = Counter(
        (place.server, place.gpus, grant.memory >> 20)
        for node in range(grant.nodes)
        for place in find_places(licences, grant, SETTINGS, 100, node)
    )
    steps = grant.nodes * grant.tasks
    try:
        until(
            f"{steps} tasks: {site.read(OUT.replace('%j', str(job)))}",
            lambda: len(site.read(f"/home/alice/ready.{job}").split()) == steps,
        )
        assert held(site) == wanted
        assert re.findall(r"\|", licences) == []
    finally:
        site.run("touch", f"/home/alice/go.{job}", user="alice")
    assert site.wait(job) == "COMPLETED"


def test_a_change_of_a_pending_job_has_licences_of_the_new_share(site: Cluster) -> None:
    job = site.sbatch("alice", "--hold", "-pbitfusion", "--gres=gpu:0.25", script=site.script("", "true"))
    several = "|" in site.job(job)["Licenses"]
    for change, pattern, slices in (
        ("gres=gpu:0.5", r"(gpu\d@server\d:50[|]?)+", 50),
        ("licenses=matlab:1", r"matlab:1,gpu\d@server\d:50", 50),
        ("gres=gpu:2", r"matlab:1,gpu0@(server\d):100,gpu1@\1:100", 200),
        ("licenses=", r"gpu0@(server\d):100,gpu1@\1:100", 200),
        ("gres=gpu:0.25", r"(gpu\d@server\d:25[|]?)+", 25),
    ):
        site.run("scontrol", "update", f"jobid={job}", change, user="alice")
        licences = site.job(job)["Licenses"]
        assert re.fullmatch(pattern, licences) and grant_of(site, job).slices == slices, change
    assert ("|" in licences) == several
    refused = site.run("scontrol", "update", f"jobid={job}", "licenses=gpu0@server1:1", user="alice", check=False)
    assert refused.returncode != 0 and "given by gpushare alone" in refused.stderr
    assert site.job(job)["Licenses"] == licences
    site.run("scancel", str(job))


def test_nobody_asks_for_licences_of_gpus_by_hand(site: Cluster) -> None:
    done = site.run("sbatch", "-pbitfusion", "-Lgpu0@server1:25", "--wrap=true", user="alice", check=False)
    assert done.returncode != 0 and "licences of bitfusion are given by gpushare alone" in done.stderr


def test_slurmctld_that_does_not_tell_fails_the_job_and_not_the_node(first_fit_cluster: Cluster) -> None:
    site = first_fit_cluster
    site.run("mv", "/usr/bin/squeue", "/usr/bin/squeue.away")
    try:
        job = site.sbatch("alice", "-pbitfusion", f"-o{OUT}", "--gres=gpu:0.25", script=site.script("", "echo ran"))
        until(f"the end of job {job}", lambda: site.state(job) == "FAILED")
    finally:
        site.run("mv", "/usr/bin/squeue.away", "/usr/bin/squeue")
    assert site.job(job)["ExitCode"] == "75:0"
    told = site.read(OUT.replace("%j", str(job)))
    assert "which GPU of the pool Slurm chose is not known: squeue: not found" in told and "ran" not in told
    assert site.out("sinfo", "-hR") == ""
