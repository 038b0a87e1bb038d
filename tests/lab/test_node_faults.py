"""What is wrong with a node or its pool, and what an administrator is told of it."""

from collections.abc import Iterator

import pytest

from tests.lab.cluster import Cluster, until

SHARD = ["--gres=gpu:0.25", "-wn1"]

# A log that listens where syslog writes, for a lab has none.
LISTEN = """
import os, socket
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind("/dev/log")
if os.fork() == 0:
    os.setsid()
    for number in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
    with open("/tmp/syslog", "ab", 0) as stream:
        while True:
            line = log.recv(65536)
            if line == b"end":
                break
            stream.write(line + b"\\n")
"""
STOP = 'import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"end", "/dev/log")'


@pytest.fixture
def syslog(cluster: Cluster) -> Iterator[str]:
    """The path of what is logged on node c1."""
    cluster.run("rm", "-f", "/dev/log", "/tmp/syslog", node="c1")
    cluster.run("python3", "-c", LISTEN, node="c1")
    yield "/tmp/syslog"
    cluster.run("python3", "-c", STOP, node="c1")
    cluster.run("rm", "-f", "/dev/log", "/tmp/syslog", node="c1")


def test_what_a_pool_that_is_away_keeps_is_logged_and_drains_no_node(cluster: Cluster, syslog: str) -> None:
    job = cluster.sbatch(
        "alice", "-pbitfusion", "-wc1", "--gres=gpu:0.25", "-o/dev/null", script=cluster.script("", "sleep 300")
    )
    until("its allocation", cluster.allocations)
    (server,) = cluster.out("pgrep", "-f", "standins.bitfusion.server").split()
    client = [pid for pid, (_, argv) in cluster.processes(job).items() if argv.startswith("/usr/bin/bitfusion client")]
    cluster.run("kill", "-STOP", server)
    try:
        cluster.run("kill", "-KILL", str(client[0]))
        cluster.wait(job, 40)
    finally:
        cluster.run("kill", "-CONT", server)
    told = until("the log", lambda: cluster.run("cat", syslog, node="c1").stdout)
    assert "gpushare[" in told and f"epilog: job {job}: not all that it held was released:" in told
    assert cluster.out("sinfo", "-hR") == ""
    assert cluster.run("ls", f"/run/gpushare/c1/jobs/{job}", check=False).returncode != 0
    until("the pool's own release", lambda: not cluster.allocations())


@pytest.mark.parametrize(
    ("broken", "mended", "said"),
    [
        (
            "mount -t tmpfs -o ro,mode=755 none /run/gpushare/n1",
            "umount /run/gpushare/n1",
            "/run/gpushare/n1/jobs: Read-only file system",
        ),
        (
            "mv /etc/gpushare/node.json /etc/gpushare/away",
            "mv /etc/gpushare/away /etc/gpushare/node.json",
            "run `gpushare policy compile` on this host",
        ),
    ],
    ids=["read-only", "no policy"],
)
def test_a_broken_node_is_drained_and_says_why(cluster: Cluster, broken: str, mended: str, said: str) -> None:
    cluster.run("sh", "-c", broken, node="n1")
    try:
        job = cluster.sbatch("alice", *SHARD, "-o/dev/null", script=cluster.script("", "true"))
        until("the drain", lambda: "Prolog error" in cluster.out("sinfo", "-hR", "-o%n %E", check=False))
        lines = cluster.out("grep", "prolog failed: rc", "/var/log/lab/slurmd-n1.log").splitlines()
        assert "gpushare: prolog: " in lines[-1] and said in lines[-1] and "Errno" not in lines[-1]
        cluster.run("scancel", str(job))
    finally:
        cluster.run("sh", "-c", mended, node="n1")
        cluster.run("scontrol", "update", "nodename=n1", "state=resume", check=False)
    until("the node's return", lambda: cluster.out("sinfo", "-hnn1", "-pshard", "-o%T") == "idle", 60)
    job = cluster.sbatch("alice", *SHARD, "-o/dev/null", script=cluster.script("", "true"))
    assert cluster.wait(job) == "COMPLETED"


def test_a_runtime_folder_that_went_is_made_again(cluster: Cluster) -> None:
    cluster.run("mv", "/run/gpushare/n1/jobs", "/run/gpushare/n1/away", node="n1", check=False)
    job = cluster.sbatch("alice", *SHARD, "-o/dev/null", script=cluster.script("", "true"))
    assert cluster.wait(job) == "COMPLETED"
    cluster.run("rm", "-rf", "/run/gpushare/n1/away", node="n1")
