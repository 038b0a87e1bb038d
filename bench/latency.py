"""Time from a job's last instruction to its usage record in the store, through epilog, agent and `gpushare serve`."""

from collections.abc import Iterator
from statistics import median

from bench.lab import Setting, run_program, running
from bench.result import MOST, Bound, Result

RUNS = 10
LIMIT = 2.0  # seconds
STORE = "/var/lib/gpushare/usage.sqlite"


def run(setting: Setting) -> Iterator[Result]:
    """Yield the median and the slowest."""
    with running(setting) as lab:
        taken = run_program(lab, "latency", {"runs": setting.runs or RUNS, "store": STORE})
    ours, other = taken["ours"], taken["other"]
    against = "the job's end in slurmdbd, by sacct"
    yield Result("latency: job's end to its usage in the store", against, median(ours), median(other), "s", len(ours))
    slowest = max(ours), max(other)
    yield Result("latency: the slowest of them", against, *slowest, "s", len(ours), Bound(MOST, LIMIT))
