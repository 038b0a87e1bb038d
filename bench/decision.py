"""Time of one decision in Lua for policies of 10, 200 and 2,000 rules: rules of others must cost next to nothing."""

import statistics
import time
from collections.abc import Iterator

from bench.lab import Setting
from bench.result import TIMES, Bound, Result
from bench.rules import policy_text
from slurm_gpushare.policy.compile import to_lua
from slurm_gpushare.policy.load import parse_policy
from slurm_gpushare.policy.lua import Gpushare
from slurm_gpushare.request import Request

COUNTS = (10, 200, 2000)
ROUNDS = 60
DECISIONS = 200  # in each round

# The whole of what job_submit.lua does with a job, in one call from here so that only Lua is measured.
LOOP = b"""
local gpushare, policy, fields, parts, count = ...
for _ = 1, count do gpushare.decide(policy, gpushare.read_request(fields, parts)) end
"""


def run(setting: Setting) -> Iterator[Result]:
    """Yield microseconds per decision of 200 and of 2,000 rules against 10."""
    rounds = setting.runs or ROUNDS
    engines = [_prepare(count) for count in COUNTS]
    times: list[list[float]] = [[] for _ in COUNTS]
    for _ in range(rounds):
        for engine, taken in zip(engines, times, strict=True):
            began = time.perf_counter()
            engine()
            taken.append((time.perf_counter() - began) / DECISIONS * 1e6)
    floor, *others = (statistics.median(taken) for taken in times)
    for count, ours in zip(COUNTS[1:], others, strict=True):
        bound = Bound(TIMES, 2) if count == COUNTS[-1] else None
        yield Result(f"decision: {count} rules", f"{COUNTS[0]} rules", ours, floor, "us", rounds, bound)


def _prepare(count: int):
    engine = Gpushare(to_lua(parse_policy(policy_text(count)).policy))
    request = Request(gres="gpu:0.25", partition="bitfusion", user="alice", account="physics", qos="normal")
    decision = engine.decide(request)
    assert decision.grant is not None, decision
    loop = engine.runtime.compile(LOOP)
    arguments = (engine.to_lua(request.job_desc()), engine.to_lua({}))

    def action() -> None:
        loop(engine.module, engine.policy, *arguments, DECISIONS)

    action()
    return action
