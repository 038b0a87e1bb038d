"""The allocation of a job in the pool: made once, shared, looked after, waited for, asked for again, given back."""

import contextlib
import json
import time
from collections.abc import Iterator

import pytest

from tests.lab.cluster import Cluster, until
from tests.lab.conftest import AUTO_RELEASE

POOL = ["-pbitfusion", "-wc1"]
QUARTER = [*POOL, "--gres=gpu:0.25"]
OUT = "/home/alice/allocation-%j.out"

AGENT = "slurm_gpushare.metrics.agent --node c1"
SERVER = "slurm_gpushare.lab.standins.bitfusion.server --config /etc/lab/pool.json"


@pytest.fixture
def pool(releasing_cluster: Cluster) -> Cluster:
    """A lab whose pool soon takes back what nobody uses."""
    return releasing_cluster


@pytest.fixture(params=["releasing_cluster", "new_cluster"], ids=["24.11", "26.05"])
def versions(request: pytest.FixtureRequest) -> Cluster:
    """A lab with each version of Slurm."""
    return request.getfixturevalue(request.param)


@contextlib.contextmanager
def policy(cluster: Cluster, **changes: object) -> Iterator[None]:
    """Let the nodes have another policy for the pool."""
    path = "/etc/gpushare/node.json"
    before = cluster.read(path)
    policy = json.loads(before)
    policy["backends"]["bitfusion"].update(changes)
    cluster.run("tee", path, stdin=json.dumps(policy))
    try:
        yield
    finally:
        cluster.run("tee", path, stdin=before)


class Hog:
    """Somebody who takes the pool's GPU behind Slurm's back."""

    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        cluster.run("mkdir", "-p", "/home/bob/hog", user="bob")
        self.client("request_gpus", "-n", "1")
        # The pool would take it back: nobody uses it.
        hold = "TMPDIR=/home/bob/hog setsid bitfusion client -- sleep 600 </dev/null >/dev/null 2>&1 &"
        cluster.run("sh", "-c", hold, user="bob")

    def client(self, *words: str) -> None:
        self.cluster.run("env", "TMPDIR=/home/bob/hog", "bitfusion", *words, user="bob")

    def free(self) -> None:
        if self.cluster.out("ls", "/home/bob/hog"):
            self.client("release_gpus")
            self.cluster.run("pkill", "-u", "bob", "sleep", check=False)


@pytest.fixture
def hog(request: pytest.FixtureRequest) -> Iterator[Hog]:
    """The pool is full, and Slurm does not know."""
    name = "versions" if "versions" in request.fixturenames else "pool"
    cluster = request.getfixturevalue(name)
    until("an empty pool", lambda: not cluster.allocations())
    hog = Hog(cluster)
    yield hog
    hog.free()


def pids(cluster: Cluster, what: str) -> list[str]:
    """Return the processes whose argv ends with ``what``."""
    lines = cluster.out("ps", "-eo", "pid=,args=").splitlines()
    return [line.split()[0] for line in lines if line.endswith(what) and " -c " not in line]


@contextlib.contextmanager
def away(cluster: Cluster) -> Iterator[None]:
    """Let the pool's server be silent."""
    (server,) = pids(cluster, SERVER)
    cluster.run("kill", "-STOP", server)
    try:
        yield
    finally:
        cluster.run("kill", "-CONT", server)


def none_left(cluster: Cluster) -> None:
    until("an empty pool", lambda: not cluster.allocations(), 10)
    assert cluster.out("sinfo", "-hR") == ""


def test_tasks_and_parallel_steps_share_one_allocation(pool: Cluster) -> None:
    granted = pool.granted()
    step = "srun --overlap -n{} sh -c 'bitfusion list_gpus 2>/dev/null | grep -o \"(.*MiB\"' 2>/dev/null"
    lines = [step.format(4), step.format(2) + " &", step.format(1) + " &", "wait"]
    job = pool.sbatch("alice", *POOL, "--gres=gpu:0.5", "-n4", "-o" + OUT, script=pool.script("", *lines))
    assert pool.wait(job) == "COMPLETED"
    assert pool.read(OUT.replace("%j", str(job))).count("(8140 / 16280MiB") == 7
    assert pool.granted() == granted + 1
    none_left(pool)


def test_salloc_and_its_steps(pool: Cluster) -> None:
    granted = pool.granted()
    steps = "srun true && srun -n2 true && srun true"
    pool.run("salloc", *QUARTER, "-n2", "sh", "-c", steps, user="alice")
    assert pool.granted() == granted + 1
    none_left(pool)


