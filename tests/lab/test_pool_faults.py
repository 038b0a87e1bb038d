"""Each fault of docs/pool.md, while a batch job or a step of srun holds an allocation, in both ways the pool may treat
a client that vanished: a defined result, nothing left in the pool, and no node out of service that is not at fault.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.lab.cluster import Cluster, until
from tests.lab.daemons import kill, pids, start, start_those_that_are_down

POOL = ["-pbitfusion", "--gres=gpu:0.25", "-wc1"]
WORK = "gpu-workload --gpu 0 --sm 10 --memory 1G"
SWEEP = "/opt/gpushare/libexec/gpushare-sweep"
EPILOG = "/opt/gpushare/bin/python3 -IS /opt/gpushare/libexec/gpushare-hook epilog"


@pytest.fixture(params=["cluster", "holding_cluster"], ids=["free", "hold"])
def pool(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A lab whose pool frees, or holds, the allocation of a client that vanished; whole again at the end."""
    cluster = request.getfixturevalue(request.param)
    until("an empty pool", lambda: not cluster.allocations())
    yield cluster
    start_those_that_are_down(cluster, ["pool", "slurmctld", "slurmd c1", "agent c1"])
    cluster.run("scancel", "-ualice", check=False)
    cluster.run("scontrol", "update", "nodename=c1", "state=resume", check=False)
    until("c1", lambda: cluster.out("sinfo", "-hnc1", "-pbitfusion", "-o%T", check=False) == "idle", 60)


