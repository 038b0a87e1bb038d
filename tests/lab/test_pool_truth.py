"""`gpushare pool` and `gpushare pool sync` on a pool of three servers with two GPUs each, placed in both ways."""

import json
import re
from collections.abc import Iterator

import pytest

from tests.lab.cluster import Cluster, until
from tests.lab.daemons import kill, start, start_those_that_are_down

SYNC = ["gpushare", "pool", "sync", "--pause", "0.2"]
OWNERLESS = 4000000  # the number of a job that Slurm never had


@pytest.fixture(params=["pinned_cluster", "first_fit_cluster"], ids=["pinned", "first_fit"])
def both(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A lab without jobs, whose pool and Slurm agree, before and after the test."""
    yield from _settled(request.getfixturevalue(request.param))


@pytest.fixture
def pool(pinned_cluster: Cluster) -> Iterator[Cluster]:
    """The same, for what has nothing to do with the placement."""
    yield from _settled(pinned_cluster)


def _settled(lab: Cluster) -> Iterator[Cluster]:
    until("pool and Slurm agree", lambda: _status(lab)[0] == 0, 60)
    yield lab
    start_those_that_are_down(lab, ["pool", "pool2"])
    lab.run("scancel", "--user=alice")
    until("an empty queue", lambda: not lab.out("squeue", "-h"), 60)
    until("an empty pool", lambda: not any(lab.pool(server)["allocations"] for server in (1, 2, 3)), 60)
    lab.run(*SYNC)
    status, seen = _status(lab)
    assert (status, seen["differences"], seen["gpus_used_pool"], seen["gpus_used_slurm"]) == (0, [], 0, 0)


def _status(lab: Cluster) -> tuple[int, dict]:
    done = lab.run("gpushare", "pool", "--format", "json", check=False)
    return done.returncode, json.loads(done.stdout)


def _kinds(lab: Cluster) -> list[str]:
    return [difference["kind"] for difference in _status(lab)[1]["differences"]]


def _licences(lab: Cluster, server: str) -> dict[str, tuple[int, int]]:
    """Return total and free of each GPU's licence of a server."""
    text = lab.out("scontrol", "show", "licenses", "-o")
    found = re.findall(rf"LicenseName=(gpu\d@{server}) Total=(\d+) Used=\d+ Free=(\d+)", text)
    return {name: (int(total), int(free)) for name, total, free in found}


def _submit(lab: Cluster) -> int:
    """Submit a job of a whole GPU and wait until it runs or waits for licences."""
    options = ("-pbitfusion", "--gres=gpu:1", "-t20", "-o/dev/null")
    job = lab.sbatch("alice", *options, script=lab.script("alice", "exec sleep 600"))
    states = ("RUNNING", "PENDING Licenses")
    until("its state", lambda: lab.out("squeue", "-h", f"-j{job}", "-o%T %r").removesuffix(" None") in states)
    return job


def _fill(lab: Cluster, gpus: int, waiting_for: str = "") -> list[int]:
    """Submit jobs until ``gpus`` of them run, and one waits that ``waiting_for`` would do for; return these last.

    Where job_submit chooses the GPU, it goes by what it chose before: how many jobs it takes is not for a test to say.
    """
    for _ in range(60):
        waiting = [int(job) for job, named in _queue(lab, "PD") if waiting_for and waiting_for in named]
        if len(_run(lab)) == gpus and (waiting or not waiting_for):
            return waiting
        _submit(lab)
    raise AssertionError(f"60 jobs do not fill {gpus} GPUs")


def _queue(lab: Cluster, state: str) -> list[list[str]]:
    return [line.split() for line in lab.out("squeue", "-h", f"-t{state}", "-o%i %W").splitlines()]


def _run(lab: Cluster) -> list[int]:
    return [int(job) for job, _ in _queue(lab, "R")]


def _used(lab: Cluster) -> float:
    return _status(lab)[1]["gpus_used_pool"]


def test_a_server_goes_and_comes_back(both: Cluster) -> None:
    kill(both, "pool2")
    status, seen = _status(both)
    assert status == 1
    assert [difference["kind"] for difference in seen["differences"]] == ["server_away"]
    assert "server2 (10.77.0.11:56001) does not answer" in seen["differences"][0]["text"]
    assert {gpu["state"] for gpu in seen["gpus"] if gpu["server"] == "server2"} == {"away"}

    said = both.out(*SYNC, "--dry-run").splitlines()
    assert [line.partition(":")[0] for line in said] == [
        f"would run `sacctmgr -i modify resource where name=gpu{gpu} server=server2 set lastconsumed=200`"
        for gpu in (0, 1)
    ]
    assert _licences(both, "server2") == {"gpu0@server2": (100, 100), "gpu1@server2": (100, 100)}

    said = both.out(*SYNC).splitlines()
    assert [line.split()[0] for line in said] == ["run", "run"]
    assert _licences(both, "server2") == {"gpu0@server2": (100, 0), "gpu1@server2": (100, 0)}
    assert _licences(both, "server1") == {"gpu0@server1": (100, 100), "gpu1@server1": (100, 100)}
    assert both.out(*SYNC) == "4 of 6 GPUs are there; Slurm's licences are right"

    waiting = _fill(both, 4, "@server2")
    until("their allocations", lambda: _used(both) == 4)
    why = json.loads(both.out("gpushare", "why", str(waiting[0]), "--format", "json", user="alice"))
    assert why["kind"] == "full"
    assert "the pool's server server2 is out of use: `gpushare pool` tells why" in why["details"]

    start(both, "pool2")
    until("the server again", lambda: _kinds(both)[:2] == ["withheld", "withheld"])
    assert [line.split()[0] for line in both.out(*SYNC).splitlines()] == ["run", "run"]
    until("a job that waited", lambda: set(waiting) & set(_run(both)), 60)
    until("all allocations", lambda: _used(both) == len(_run(both)) > 4, 60)
    status, seen = _status(both)
    assert (status, seen["differences"], seen["gpus_used_slurm"]) == (0, [], seen["gpus_used_pool"])
    assert sorted(job for gpu in seen["gpus"] for job in gpu["jobs"]) == sorted(_run(both))


def test_jobs_on_a_server_that_is_away_are_named_and_what_they_give_back_goes_to_nobody(both: Cluster) -> None:
    _fill(both, 6)
    until("six allocations", lambda: _used(both) == 6, 60)
    jobs = _run(both)
    there = [job for gpu in _status(both)[1]["gpus"] if gpu["server"] == "server2" for job in gpu["jobs"]]
    assert len(there) == 2
    kill(both, "pool2")
    differences = _status(both)[1]["differences"]
    assert differences[0]["kind"] == "server_away"
    named = [one["text"] for one in differences if one["kind"] == "job_on_absent"]
    assert all(f"job {job} of alice" in text for job, text in zip(sorted(there), named, strict=True))
    both.run(*SYNC)
    both.run("scancel", *map(str, there))
    until("their end", lambda: not set(there) & set(map(int, both.out("squeue", "-h", "-o%i").split())), 60)
    assert _licences(both, "server2") == {"gpu0@server2": (100, 0), "gpu1@server2": (100, 0)}
    assert set(_run(both)) == set(jobs) - set(there)


def test_an_allocation_past_slurm_is_shown_and_kept_from_jobs(pool: Cluster) -> None:
    pool.run("bitfusion", "request_gpus", "-n", "1", "-p", "0.3", "--server_list", "10.77.0.11:56001", user="alice")
    try:
        status, seen = _status(pool)
        (difference,) = seen["differences"]
        assert (status, difference["kind"], difference["where"]) == (1, "pool_has_more", "server2")
        assert "the pool has 0.3 GPU in use, Slurm's jobs hold 0 GPU" in difference["text"]
        (act,) = pool.out(*SYNC).splitlines()
        assert "set lastconsumed=30`" in act
        assert sorted(free for _, free in _licences(pool, "server2").values()) == [70, 100]
        assert "Slurm gives that much to nobody" in _status(pool)[1]["differences"][0]["text"]
        (partly,) = [gpu["gpu"] for gpu in _status(pool)[1]["gpus"] if gpu["withheld"]]
        _fill(pool, 5, f"gpu{partly}@server2")
    finally:
        pool.run("bitfusion", "release_gpus", user="alice")
    assert "set lastconsumed=0`" in pool.out(*SYNC)
    until("the sixth", lambda: len(_run(pool)) == 6, 60)


def test_what_a_job_left_that_slurm_no_longer_has_is_given_back(pool: Cluster) -> None:
    folder, record = f"/var/lib/gpushare-node/c1/jobs/{OWNERLESS}", f"/run/gpushare/c1/jobs/{OWNERLESS}"
    launch = {"v": 1, "job_id": OWNERLESS, "uid": 0, "gid": 0, "user": "alice", "node": "c1", "cluster": "x"}
    launch |= {
        "started": 0,
        "grant": None,
        "gpus": [],
        "container": None,
        "refused": None,
        "sluid": None,
        "options": {},
    }
    pool.run("mkdir", "-p", f"{folder}/work", record, node="c1")
    pool.run("tee", f"{record}/launch.json", stdin=json.dumps(launch), node="c1")
    pool.run("chown", "alice:", f"{folder}/work", node="c1")
    pool.run("env", f"TMPDIR={folder}/work", "bitfusion", "request_gpus", "-n1", "-p0.5", user="alice", node="c1")
    assert _kinds(pool) == ["pool_has_more"]
    said = pool.out("gpushare", "pool", "sync", "--here", "--dry-run", node="c1")
    assert said == f"would give back what job {OWNERLESS}, which is over, left in {folder}"
    assert pool.allocations()
    assert pool.out("gpushare", "pool", "sync", "--here", node="c1") == said.replace("would give", "gave")
    assert not pool.allocations()
    assert pool.run("test", "-e", folder, "-o", "-e", record, node="c1", check=False).returncode == 1
    assert pool.out("gpushare", "pool", "sync", "--here", node="c1") == "no job that is over left anything on this node"


def test_running_jobs_are_not_taken_for_leftovers(pool: Cluster) -> None:
    _fill(pool, 2)
    until("two allocations", lambda: _used(pool) == 2, 60)
    assert pool.out("gpushare", "pool", "sync", "--here") == "no job that is over left anything on this node"
    pool.run(*SYNC)
    assert _used(pool) == 2


def test_users_may_look_but_not_change(pool: Cluster) -> None:
    assert pool.run("gpushare", "pool", user="alice").stdout.endswith("policy, pool and Slurm agree\n")
    kill(pool, "pool2")
    done = pool.run(*SYNC, user="alice", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("gpushare: sacctmgr: ")
    assert _licences(pool, "server2") == {"gpu0@server2": (100, 100), "gpu1@server2": (100, 100)}


def test_what_is_missing_is_told(pool: Cluster) -> None:
    done = pool.run("gpushare", "pool", "--policy", "/nowhere.yaml", check=False)
    assert done.returncode == 1
    assert done.stderr == "gpushare: /nowhere.yaml: No such file or directory: name the policy's file\n"
