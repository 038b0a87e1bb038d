"""What was measured is in the store afterwards, once, whatever happens to agent, disk, service, clock, node and GPU."""

import json
import time
from collections.abc import Callable, Iterator

import pytest

from tests.lab import daemons, known_loads
from tests.lab.cluster import Cluster, until
from tests.lab.daemons import kill, start, start_those_that_are_down
from tests.lab.known_loads import GIB, PYTHON, Load

NODE, AGENT = "n1", "agent n1"
SPOOL = f"/var/spool/gpushare/{NODE}"
LOAD = Load("gpu:0.25", 30, 2)
SECONDS = 12
SAMPLE = 1.0
START = 2.0  # seconds from prolog to load, and from the load's end to the epilog's word

# An agent whose wall clock is ahead by what a file says.
AHEAD, CLOCK = f"/tmp/ahead-{NODE}", f"/tmp/jumping-agent-{NODE}.py"
JUMPING = f"""import sys, time
real = time.time
def jumped():
    with open("{AHEAD}") as stream:
        return real() + float(stream.read() or 0)
time.time = jumped
from slurm_gpushare.metrics import agent
sys.exit(agent.main())
"""
JUMPING_AGENT = (f"{CLOCK} --node {NODE}", "root", NODE, f"exec {PYTHON} {CLOCK} --node {NODE}")


@pytest.fixture
def lab(cluster: Cluster) -> Iterator[Cluster]:
    """The lab without jobs, before and after the test, its daemons up."""
    until("an empty queue", lambda: not cluster.out("squeue", "-h"), 60)
    yield cluster
    cluster.run("scancel", "--user=alice")
    start_those_that_are_down(cluster, ["serve", "slurmd n1", AGENT])
    until("an empty queue", lambda: not cluster.out("squeue", "-h"), 60)


def _submit(lab: Cluster, seconds: int = SECONDS) -> int:
    ((job,), _) = known_loads.submit(lab, NODE, "shard", [LOAD], seconds, blocked=False)
    lab.wait_running(job)
    return job


def _pass(seconds: float) -> None:
    """Let a load run for so long."""
    end = time.monotonic() + seconds
    until("some samples", lambda: time.monotonic() > end, seconds + 10)


def _is_right(row: dict, seconds: float, missed: float = 0.0) -> None:
    """Assert a record of LOAD that ran for ``seconds``, of which up to ``missed`` were not measured."""
    # Where the load ends within an interval, the last readings of the GPU and of its process need not agree.
    assert row["quality"] in ("measured", "estimated"), row
    share, used = LOAD.percent / 100, row["gpu_seconds_used"]
    assert share * (seconds - missed - SAMPLE) <= used <= share * (1.02 * seconds + START), row
    assert row["memory_peak_bytes"] == LOAD.gib * GIB
    assert row["sm_p50"] == pytest.approx(LOAD.percent / 100, abs=0.02)
    assert seconds - missed <= row["seconds_sampled"] <= seconds + 2 * START, row


@pytest.fixture
def small_disk(lab: Cluster) -> Iterator[Callable[[], None]]:
    """The node's spool on a disk of its own; call it to fill that up."""
    kill(lab, AGENT, "TERM")
    lab.run("mount", "-t", "tmpfs", "-o", "size=512k,mode=700", "spool", SPOOL, node=NODE)
    start(lab, AGENT)

    def fill() -> None:
        done = lab.run("dd", "if=/dev/zero", f"of={SPOOL}/filler", "bs=1k", node=NODE, check=False)
        assert "No space left" in done.stderr

    yield fill
    kill(lab, AGENT, "TERM")
    lab.run("umount", SPOOL, node=NODE)
    start(lab, AGENT)


