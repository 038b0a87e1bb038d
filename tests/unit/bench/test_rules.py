from bench.rules import policy_text
from slurm_gpushare.policy.compile import to_lua
from slurm_gpushare.policy.load import parse_policy
from slurm_gpushare.policy.lua import Gpushare
from slurm_gpushare.request import Request


def test_rules_of_others_change_no_decision():
    tables = [to_lua(parse_policy(policy_text(count)).policy) for count in (0, 200)]
    assert len(tables[1]) > len(tables[0]) + 10 * 200
    request = Request(gres="gpu:0.25", partition="bitfusion", user="alice", account="physics", qos="normal")
    assert Gpushare(tables[0]).decide(request) == Gpushare(tables[1]).decide(request)
