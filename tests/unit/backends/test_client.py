import os
import signal
import time

import pytest

from slurm_gpushare.backends.client import Client, Endings, run, words
from slurm_gpushare.errors import BrokenInstallation

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def sh(text, seconds=30.0, endings=None):
    return run(["/bin/sh", "-c", text], ENVIRONMENT, seconds, endings)


def test_status_and_output():
    client = sh("echo out; echo err >&2; cat; exit 3")
    assert (client.status, client.output()) == (3, "out\nerr\n")


def test_it_starts_with_the_usual_signals():
    with Endings():
        client = sh("grep -e SigIgn -e SigBlk /proc/self/status")
    blocked, ignored = (int(line.split()[1], 16) for line in sorted(client.output().splitlines()))
    assert ignored & (1 << 12 | 1 << 24) == 0  # SIGPIPE, SIGXFSZ
    assert blocked == 0


def test_what_it_leaves_running_does_not_keep_us():
    client = sh("sleep 600 & echo $!")
    os.kill(int(client.output()), signal.SIGKILL)
    assert client.status == 0


def test_it_is_ended_in_time():
    assert sh("sleep 600", 0.1).status == -signal.SIGTERM


def test_wait_says_whether_it_has_ended():
    client = Client(["/bin/sleep", "600"], ENVIRONMENT)
    assert client.wait(0.05) is False and client.status is None
    client.end()
    assert client.wait(0) is True
    client.close()


@pytest.mark.parametrize("path, said", [("/nosuch", "install it on this node"), ("/etc/passwd", "Permission denied")])
def test_what_cannot_be_executed_is_a_broken_installation(path, said):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BrokenInstallation, match=said):
        Client([path], ENVIRONMENT)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_signal_waits_until_all_is_put_right():
    child = os.fork()
    if child == 0:
        try:
            with Endings() as endings:
                os.kill(os.getpid(), signal.SIGTERM)
                if endings.came() and sh("exec sleep 600", 600, endings).status == -signal.SIGTERM:
                    endings.sleep(600)
                else:
                    os._exit(98)
        finally:
            os._exit(99)
    began = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    assert time.monotonic() - began < 60


def test_a_signal_that_is_ignored_is_none():
    child = os.fork()
    if child == 0:
        status = 99
        try:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            with Endings() as endings:
                os.kill(os.getpid(), signal.SIGHUP)
                status = 1 if endings.came() else 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    "text, said",
    [
        ("echo Error: a; echo Error: b; echo c; exit 1", "Error: b"),
        ("echo a; echo b; exit 1", "b"),
        ("exit 4", "status 4"),
    ],
)
def test_words(text, said):
    assert words(sh(text)) == said
