"""Time of one decision in Lua for policies of 10, 200 and 2,000 rules: rules of others must cost next to nothing."""

import ctypes
import statistics
import time
from collections.abc import Callable, Iterator

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
COLD = 200  # rules of the policy whose decisions are also measured one by one, as slurmctld makes them
EVICTED = 32 << 20  # bytes written before each of those, so that the processor's caches hold nothing of Lua

# The whole of what job_submit.lua does with a job, in one call from here so that only Lua is measured. No two jobs are
# the same, or all but the first would be remembered.
LOOP = b"""
local gpushare, policy, fields, parts, count = ...
for _ = 1, count do
  made = (made or 0) + 1
  fields.extra = "run " .. made
  gpushare.decide(policy, gpushare.read_request(fields, parts))
end
"""


def run(setting: Setting) -> Iterator[Result]:
    """Yield microseconds per decision of 200 and of 2,000 rules against 10, and with cold caches against warm ones."""
    rounds = setting.runs or ROUNDS
    engines = [_prepare(count) for count in COUNTS]
    times: list[list[float]] = [[] for _ in COUNTS]
    for _ in range(rounds):
        for engine, taken in zip(engines, times, strict=True):
            taken.append(_microseconds(engine, DECISIONS) / DECISIONS)
    floor, *others = (statistics.median(taken) for taken in times)
    for count, ours in zip(COUNTS[1:], others, strict=True):
        bound = Bound(TIMES, 2) if count == COUNTS[-1] else None
        yield Result(f"decision: {count} rules", f"{COUNTS[0]} rules", ours, floor, "us", rounds, bound)
    alone = engines[COUNTS.index(COLD)]
    other_memory = ctypes.create_string_buffer(EVICTED)
    cold = []
    for _ in range(rounds):
        ctypes.memset(other_memory, 1, EVICTED)
        cold.append(_microseconds(alone, 1))
    warm = statistics.median(_microseconds(alone, 1) for _ in range(rounds))
    name = f"decision: {COLD} rules, cold caches"
    yield Result(name, "warm ones", statistics.median(cold), warm, "us", rounds)


def _microseconds(engine: Callable[[int], None], decisions: int) -> float:
    began = time.perf_counter()
    engine(decisions)
    return (time.perf_counter() - began) * 1e6


def _prepare(count: int) -> Callable[[int], None]:
    engine = Gpushare(to_lua(parse_policy(policy_text(count)).policy))
    request = Request(gres="gpu:0.25", partition="bitfusion", user="alice", account="physics", qos="normal")
    decision = engine.decide(request)
    assert decision.grant is not None, decision
    loop = engine.runtime.compile(LOOP)
    arguments = (engine.to_lua(request.job_desc()), engine.to_lua({}))

    def decide(decisions: int) -> None:
        loop(engine.module, engine.policy, *arguments, decisions)

    decide(DECISIONS)
    return decide
