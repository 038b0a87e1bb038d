"""The server's configuration."""

import json
import subprocess
import sys

import pytest

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.bitfusion import assumed, server
from slurm_gpushare.lab.standins.bitfusion.config import load_config, parse_config

GPU = {"uuid": "GPU-1", "name": "Card", "memory_mib": 100, "idle_watts": 1, "max_watts": 2, "capability": "6.0"}
GOOD = {"listen": "10.77.0.10", "token": "secret", "gpus": [GPU, GPU | {"uuid": "GPU-2"}]}


def test_defaults_are_the_documented_ports_and_timeout():
    config = parse_config(GOOD)
    assert (config.port, config.dispatcher_port, config.data_port) == (56001, 55001, 45201)
    assert config.auto_release_timeout == 600
    assert [gpu.minor for gpu in config.gpus] == [0, 1]


def test_what_is_assumed_comes_from_the_table():
    assert (parse_config(GOOD).wait_seconds, parse_config(GOOD).on_disconnect) == (1800, "free")
    assert (assumed.WAIT_SECONDS, assumed.ON_DISCONNECT) == (1800, "free")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"listen": "here"}, "listen is 'here'"),
        ({"listen": 3}, "listen is 3"),
        ({"token": "two words"}, "token is 'two words'"),
        ({"version": ""}, "version is ''"),
        ({"port": 0}, "port is 0"),
        ({"data_port": "45201"}, "data_port is '45201'"),
        ({"leader": "yes"}, "leader is 'yes'"),
        ({"hostname": 1}, "hostname is 1"),
        ({"on_disconnect": "keep"}, "on_disconnect is 'keep'"),
        ({"auto_release_timeout": "10m"}, "auto_release_timeout is '10m'"),
        ({"wait_seconds": -1}, "wait_seconds is -1"),
        ({"gpus": {}}, "gpus must be a list"),
        ({"gpus": [GPU, GPU]}, "same uuid"),
        ({"gpus": [GPU | {"memory_mib": 0}]}, "memory_mib"),
    ],
)
def test_anything_else_is_refused_by_name(change, error):
    with pytest.raises(LabError, match=error):
        parse_config(GOOD | change)


def test_a_missing_key_and_a_wrong_document_are_refused():
    with pytest.raises(LabError, match="the key 'token' is missing"):
        parse_config({key: value for key, value in GOOD.items() if key != "token"})
    with pytest.raises(LabError, match="must be an object"):
        parse_config([])


def test_files_are_named_in_errors(tmp_path):
    with pytest.raises(LabError, match="nosuch: No such file"):
        load_config(str(tmp_path / "nosuch"))
    (tmp_path / "bad").write_text("{")
    with pytest.raises(LabError, match="bad is not JSON"):
        load_config(str(tmp_path / "bad"))


def test_a_server_that_cannot_start_says_why_in_one_line(tmp_path):
    path = tmp_path / "config"
    path.write_text(json.dumps(GOOD | {"listen": "203.0.113.1"}))
    done = subprocess.run(
        [sys.executable, "-m", server.__name__, "--config", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("bitfusion-standin-server: cannot listen on 203.0.113.1:56001: ")