def test_each_task_has_an_allocation_of_its_own(pool: Cluster) -> None:
    granted = pool.granted()
    look = "ls -d /var/lib/gpushare-node/c1/jobs/$SLURM_JOB_ID/work/$SLURM_LOCALID/bitfusion*"
    steps = [
        f"srun -n2 sh -c '{look}'",
        f"srun -n1 --overlap sh -c '{look}; sleep 1' & srun -n1 --overlap sh -c '{look}; sleep 1' & wait",
        "srun -n3 --overcommit echo never",
        "echo status $?",
        "bitfusion list_gpus",
    ]
    job = pool.sbatch("alice", *POOL, "--gpus-per-task=0.25", "-n2", "-o" + OUT, script=pool.script("", *steps))
    assert pool.wait(job) == "COMPLETED"
    lines = pool.read(OUT.replace("%j", str(job))).splitlines()
    found = [line for line in lines if line.startswith("/var/lib/gpushare-node/c1/")]
    # Tasks 0 and 1; then the only tasks of two steps, which share the first.
    assert len(found) == 4 and len(set(found)) == 2
    assert len([path for path in found if "/work/0/" in path]) == 3
    assert pool.granted() == granted + 2
    assert [line for line in lines if "free memory" in line] == [
        "   |- GPU [0]: free memory (8140 / 16280MiB) Tesla P100-PCIE-16GB (6.0)"
    ]
    assert "never" not in lines and "status 77" in lines
    assert any("step 3 has 3 tasks on this node, but the job has 2 shares of GPUs here" in line for line in lines)
    none_left(pool)


def test_an_idle_allocation_is_kept_by_the_agent(pool: Cluster) -> None:
    granted = pool.granted()
    steps = f"srun true && sleep {3 * AUTO_RELEASE} && srun true"
    pool.run("salloc", *QUARTER, "sh", "-c", steps, user="alice")
    assert pool.granted() == granted + 1
    none_left(pool)


def test_what_the_pool_took_back_is_asked_for_again(pool: Cluster) -> None:
    """Without an agent nobody keeps an idle allocation."""
    (agent,) = pids(pool, AGENT)
    pool.run("kill", "-KILL", agent)
    try:
        granted = pool.granted()
        steps = f"srun true && sleep {2 * AUTO_RELEASE} && srun -n2 bitfusion list_gpus && srun true"
        seen = pool.run("salloc", *QUARTER, "-n2", "sh", "-c", steps, user="alice")
        assert seen.stdout.count("free memory (12210 / 16280MiB)") == 2
        assert pool.granted() == granted + 2
        none_left(pool)
    finally:
        pool.run("sh", "-c", "setsid gpushare agent --node c1 </dev/null >/dev/null 2>&1 &", node="c1")
        until("the agent", lambda: pids(pool, AGENT))


def test_after_a_restart_of_the_server_the_next_step_asks_again(pool: Cluster) -> None:
    (server,) = pids(pool, SERVER)
    again = f"setsid /opt/gpushare/bin/python3 -m {SERVER} </dev/null >>/var/log/lab/pool.log 2>&1 &"
    steps = ["srun true", "touch here", "while [ -e here ]; do sleep 0.1; done", "srun bitfusion list_gpus"]
    job = pool.sbatch("alice", *QUARTER, "-D/home/alice", "-o" + OUT, script=pool.script("", *steps))
    until("the first step", lambda: pool.run("ls", "/home/alice/here", check=False).returncode == 0)
    pool.run("kill", "-KILL", server)
    until("its end", lambda: not pids(pool, SERVER))
    pool.run("sh", "-c", again)
    until("the server", lambda: pool.run("bitfusion", "health", user="bob", check=False).returncode == 0)
    assert pool.granted() == 0
    pool.run("rm", "/home/alice/here")
    assert pool.wait(job) == "COMPLETED"
    assert "free memory (12210 / 16280MiB)" in pool.read(OUT.replace("%j", str(job)))
    assert pool.granted() == 1
    none_left(pool)


def test_a_job_waits_for_a_full_pool_and_goes_on(pool: Cluster, hog: Hog) -> None:
    job = pool.sbatch("alice", *QUARTER, "-o" + OUT, script=pool.script("", "echo mine"))
    path = OUT.replace("%j", str(job))
    until("the word", lambda: "gpushare: the Bitfusion pool gave no GPUs yet" in pool.read(path))
    hog.free()
    assert pool.wait(job) == "COMPLETED"
    text = pool.read(path)
    assert text.startswith("gpushare: the Bitfusion pool gave no GPUs yet: waiting up to 60 s\n")
    assert "gpushare: the Bitfusion pool gave the GPUs after " in text and "mine\n" in text
    none_left(pool)