@pytest.mark.parametrize("killed", [False, True], ids=["agent goes on", "agent killed"])
def test_a_full_disk(lab: Cluster, small_disk: Callable[[], None], killed: bool) -> None:
    job = _submit(lab)
    _pass(SECONDS / 2)
    small_disk()
    assert lab.wait(job) == "COMPLETED"
    if killed:
        kill(lab, AGENT)
        start(lab, AGENT)
    assert known_loads.records(lab, [job]) == []
    lab.run("rm", f"{SPOOL}/filler", node=NODE)
    # What came after the disk was full is lost with the agent that alone knew of it.
    _is_right(known_loads.record_of(lab, job, 60), SECONDS, SECONDS / 2 + START if killed else 0.0)


def test_what_is_sent_twice_is_there_once(lab: Cluster) -> None:
    kill(lab, "serve")
    job = _submit(lab, 3)
    assert lab.wait(job) == "COMPLETED"
    line = until("its record", lambda: known_loads.unsent(lab, NODE))
    start(lab, "serve")
    row = known_loads.record_of(lab, job, 60)
    until("nothing to send", lambda: not known_loads.unsent(lab, NODE))
    kill(lab, AGENT)
    lab.run("sh", "-c", f"cat >>{SPOOL}/usage.jsonl", stdin=line)
    start(lab, AGENT)
    until("nothing to send", lambda: not known_loads.unsent(lab, NODE))
    assert known_loads.records(lab, [job]) == [row]


