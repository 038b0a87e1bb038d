"""Running gpushare.lua from Python."""

import pytest

from slurm_gpushare.errors import BrokenInstallation, PolicyError
from slurm_gpushare.policy.compile import to_lua
from slurm_gpushare.policy.load import parse_policy
from slurm_gpushare.policy.lua import Gpushare
from slurm_gpushare.request import GRANTED, REFUSED, UNTOUCHED, Request

POLICY = to_lua(parse_policy("{partitions: {shard: shard}, backends: {shard: {}}}").policy)


@pytest.fixture(scope="module")
def gpushare() -> Gpushare:
    return Gpushare(POLICY)


def test_the_three_outcomes(gpushare) -> None:
    granted = gpushare.decide(Request(gres="gpu:0.25", partition="shard"))
    assert granted.outcome == GRANTED and granted.grant.slices == 25 and granted.rule == "partition shard"
    assert granted.set["gres"] == "shard:25"
    untouched = gpushare.decide(Request(gres="gpu:1"), "shard")
    assert (untouched.outcome, untouched.grant, untouched.set) == (UNTOUCHED, None, {})
    refused = gpushare.decide(Request(gres="gpu:0.25"))
    assert refused.outcome == REFUSED and "partition unknown" in refused.message


def test_bytes_that_are_no_text(gpushare) -> None:
    decision = gpushare.decide(Request(gres="gpu:\udcff", partition="shard"))
    assert decision.outcome == REFUSED and "gpu:?" in decision.message


def test_a_policy_that_is_no_table() -> None:
    with pytest.raises(PolicyError, match="not a table"):
        Gpushare("return 1")
    with pytest.raises(PolicyError, match="not Lua"):
        Gpushare("return {")


def test_code_that_is_missing_or_broken(tmp_path) -> None:
    with pytest.raises(BrokenInstallation, match=r"none\.lua"):
        Gpushare(POLICY, str(tmp_path / "none.lua"))
    broken = tmp_path / "broken.lua"
    broken.write_text("return {read_request = function() error('no') end}")
    with pytest.raises(PolicyError, match="has a fault"):
        Gpushare(POLICY, str(broken)).decide(Request())