def test_a_pool_that_stays_full(pool: Cluster, hog: Hog) -> None:
    with policy(pool, wait=3.0):
        began = time.monotonic()
        job = pool.sbatch("alice", *QUARTER, "-o" + OUT, script=pool.script("", "echo mine"))
        done = pool.run("srun", *QUARTER, "-n4", "echo", "mine", user="alice", check=False)
        assert time.monotonic() - began < 30
        assert done.returncode == 75 and "mine" not in done.stdout
        assert done.stderr.count("waiting up to 3 s") == 1
        assert done.stderr.count("gpushare: the Bitfusion pool gave no GPUs (tried for ") == 4
        assert pool.wait(job) == "FAILED"
    assert pool.sacct(job, "ExitCode")[0]["ExitCode"] == "75:0"
    assert "mine" not in pool.read(OUT.replace("%j", str(job)))
    hog.free()
    none_left(pool)


def test_a_pool_that_does_not_answer(pool: Cluster) -> None:
    with policy(pool, wait=1.0), away(pool):
        job = pool.sbatch("alice", *QUARTER, "-o" + OUT, script=pool.script("", "echo mine"))
        done = pool.run("srun", *QUARTER, "-n2", "echo", "mine", user="alice", check=False)
        assert done.returncode == 69 and "mine" not in done.stdout
        assert "gpushare: the Bitfusion pool cannot be reached (tried for " in done.stderr
        assert pool.wait(job) == "FAILED"
    assert pool.sacct(job, "ExitCode")[0]["ExitCode"] == "69:0"
    none_left(pool)


@pytest.mark.parametrize("options", [[], ["-b"]], ids=["all", "batch only"])
def test_a_job_that_is_cancelled_while_it_waits(pool: Cluster, hog: Hog, options: list[str]) -> None:
    job = pool.sbatch("alice", *QUARTER, "-o" + OUT, script=pool.script("", "echo mine"))
    until("the word", lambda: "waiting up to" in pool.read(OUT.replace("%j", str(job))))
    began = time.monotonic()
    pool.run("scancel", "-sTERM" if options else "-Q", *options, str(job), user="alice")
    assert pool.wait(job) in ("CANCELLED", "FAILED")
    assert time.monotonic() - began < 15
    assert len(pool.allocations()) == 1
    hog.free()
    none_left(pool)


def test_a_refused_batch_job_is_requeued_with_its_licences(versions: Cluster, hog: Hog) -> None:
    with policy(versions, wait=0.0, requeue_limit=2, requeue_delay=3.0):
        script = versions.script("", "scontrol -o show lic bitfusion", "echo run $SLURM_RESTART_COUNT")
        job = versions.sbatch("alice", *QUARTER, "--open-mode=append", "-o" + OUT, script=script)
        path = OUT.replace("%j", str(job))
        until(
            "the word", lambda: f"job {job} is requeued (1 of 2), to start again in 3 s or later" in versions.read(path)
        )
        until("its return", lambda: versions.job(job)["JobState"] in ("PENDING", "RUNNING", "COMPLETING"))
        hog.free()
        until("its end", lambda: versions.job(job)["JobState"] == "COMPLETED", 60)
    text = versions.read(path)
    # A second time where the pool was not free again soon enough.
    refused = text.count("gpushare: the Bitfusion pool gave no GPUs (tried for ")
    assert refused in (1, 2)
    assert "Used=25" in text and f"run {refused}\n" in text
    assert versions.job(job)["Restarts"] == str(refused)
    none_left(versions)


def test_the_limit_of_requeues(versions: Cluster, hog: Hog) -> None:
    with policy(versions, wait=0.0, requeue_limit=1, requeue_delay=1.0):
        job = versions.sbatch("alice", *QUARTER, "--open-mode=append", "-o" + OUT, script=versions.script("", "true"))
        stubborn = versions.sbatch("alice", *QUARTER, "--no-requeue", "-o" + OUT, script=versions.script("", "true"))
        direct = versions.run("srun", *QUARTER, "true", user="alice", check=False)
        assert direct.returncode == 75 and "requeue" not in direct.stderr
        until("the end", lambda: versions.job(job)["JobState"] == "FAILED", 60)
        until("the end", lambda: versions.job(stubborn)["JobState"] == "FAILED", 60)
    assert versions.job(job)["Restarts"] == "1" and versions.job(job)["ExitCode"] == "75:0"
    said = versions.read(OUT.replace("%j", str(job))).splitlines()[-1]
    assert said.endswith("the job was started again 1 times already, and 1 is the policy's limit")
    assert "; not requeued: " in versions.read(OUT.replace("%j", str(stubborn)))
    assert versions.job(stubborn)["Restarts"] == "0"
    hog.free()
    none_left(versions)
