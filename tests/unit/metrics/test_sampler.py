import dataclasses
import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.metrics.readings import GpuReading, ProcessReading
from slurm_gpushare.metrics.sampler import decode, encode

READING = GpuReading(
    0, None, "GPU-0a1b-2c", "Tesla P100", 16 << 30, 5.0, 0.4, 60.0, 12.5, (ProcessReading(7, 0.4, 1 << 30),)
)


def line(**changes):
    data = json.loads(encode([READING]))
    data["gpus"][0] |= changes
    return json.dumps(data).encode()


def test_a_reading_survives_its_line_but_for_the_time_which_is_the_readers():
    assert decode(encode([READING]), 5.0) == [READING]
    assert decode(encode([]), 5.0) == []


def test_a_gpu_of_which_nothing_is_known_is_left_out():
    assert decode(encode([READING, dataclasses.replace(READING, index=1, fault="GPU is lost")]), 5.0) == [READING]


@pytest.mark.parametrize(
    "changes",
    [
        {"sm": 1.5}, {"sm": -0.1}, {"sm": math.nan}, {"sm": math.inf}, {"sm": "1"}, {"sm": True}, {"sm": [1]},
        {"energy": -1}, {"power": 1e300}, {"memory_total": 10**30}, {"index": None}, {"index": 65}, {"processes": 5},
        {"processes": [{"pid": 1, "sm": 7, "memory": 1}]}, {"processes": [{"pid": -1, "sm": 0, "memory": 1}]},
        {"processes": [{"pid": 1}]}, {"processes": [{"pid": 1, "sm": 0, "memory": 0}] * 5000},
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused(changes):
    with pytest.raises(ValueError):
        decode(line(**changes), 5.0)


NO_SAMPLES = [b"", b"{}", b"[]", b"null", b'{"v":2,"gpus":[]}', b'{"v":1,"gpus":7}', b"\xff", b"{" * 9, b"[" * 9999]


@pytest.mark.parametrize("text", NO_SAMPLES)
def test_what_is_no_sample_is_refused(text):
    with pytest.raises(ValueError):
        decode(text, 5.0)


def test_a_gpu_that_stands_twice_is_refused():
    data = json.loads(encode([READING]))
    data["gpus"] *= 2
    with pytest.raises(ValueError, match="twice"):
        decode(json.dumps(data).encode(), 5.0)
    data["gpus"][1] = data["gpus"][1] | {"index": 1}
    with pytest.raises(ValueError, match="twice"):
        decode(json.dumps(data).encode(), 5.0)


@pytest.mark.parametrize("name", ["x" * 500, "a\nb", "\x1b[31m", 5])
def test_a_name_that_could_harm_a_terminal_is_dropped(name):
    assert decode(line(name=name, uuid="GPU-../../x"), 5.0)[0].name is None
    assert decode(line(name=name, uuid="GPU-../../x"), 5.0)[0].uuid is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(sorted(json.loads(encode([READING]))["gpus"][0])), json_values))
def test_nothing_but_a_value_error_comes_out(changes):
    try:
        readings = decode(line(**changes), 5.0)
    except ValueError:
        return
    assert all(reading.sm is None or 0 <= reading.sm <= 1 for reading in readings)


def test_it_runs_alone_without_a_gpu_and_ends_with_its_reader():
    argv = [sys.executable, "-I", "-m", "slurm_gpushare.metrics.sampler", "--interval", "0.05"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert decode(child.stdout.readline(), 1.0) == []
        assert decode(child.stdout.readline(), 1.0) == []
        child.stdout.close()
        assert child.wait(10) == 0
        assert b"Traceback" not in child.stderr.read()
