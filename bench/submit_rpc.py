"""What the plugin and a policy of 200 rules add to a submission in a real slurmctld."""

from collections.abc import Iterator

from bench.lab import Setting, run_program, running
from bench.result import ADDED, Bound, Result
from bench.rules import policy_text

RULES = 200
SUBMISSIONS = 2000
BATCH = 100  # between two turns of slurmctld with and without the plugin


def run(setting: Setting) -> Iterator[Result]:
    """Yield the mean time of REQUEST_SUBMIT_BATCH_JOB, Slurm's own plugin's part of it, and submissions a second."""
    runs = setting.runs or SUBMISSIONS
    arguments = {"runs": runs, "batch": min(BATCH, runs), "policy": policy_text(RULES)}
    with running(setting) as lab:
        sums = run_program(lab, "submit", arguments)
    ours, empty, other = sums["with"], sums["empty"], sums["without"]
    without = "same slurmctld without the plugin"
    yield Result(
        f"submit-rpc: {RULES} rules",
        without,
        ours["microseconds"] / ours["count"],
        other["microseconds"] / other["count"],
        "us",
        ours["count"],
        Bound(ADDED, 300),
    )
    yield Result(
        "submit-rpc: job_submit.lua that does nothing",
        without,
        empty["microseconds"] / empty["count"],
        other["microseconds"] / other["count"],
        "us",
        empty["count"],
    )
    yield Result(
        "submit-rpc: submissions a second",
        without,
        ours["count"] / ours["seconds"],
        other["count"] / other["seconds"],
        "/s",
        ours["count"],
    )
