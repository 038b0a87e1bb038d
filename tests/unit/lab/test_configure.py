"""The files that a lab begins with."""

import copy
import os

import pytest
import yaml

from slurm_gpushare.lab import configure
from slurm_gpushare.lab.params import LabParams
from slurm_gpushare.lab.source import source_root

SHIPPED = yaml.safe_load((source_root() / "etc/gpushare.yaml").read_text())


def test_the_shipped_policy_fits_a_lab_of_the_usual_size() -> None:
    assert configure.site_policy(SHIPPED, LabParams()) is None


def test_a_larger_pool_is_in_the_policy() -> None:
    before = copy.deepcopy(SHIPPED)
    mine = configure.site_policy(SHIPPED, LabParams(pool_gpus=3))
    assert [server["gpus"] for server in mine["backends"]["bitfusion"]["servers"]] == [3]
    assert before == SHIPPED


def test_a_pool_of_several_servers_is_in_the_policy_by_name() -> None:
    mine = configure.site_policy(
        SHIPPED, LabParams(pool_servers=2, pool_gpus=3, slurm="26.05", pool_placement="first_fit")
    )
    pool = mine["backends"]["bitfusion"]
    assert pool["placement"] == "first_fit"
    assert [(server["name"], server["address"], server["gpus"]) for server in pool["servers"]] == [
        ("server1", "10.77.0.10:56001", 3),
        ("server2", "10.77.0.11:56001", 3),
    ]


def test_the_clients_settings_are_yaml_and_hold_the_token() -> None:
    settings = yaml.safe_load(configure.client_yaml("abc"))
    assert settings["authconfig"]["token"] == "abc"
    assert settings["dispatcher"]["srs"]["auto_release_timeout"] == "10m"
    assert "auto_release_timeout: 2.5s\n" in configure.client_yaml("abc", 2.5)


@pytest.mark.skipif(os.geteuid() != 0, reason="sets the owner of a file")
def test_a_file_gets_its_owner_and_mode_and_follows_no_link(tmp_path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nmunge:x:101:102::/:/bin/false\n")
    configure.put(tmp_path, "/etc/munge/munge.key", b"k", owner="munge", mode=0o400)
    status = (tmp_path / "etc/munge/munge.key").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (101, 102, 0o400)
    (tmp_path / "etc/link").symlink_to("/etc/hostname")
    with pytest.raises(OSError):
        configure.put(tmp_path, "/etc/link", "x")
