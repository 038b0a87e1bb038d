"""The lab itself: entered by users, side by side with another, gone without a trace, and up again after a kill."""

import os
import signal
import subprocess
from pathlib import Path

from tests.lab.cluster import GPUSHARE, Cluster, until


def _lab(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([GPUSHARE, "lab", *words], capture_output=True, text=True, timeout=180, check=False)


def _status(name: str) -> str:
    return _lab("status", "--name", name).stdout


def _mounts(name: str) -> set[str]:
    """Return the mount points of this machine that are of the lab ``name``; other labs come and go meanwhile."""
    points = {line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()}
    return {point for point in points if name in point.split("/")}


def _holders(name: str) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].decode(errors="replace").strip() == f"gpushare-lab: {name}":
            found.append(int(entry.parent.name))
    return found


def test_exec_passes_streams_status_and_user(cluster: Cluster) -> None:
    done = cluster.run("sh", "-c", "id -un; cat; echo err >&2; exit 5", user="alice", stdin="in", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (5, "alice\nin", "err\n")


def test_status_names_both_folders(cluster: Cluster) -> None:
    text = _status(cluster.name)
    assert os.environ.get("GPUSHARE_LAB_CACHE", "/var/cache/gpushare-lab") in text
    assert os.environ.get("GPUSHARE_LAB_RUN", "/var/tmp/gpushare-lab") in text


def test_two_labs_do_not_meet(cluster: Cluster, holding_cluster: Cluster) -> None:
    assert cluster.out("sacctmgr", "-nP", "show", "cluster", "format=cluster") == cluster.name
    assert holding_cluster.out("sacctmgr", "-nP", "show", "cluster", "format=cluster") == holding_cluster.name
    cluster.run("touch", "/dev/nvidia-of-this-lab", node="n1")
    assert holding_cluster.run("test", "-e", "/dev/nvidia-of-this-lab", node="n1", check=False).returncode == 1
    assert not Path("/dev/nvidia-of-this-lab").exists() and not Path("/dev/nvidia0").exists()


def test_a_killed_lab_comes_down_and_up_again_and_leaves_nothing() -> None:
    up = ("up", "--bare", "--nodes", "1", "--gpus", "1", "--name", "short")
    try:
        done = _lab(*up)
        assert done.returncode == 0, done.stderr
        holders = _holders("short")
        assert len(holders) == 1
        os.kill(holders[0], signal.SIGKILL)
        until("the end of its processes", lambda: not _holders("short"))
        assert _lab("down", "--name", "short").returncode == 0
        done = _lab(*up)
        assert done.returncode == 0, done.stderr
        assert Cluster("short").out("sinfo", "-ho%D", "-pgpu") == "1"
    finally:
        assert _lab("down", "--name", "short").returncode == 0
    assert _holders("short") == []
    assert _mounts("short") == set()
