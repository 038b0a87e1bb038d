"""SlurmUser out of `scontrol show config`."""

import pytest

from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.config import parse_slurm_user


def test_slurm_user() -> None:
    text = "SlurmdUser              = root(0)\nSlurmUser               = slurm(64030)\nSlurmctldAddr = (null)\n"
    assert parse_slurm_user(text) == 64030
    with pytest.raises(SlurmError, match="SlurmUser"):
        parse_slurm_user("SlurmdUser              = root(0)\n")
