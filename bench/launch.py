"""What gpushare adds to the start of a task, and what prolog and epilog take."""

from collections.abc import Iterator
from statistics import median

from bench.lab import Setting, run_program, running
from bench.result import ADDED, Bound, Result
from slurm_gpushare.lab import samples

RUNS = 60
LIMIT = 25.0  # milliseconds added at the median


def run(setting: Setting) -> Iterator[Result]:
    """Yield the time to the user's first instruction in each form, then that of prolog and epilog."""
    with running(setting, with_samples=True) as lab:
        # A sandbox folder: mounting a SIF file takes both sides another 100 ms, and varies by as much.
        cases = run_program(lab, "launch", {"runs": setting.runs or RUNS, "image": samples.BASE})
    for case, taken in cases.items():
        helper = case.startswith(("prolog", "epilog"))
        yield Result(
            f"launch: {case}",
            "a shell that does nothing" if helper else "apptainer and client typed by hand, no plugin",
            median(taken["ours"]),
            median(taken["other"]),
            "ms",
            len(taken["ours"]),
            None if helper else Bound(ADDED, LIMIT),
        )
