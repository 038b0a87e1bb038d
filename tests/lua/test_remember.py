"""A decision that is remembered is the one that would be made."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_gpushare.policy.compile import to_lua
from slurm_gpushare.policy.load import parse_policy
from slurm_gpushare.policy.lua import Gpushare, from_lua
from slurm_gpushare.request import GRANTED, Request

from .conftest import POOL
from .test_properties import JOB


def compiled(policy: str) -> str:
    return to_lua(parse_policy(policy).policy)


@pytest.fixture(scope="module")
def remembers() -> Gpushare:
    return Gpushare(compiled(POOL))


def decide(gpushare: Gpushare, job: dict) -> object:
    read = gpushare.module[b"read_request"](gpushare.to_lua(job), gpushare.to_lua({}))
    return from_lua(gpushare.module[b"decide"](gpushare.policy, read))


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(jobs=st.lists(JOB, min_size=1, max_size=3), again=st.integers(1, 2))
def test_the_answer_is_the_same_as_from_an_engine_that_remembers_nothing(
    remembers: Gpushare, jobs: list[dict], again: int
) -> None:
    for job in jobs * again:
        assert decide(remembers, job) == decide(Gpushare(compiled(POOL)), job)


@pytest.mark.parametrize("field", ["account", "qos", "user", "extra", "nodes", "partition"])
def test_a_field_that_a_rule_goes_by_makes_another_decision(field: str) -> None:
    rules = (
        POOL
        + "rules:\n"
        + "".join(
            f"  - {{name: {name}, {name}: [other], maximum_fraction: 0.1}}\n" for name in ("accounts", "qos", "users")
        )
    )
    gpushare = Gpushare(compiled(rules))
    plain = {"gres": "gpu:0.25", "partition": "bitfusion", "user": "alice", "account": "a", "qos": "q"}
    first = gpushare.decide(Request(**plain))
    changed = {"partition": "shard", "nodes": "2"}.get(field, "other")
    second = gpushare.decide(Request(**plain | {field: changed}))
    assert first.outcome == GRANTED
    assert (second.outcome, second.set) != (first.outcome, first.set)
    assert gpushare.decide(Request(**plain)).set == first.set


def test_more_requests_than_are_remembered(remembers: Gpushare) -> None:
    requests = [Request(gres="gpu:0.25", partition="shard", extra=f"run {number}") for number in range(1100)]
    extras = [remembers.decide(request).grant.extra for request in requests]
    assert extras == [request.extra for request in requests]
    assert remembers.decide(requests[0]).grant.extra == "run 0"
