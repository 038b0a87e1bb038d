"""How much of a pool is used and how often it refuses what Slurm granted: licences of each GPU against a flat count."""

from collections.abc import Iterator

from bench import pool_load
from bench.lab import Setting, running
from bench.pool_load import Verdict
from bench.result import MOST, Bound, Result
from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.params import LabParams

JOBS = 80
SEED = 4
POOL = {"pool_servers": 3, "pool_gpus": 2, "clients": 3}
PLACEMENTS = (("first_fit", "26.05"), ("pinned", "24.11"))
# (GPUs, share of each); work of some seconds, so that what a launch takes does not hide what placement does.
LOADS = {
    "shares that divide": [(1, "1/4"), (1, "1/4"), (1, "1/2"), (1, "1"), (2, "1")],
    "any shares": [(1, "0.3"), (1, "0.3"), (1, "0.75"), (1, "1"), (2, "1")],
}
SECONDS = (1.0, 8.0)
BETWEEN = 0.3  # half as much again as the pool can serve


def run(setting: Setting) -> Iterator[Result]:
    """Yield for each placement and load the use of the pool and the refusals, each against the flat count."""
    for placement, slurm in PLACEMENTS:
        flat = _verdicts(setting, "flat", slurm)
        placed = _verdicts(setting, placement, slurm)
        for load, ours in placed.items():
            yield from _results(f"pool-use: {placement}, {load}", f"flat, Slurm {slurm}", ours, flat[load])


def _verdicts(setting: Setting, placement: str, slurm: str) -> dict[str, Verdict]:
    """Run every load in a lab of its own. Raises LabError where jobs were not placed as Slurm said."""
    found = {}
    params = LabParams(f"{setting.lab[:12]}pool", slurm=slurm, pool_placement=placement, **POOL)
    with running(setting, wanted=params):
        for name, kinds in LOADS.items():
            load = pool_load.asks(SEED, setting.runs or JOBS, kinds, BETWEEN, SECONDS)
            found[name] = verdict = pool_load.run(params, load)
            if verdict.misplaced or verdict.over:
                raise LabError(f"pool-use, {placement}, {name}: {(*verdict.misplaced, *verdict.over)[0]}")
    return found


def _results(name: str, against: str, ours: Verdict, other: Verdict) -> Iterator[Result]:
    yield Result(f"{name}: in use", against, 100 * ours.use, 100 * other.use, "%", ours.jobs)
    blocked = 100 * ours.blocked, 100 * other.blocked
    yield Result(f"{name}: lent in vain", against, *blocked, "%", ours.jobs, Bound(MOST, 0))
    yield Result(f"{name}: until all had ended", against, ours.seconds, other.seconds, "s", ours.jobs)
    refused = 100 * ours.refusal_rate, 100 * other.refusal_rate
    yield Result(f"{name}: refused", against, *refused, "%", ours.jobs, Bound(MOST, 0))
    failed = [100 * (1 - verdict.completed / verdict.jobs) for verdict in (ours, other)]
    yield Result(f"{name}: failed", against, *failed, "%", ours.jobs, Bound(MOST, 0))
