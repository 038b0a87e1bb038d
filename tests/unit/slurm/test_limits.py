"""The reasons that name a limit, and the limits as sacctmgr prints them."""

import pytest

from slurm_gpushare.slurm.limits import Limit, limit_argv, parse_limit, parse_limit_value
from tests.unit.slurm.recorded import ASSETS

REASONS = (ASSETS / "limit_reasons.txt").read_text().split()


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_of_slurms_own_list_is_a_limit(reason: str) -> None:
    limit = parse_limit(reason)
    assert limit is not None
    assert (limit.of == "account") == reason.startswith("Assoc")
    assert limit.per_minute == ("Min" in reason and "QOSMin" not in reason)
    assert limit.least == reason.startswith("QOSMin")
    for per in ("User", "Account", "Job", "Node"):
        assert ("Per" + per in reason) <= (limit.per == per.lower())
    assert (limit.tres == "GRES") == ("GRES" in reason)
    assert limit.what


@pytest.mark.parametrize(
    "reason",
    ["", "Resources", "Priority", "Licenses", "QOSNotAllowed", "QOSUsageThreshold", "MaxJobs", "PartitionNodeLimit"],
)
def test_other_reasons_are_none(reason: str) -> None:
    assert parse_limit(reason) is None


@pytest.mark.parametrize(
    ("reason", "of_one_job"),
    [("QOSMaxGRESPerJob", True), ("QOSMinGRES", True), ("QOSMaxGRESPerUser", False), ("AssocGrpGRES", False)],
)
def test_whether_another_jobs_end_helps(reason: str, of_one_job: bool) -> None:
    assert parse_limit(reason).of_one_job is of_one_job


def test_value_of_a_qos() -> None:
    limit = parse_limit("QOSMaxGRESPerUser")
    assert limit_argv(limit, "normal", "physics")[-2:] == ["name=normal", "format=Name,MaxTRESPU"]
    assert parse_limit_value("normal|cpu=4,gres/shard=50,license/bitfusion=25\n", limit, "alice") == {"gres/shard": 50}
    licence = parse_limit("QOSMaxLicensePerUser")
    assert parse_limit_value("normal|gres/shard=50,license/bitfusion=25\n", licence, "alice") == {
        "license/bitfusion": 25
    }


def test_value_of_an_account_is_its_own_and_the_users_but_not_that_of_others() -> None:
    limit = parse_limit("AssocGrpGRES")
    assert limit_argv(limit, "normal", "physics")[-2:] == ["account=physics", "format=User,GrpTRES"]
    text = "|gres/shard=50\nalice|gres/shard=40,gres/gpu=1\nbob|gres/shard=10\n"
    assert parse_limit_value(text, limit, "alice") == {"gres/shard": 40, "gres/gpu": 1}
    assert parse_limit_value("|\nalice|\n", limit, "alice") == {}


def test_every_kind_of_count_has_a_column() -> None:
    for reason in REASONS:
        limit = parse_limit(reason)
        if limit.tres and not limit.least and not (limit.of == "account" and limit.per in ("user", "account")):
            assert "TRES" in limit_argv(limit, "q", "a")[-1]
    assert isinstance(limit, Limit)
