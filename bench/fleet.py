"""Many agents whose jobs end at one moment: how long until the service has their records, and that it has each once."""

from collections.abc import Iterator
from statistics import median

from bench.lab import Setting, run_program, running
from bench.result import MOST, Bound, Result
from slurm_gpushare.errors import GpushareError

AGENTS = 200
JOBS = 5  # of each agent
DEADLINE = 180.0  # seconds
# How a fleet ends its jobs: agents, jobs of each, and whether the service is killed on the way.
TOGETHER, KILLED, ONE = (AGENTS, JOBS, False), (AGENTS, JOBS, True), (1, AGENTS * JOBS, False)


def run(setting: Setting) -> Iterator[Result]:
    """Yield the lag of records and what was lost or doubled. Raises GpushareError where a record came out wrong."""
    with running(setting) as lab:
        together, killed, one = (_fleet(lab, *case) for case in (TOGETHER, KILLED, ONE))
    count = AGENTS * JOBS
    against = "the same records from one agent"
    for name, figure in ("median", median), ("slowest", max):
        yield Result(f"fleet: {name} lag", against, figure(together["lags"]), figure(one["lags"]), "s", count)
    against = "records sent"
    for name, case in ("", together), (", service killed", killed):
        amiss = case["lost"] + case["doubled"]
        yield Result(f"fleet: lost or doubled{name}", against, amiss, count, "records", count, Bound(MOST, 0))
    name = "fleet: slowest lag, service killed"
    yield Result(name, "the same without", max(killed["lags"]), max(together["lags"]), "s", count)


def _fleet(lab: str, agents: int, jobs: int, killed: bool) -> dict:
    arguments = {"agents": agents, "jobs": jobs, "killed": killed, "deadline": DEADLINE}
    case = run_program(lab, "fleet", arguments)
    if case["wrong"] or not case["lags"]:
        raise GpushareError(
            f"fleet: {case['wrong']} records came out with other figures, {len(case['lags'])} were taken"
        )
    return case
