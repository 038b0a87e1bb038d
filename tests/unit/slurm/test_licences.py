"""Licences as scontrol's JSON has them."""

import json

import pytest

from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.licences import Licence, parse_licences
from tests.unit.slurm.recorded import VERSIONS, texts


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded(version: str) -> None:
    found = parse_licences(texts(version, "pool-too-big")["licenses"])
    assert found == {"bitfusion": Licence("bitfusion", total=100, used=75, free=25)}


def test_none_and_nonsense() -> None:
    assert parse_licences('{"licenses": []}') == {}
    with pytest.raises(SlurmError, match="licenses"):
        parse_licences(json.dumps({"licenses": [{"Total": 1}]}))
