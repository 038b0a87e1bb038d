"""`gpushare lab exec`: what goes in, comes out and becomes of a command."""

import os
import pty
import subprocess

from tests.lab.cluster import Cluster, until


def _raw(cluster: Cluster, *command: str, stdin: bytes = b"") -> subprocess.CompletedProcess:
    return subprocess.run(cluster.argv(*command), input=stdin, capture_output=True, timeout=60, check=False)


def test_bytes_of_all_kinds_pass_both_ways(cluster: Cluster) -> None:
    sent = os.urandom(3_000_000)
    done = _raw(cluster, "cat", stdin=sent)
    assert done.stdout == sent and done.returncode == 0
    done = _raw(cluster, "sh", "-c", "head -c 5000000 /dev/zero >&2; head -c 7000000 /dev/zero")
    assert (len(done.stdout), len(done.stderr)) == (7_000_000, 5_000_000)


def test_how_a_command_ended_arrives(cluster: Cluster) -> None:
    for text, status in (("exit 44", 44), ("kill -9 $$", 137), ("kill -TERM $$", 143)):
        assert _raw(cluster, "sh", "-c", text).returncode == status
    done = _raw(cluster, "nosuchprogram")
    assert done.returncode == 127 and done.stderr.startswith(b"gpushare: ") and done.stderr.count(b"\n") == 1


def test_a_terminal_is_one_in_the_lab_too_and_its_interrupt_arrives(cluster: Cluster) -> None:
    ours, theirs = pty.openpty()
    script = "test -t 0 && test -t 1 && echo terminal; exec sleep 1234"
    running = subprocess.Popen(
        cluster.argv("sh", "-c", script), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    said = b""
    while b"terminal" not in said:
        said += os.read(ours, 1024)
    running.terminate()
    assert running.wait(10) in (143, -15)
    os.close(ours)
    until("the end of what it ran", lambda: "sleep 1234" not in cluster.out("ps", "-eo", "args="))


def test_a_command_dies_with_who_started_it(cluster: Cluster) -> None:
    running = subprocess.Popen(cluster.argv("sleep", "4321"), stdin=subprocess.DEVNULL)
    until("the command", lambda: "sleep 4321" in cluster.out("ps", "-eo", "args=").splitlines())
    running.kill()
    running.wait()
    until("its end", lambda: "sleep 4321" not in cluster.out("ps", "-eo", "args=").splitlines(), 10)


def test_a_user_or_node_that_is_not_there_is_named(cluster: Cluster) -> None:
    for options in ({"user": "nosuch"}, {"node": "n99"}):
        done = cluster.run("true", check=False, **options)
        assert done.returncode == 1 and done.stderr.startswith("gpushare: ")
        assert repr(next(iter(options.values()))) in done.stderr