@pytest.mark.parametrize("seconds", [3600, -7200])
def test_a_jump_of_the_wall_clock_changes_no_duration(
    lab: Cluster, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    monkeypatch.setattr(daemons, "DAEMONS", daemons.DAEMONS | {"jumping agent": JUMPING_AGENT})
    lab.run("sh", "-c", f"cat >{CLOCK}; echo 0 >{AHEAD}", stdin=JUMPING)
    kill(lab, AGENT, "TERM")
    start(lab, "jumping agent")
    try:
        job = _submit(lab, 2 * SECONDS)
        _pass(SECONDS / 3)
        lab.run("sh", "-c", f"echo {seconds} >{AHEAD}.new; mv {AHEAD}.new {AHEAD}")
        _pass(SECONDS / 3)
        kill(lab, "jumping agent")
        start(lab, "jumping agent")
        assert lab.wait(job) == "COMPLETED"
        row = known_loads.record_of(lab, job)
    finally:
        kill(lab, "jumping agent", "TERM")
        start(lab, AGENT)
    _is_right(row, 2 * SECONDS, 2 * START + SAMPLE)
    (slurms,) = lab.sacct(job, "Start", "End")
    assert row["started"] == pytest.approx(int(slurms["Start"]), abs=2)
    assert row["ended"] == pytest.approx(int(slurms["End"]), abs=2)


def test_a_node_that_reboots_while_the_store_is_away(lab: Cluster) -> None:
    boot = "/proc/sys/kernel/random/boot_id"
    job = _submit(lab, 300)
    began = time.monotonic()
    _pass(SECONDS)
    kill(lab, "serve")
    kill(lab, AGENT)
    ran = time.monotonic() - began
    kill(lab, "slurmd n1")
    lab.run("kill", "-KILL", *map(str, lab.processes(job)), check=False)
    lab.run("sh", "-c", f"rm -rf /run/gpushare/{NODE}/*", node=NODE)
    lab.run("sh", "-c", f"sed s/./0/ {boot} >/tmp/boot_id; mount --bind /tmp/boot_id {boot}", node=NODE)
    try:
        start(lab, AGENT)
        start(lab, "slurmd n1")
        until("its record", lambda: f'"job_id":{job},' in known_loads.unsent(lab, NODE))
        start(lab, "serve")
        row = known_loads.record_of(lab, job, 60)
        # Slurm finds out in its own time; the epilog may run once more, of a job that has its record.
        lab.run("scancel", str(job))
        lab.wait(job)
        _is_right(row, ran, START)
        assert row["ended"] - row["started"] <= ran + 3 * START
        _pass(2 * SAMPLE)
        assert known_loads.records(lab, [job]) == [row]
    finally:
        lab.run("umount", boot, node=NODE)


def test_a_gpu_that_is_lost_and_back_leaves_a_gap_with_its_reason(lab: Cluster) -> None:
    job = _submit(lab)
    _pass(SECONDS / 3)
    for gpu in ("0", "1"):
        known_loads.control(lab, NODE, "fail", gpu, "all", "gpu_is_lost")
    try:
        _pass(2 * SAMPLE)
    finally:
        known_loads.control(lab, NODE, "heal", "all", "all")
    assert lab.wait(job) == "COMPLETED"
    row = known_loads.record_of(lab, job)
    ((offset, seconds, why),) = row["gaps"]
    assert offset > SAMPLE and seconds >= SAMPLE and "GPU" in why
    _is_right(row, SECONDS, seconds + START)
    assert row["seconds_sampled"] == pytest.approx(row["ended"] - row["started"] - seconds, abs=SAMPLE)


def test_without_the_processes_own_use_the_gpus_is_shared_out(lab: Cluster) -> None:
    functions = ("nvmlDeviceGetProcessesUtilizationInfo", "nvmlDeviceGetProcessUtilization")
    for function in functions:
        known_loads.control(lab, NODE, "fail", "all", function, "not_supported")
    before = known_loads.truth(lab, NODE)["used"]
    try:
        loads = [Load("gpu:0.5", 40, 4), Load("gpu:0.5", 20, 3)]
        jobs, others = known_loads.submit(lab, NODE, "shard", loads, SECONDS)
        assert [lab.wait(job) for job in jobs] == ["COMPLETED"] * 2
        lab.run("scancel", *map(str, others))
    finally:
        for function in functions:
            known_loads.control(lab, NODE, "heal", "all", function)
        kill(lab, AGENT, "TERM")  # which does not ask again for what a GPU does not have
        start(lab, AGENT)
    used = known_loads.truth(lab, NODE)["used"] - before
    rows = [known_loads.record_of(lab, job) for job in jobs]
    assert [row["quality"] for row in rows] == ["estimated"] * 2
    # A sample where both begin, and one where both end.
    assert sum(row["gpu_seconds_used"] for row in rows) == pytest.approx(used, abs=0.6 * 2 * SAMPLE)
    assert [row["gpu_seconds_used"] for row in rows] == pytest.approx([used / 2] * 2, abs=0.2 * used)
    assert [row["memory_peak_bytes"] for row in rows] == [load.gib * GIB for load in loads]


def test_a_job_of_two_seconds_is_measured(lab: Cluster) -> None:
    job = _submit(lab, 2)
    assert lab.wait(job) == "COMPLETED"
    row = known_loads.record_of(lab, job)
    assert row["gpu_seconds_used"] == pytest.approx(2 * LOAD.percent / 100, abs=0.3 * SAMPLE), row
    assert row["sm_max"] <= LOAD.percent / 100 + 0.02 and row["memory_peak_bytes"] == LOAD.gib * GIB


def test_a_job_between_two_samples_is_measured(lab: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = f"/etc/lab/seldom-{NODE}.json"
    seldom = (f"metrics.agent --node {NODE} --policy {policy}", "root", NODE)
    seldom += (f"exec gpushare agent --node {NODE} --policy {policy}",)
    monkeypatch.setattr(daemons, "DAEMONS", daemons.DAEMONS | {"seldom": seldom})
    settings = json.loads(lab.read("/etc/gpushare/node.json"))
    settings["agent"]["interval"] = 60
    lab.run("sh", "-c", f"cat >{policy}", stdin=json.dumps(settings))
    kill(lab, AGENT, "TERM")
    start(lab, "seldom")
    try:
        until("its first sample", lambda: f"node {NODE}: a sample every 60 s" in lab.read("/var/log/lab/again-seldom"))
        job = _submit(lab, 2)
        assert lab.wait(job) == "COMPLETED"
        row = known_loads.record_of(lab, job)
    finally:
        kill(lab, "seldom", "TERM")
        start(lab, AGENT)
    assert row["gpu_seconds_used"] == pytest.approx(2 * LOAD.percent / 100, abs=0.3), row
    assert row["memory_peak_bytes"] == LOAD.gib * GIB