class Held:
    """A job that runs ``command`` with a quarter of the pool's GPU, as a batch script or as a step of srun alone."""

    def __init__(self, cluster: Cluster, kind: str, command: str):
        self.cluster, self.kind, self.command = cluster, kind, command
        if kind == "batch":
            self.output = "/home/alice/fault.out"
            cluster.run("rm", "-f", self.output)
            self.job = cluster.sbatch("alice", *POOL, f"-o{self.output}", script=cluster.script("", f"exec {command}"))
            return
        before = int(cluster.out("sh", "-c", "squeue -ho%i | sort -n | tail -1") or 0)
        self.srun = subprocess.Popen(
            cluster.argv("srun", *POOL, "sh", "-c", f"exec {command}", user="alice"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        number = until("srun's job", lambda: cluster.out("squeue", "-ho%i", "-ualice").split()[-1:])
        self.job = int(number[0])
        assert self.job > before

    def works(self) -> "Held":
        """Wait until it holds its allocation and computes."""
        until("its allocation", self.cluster.allocations)
        until("its work", lambda: any(argv.startswith("gpu-workload") for _, argv in self.processes().values()))
        return self

    def processes(self) -> dict[int, tuple[str, str]]:
        """Return its processes."""
        return self.cluster.processes(self.job)

    def client(self) -> str:
        """Return the pid of the pool's client around its command."""
        mine = self.processes().items()
        (pid,) = [pid for pid, (_, argv) in mine if "bitfusion client -- " in argv and "metrics.sampler" not in argv]
        return str(pid)

    def end(self, seconds: float = 60) -> tuple[str, str, str]:
        """Wait for its end; return state, exit status (Slurm's, or srun's own) and what the user read."""
        state = self.cluster.wait(self.job, seconds)
        if self.kind == "batch":
            (row,) = self.cluster.sacct(self.job, "ExitCode")[-1:]
            return state, row["ExitCode"], self.cluster.read(self.output)
        text, _ = self.srun.communicate(timeout=seconds)
        return state, str(self.srun.returncode), text


@pytest.fixture(params=["batch", "step"])
def kind(request: pytest.FixtureRequest) -> str:
    """What holds the allocation."""
    return request.param


def none_left(cluster: Cluster, since: float, seconds: float = 60) -> None:
    """Nothing of any job is left in the pool, in Slurm or on the nodes, ``seconds`` after ``since`` at the latest."""
    until("an empty pool", lambda: not cluster.allocations(), seconds - (time.monotonic() - since))
    print(f"free {time.monotonic() - since:.1f} s after the fault")
    folders = "ls -d /var/lib/gpushare-node/*/jobs/* /run/gpushare/*/jobs/* 2>/dev/null"
    until("no folder", lambda: not cluster.run("sh", "-c", folders, check=False).stdout, 30)
    until("no licence", lambda: "Used=0" in cluster.out("scontrol", "-o", "show", "lic", "bitfusion"), 30)


def in_service(cluster: Cluster) -> bool:
    """Tell whether Slurm has taken no node out of service."""
    return cluster.out("sinfo", "-hR") == ""


@contextmanager
def waiting(cluster: Cluster, seconds: float) -> Iterator[None]:
    """Let jobs wait so long for the pool."""
    path = "/etc/gpushare/node.json"
    before = cluster.read(path)
    policy = json.loads(before)
    policy["backends"]["bitfusion"]["wait"] = seconds
    cluster.run("tee", path, stdin=json.dumps(policy))
    try:
        yield
    finally:
        cluster.run("tee", path, stdin=before)


def gpushare_line(text: str) -> str:
    """Return what of ``text`` is ours."""
    lines = [line for line in text.splitlines() if line.startswith("gpushare: ")]
    print("\n".join(lines))
    return lines[-1] if lines else ""


@contextmanager
def hog(cluster: Cluster) -> Iterator[None]:
    """Let somebody who asked no Slurm have the whole pool."""
    hold = cluster.argv("bitfusion", "run", "-n1", "-p1", "--", "sleep", "600", user="bob")
    process = subprocess.Popen(hold, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until("the hog", cluster.allocations)
        yield
    finally:
        process.terminate()
        process.wait(30)
        until("its end", lambda: not cluster.allocations())


def test_the_pool_is_full_against_expectation(pool: Cluster, kind: str) -> None:
    with hog(pool), waiting(pool, 2):
        held = Held(pool, kind, WORK)
        state, status, text = held.end()
        assert (state, status) == ("FAILED", "75:0" if kind == "batch" else "75")
        assert "gave no GPUs" in gpushare_line(text)
        assert len(pool.allocations()) == 1
    assert in_service(pool)
    none_left(pool, time.monotonic())


def test_no_server_can_be_reached(pool: Cluster, kind: str) -> None:
    kill(pool, "pool")
    with waiting(pool, 2):
        state, status, text = Held(pool, kind, WORK).end()
    assert (state, status) == ("FAILED", "69:0" if kind == "batch" else "69")
    assert "cannot be reached" in gpushare_line(text)
    assert in_service(pool)
    start(pool, "pool")
    none_left(pool, time.monotonic())


def test_the_server_dies_while_the_job_computes(pool: Cluster, kind: str) -> None:
    held = Held(pool, kind, WORK).works()
    kill(pool, "pool")
    since = time.monotonic()
    state, status, text = held.end()
    assert "gpu-workload: GPU 0: lost" in text
    # The program's own status, of the error that its GPU gave it.
    assert state == "FAILED" and status not in ("0:0", "0")
    assert in_service(pool)
    start(pool, "pool")
    none_left(pool, since)


def test_the_client_is_killed(pool: Cluster, kind: str) -> None:
    held = Held(pool, kind, WORK).works()
    pool.run("kill", "-KILL", held.client())
    since = time.monotonic()
    state, status, _ = held.end(120)
    assert (state, status) == ("FAILED", "0:9" if kind == "batch" else "137")
    # proctrack/linuxproc loses the command, whose output then keeps the step for 60 s; a cgroup kills it at once.
    none_left(pool, since, 60 if kind == "batch" else 90)
    assert in_service(pool)
    assert held.processes() == {}


def register_until(cluster: Cluster, what: str, found: Callable[[], object]) -> None:
    """Wait for what slurmctld does when slurmd registers: it passes over jobs of which it heard a moment ago."""
    for _ in range(3):
        try:
            until(what, found, 25)
            return
        except AssertionError:
            kill(cluster, "slurmd c1")
            start(cluster, "slurmd c1")
    until(what, found, 25)


@pytest.mark.parametrize(("kind", "finder"), [("batch", "boot"), ("batch", "epilog"), ("step", "boot")])
def test_the_node_is_rebooted(pool: Cluster, kind: str, finder: str) -> None:
    held = Held(pool, kind, WORK).works()
    # slurmctld holds a job for lost only when it is older than BatchStartTimeout and MessageTimeout together.
    until("its age", lambda: pool.out("squeue", "-hO", "timeused", f"-j{held.job}") > "0:21", 40, every=0.5)
    lines = [f"kill -9 {' '.join(pids(pool, 'slurmd c1') + pids(pool, 'agent c1'))}"]
    lines += [f"kill -9 {' '.join(map(str, held.processes()))}", "rm -rf /run/gpushare/c1"]
    pool.run("sh", "-c", "; ".join(lines), node="c1", check=False)
    since = time.monotonic()
    if finder == "boot":
        pool.run(SWEEP, "c1", node="c1")
        assert pool.allocations() == []
    start(pool, "slurmd c1")
    start(pool, "agent c1")
    if kind == "batch":
        register_until(pool, "its requeue", lambda: pool.job(held.job).get("Restarts") == "1")
        assert [row["State"] for row in pool.sacct(held.job, "State")] == ["NODE_FAIL", "PENDING"]
    else:
        until("an empty pool", lambda: not pool.allocations(), 60)
        pool.run("scancel", str(held.job), user="alice")  # srun itself would wait for slurmctld to notice
        assert held.end(120)[0] == "CANCELLED"
    none_left(pool, since, 60 if kind == "batch" else 180)
    assert in_service(pool)


def test_slurmctld_is_restarted(pool: Cluster, kind: str) -> None:
    held = Held(pool, kind, WORK + " --seconds 15").works()
    granted = pool.granted()
    kill(pool, "slurmctld", "TERM")  # killed by KILL it forgets what it had not saved yet, jobs included
    start(pool, "slurmctld")
    until("slurmctld", lambda: "UP" in pool.run("scontrol", "ping", check=False).stdout)
    state, status, _ = held.end()
    since = time.monotonic()
    assert (state, status) == ("COMPLETED", "0:0" if kind == "batch" else "0")
    none_left(pool, since)
    assert in_service(pool) and pool.granted() == granted


def epilogs(cluster: Cluster, what: str = EPILOG) -> list[str]:
    """Return the processes of an epilog."""
    lines = (line.split(maxsplit=1) for line in cluster.out("ps", "-eo", "pid=,args=").splitlines())
    return [pid for pid, argv in lines if argv == what]


@pytest.mark.parametrize(("kind", "times"), [("batch", 1), ("step", 2), ("batch", "all")])
def test_the_epilog_is_killed(pool: Cluster, kind: str, times: int | str) -> None:
    held = Held(pool, kind, WORK).works()
    kill(pool, "pool", "STOP")  # so that the release takes its time
    pool.run("scancel", str(held.job), user="alice")
    for _ in range(times if isinstance(times, int) else 1):
        first = until("its epilog", lambda: epilogs(pool))
        victims = first if times != "all" else epilogs(pool, "/bin/sh /opt/gpushare/libexec/gpushare-epilog") + first
        pool.run("kill", "-KILL", *victims)
        until("its death", lambda first=first: not set(first) & set(epilogs(pool)))
    kill(pool, "pool", "CONT")
    since = time.monotonic()
    assert held.end()[0] == "CANCELLED"
    none_left(pool, since)
    if times == "all":
        # Slurm's own rule for an epilog that a signal ended; nothing of the job is left all the same.
        assert "Epilog error" in pool.out("sinfo", "-hR")
    else:
        assert in_service(pool)
