"""The control port's lines."""

import json
import socket
import subprocess
import sys
from fractions import Fraction
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.bitfusion import inspect
from slurm_gpushare.lab.standins.bitfusion.control import Malformed, parse_request
from slurm_gpushare.lab.standins.bitfusion.pool import Request


@given(st.lists(st.text(max_size=12), max_size=9))
def test_words_are_a_request_or_malformed(words):
    try:
        request = parse_request(words)
    except Malformed:
        return
    assert request.kind in ("run", "request_gpus") and request.count >= 1
    assert request.mib or 0 < request.fraction <= 1


def test_requests_are_read():
    assert parse_request(["c", "r", "run", "2", "p", "0.25"]) == Request("c", "r", "run", 2, Fraction(1, 4), None, [])
    words = ["c", "r", "request_gpus", "1", "m", "2048", "device.name=Tesla P=1"]
    assert parse_request(words) == Request(
        "c", "r", "request_gpus", 1, mib=2048, filters=[("device.name", "Tesla P=1")]
    )
    assert parse_request(["c", "r", "run", "1", "p", "1e-05"]).fraction == Fraction(1, 100000)


@pytest.mark.parametrize(
    "text",
    ["", "c r run 1", "c r walk 1 p 1", "c r run 0 p 1", "c r run 1 p 2", "c r run 1 p 0", "c r run 1 m 0"]
    + ["c r run 1 x 1", "c r run 1 p 1 colour=red", "c r run 1 p 1 device.id="],
)
def test_what_is_no_request_is_malformed(text):
    with pytest.raises(Malformed):
        parse_request(text.split(" "))


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("wrong state", "unauthorized\n"),
        ("", "unauthorized\n"),
        ("{token} nonsense a b", "error unknown request 'nonsense' with 2 words\n"),
        ("{token}", "error unknown request '' with 0 words\n"),
        ("{token} request a", "error request needs CLIENT REQUEST KIND N p|m AMOUNT\n"),
        ("{token} release c 1 2", "gone\n"),
        ("{token} attach c 1 ü", "gone\n"),
        ("x" * 100_000, ""),
    ],
)
def test_the_server_answers_bad_lines_and_serves_on(server, line, answer):
    with (
        socket.create_connection((server.config["listen"], 56001), timeout=30) as client,
        client.makefile("rw") as lines,
    ):
        lines.write(line.format(token=quote(server.config["token"], safe="")) + "\n")
        lines.flush()
        try:
            assert lines.readline() == answer
        except ConnectionResetError:
            assert answer == ""
    assert server.state()["counts"] == {"granted": 0, "refused": 0, "released": 0}


def test_inspect_prints_the_state(server):
    command = [sys.executable, "-m", inspect.__name__, "--server", server.address, "--config", str(server.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["gpus"][0]["free_mib"] == 16280


@pytest.mark.parametrize(
    ("address", "error"), [("here", "must be written as IP:PORT"), ("127.0.0.1:9", "Connection refused")]
)
def test_inspect_says_what_is_wrong(address, error):
    with pytest.raises(LabError, match=error):
        inspect.state(address, "t")
