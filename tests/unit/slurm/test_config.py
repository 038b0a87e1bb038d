"""SlurmUser and slurmctld's log out of `scontrol show config`."""

import pytest

from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.config import parse_slurm_user, parse_slurmctld_log


def test_slurm_user() -> None:
    text = "SlurmdUser              = root(0)\nSlurmUser               = slurm(64030)\nSlurmctldAddr = (null)\n"
    assert parse_slurm_user(text) == 64030
    with pytest.raises(SlurmError, match="SlurmUser"):
        parse_slurm_user("SlurmdUser              = root(0)\n")


def test_slurmctld_log() -> None:
    text = "SlurmctldDebug = info\nSlurmctldLogFile        = /var/log/slurm/slurmctld.log\nSlurmctldPort = 6817\n"
    assert parse_slurmctld_log(text) == "/var/log/slurm/slurmctld.log"
    with pytest.raises(SlurmError, match="syslog"):
        parse_slurmctld_log("SlurmctldLogFile        = (null)\n")
