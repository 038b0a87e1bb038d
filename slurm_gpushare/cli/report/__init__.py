"""`gpushare report`: what jobs reserved and what they used; each report is a module here."""

import click

from slurm_gpushare.cli.lazy import LazyGroup

# name: (module:object, what --help says without importing it)
REPORTS = {
    "advice": ("slurm_gpushare.cli.report.advice:advice", "With how much less of a GPU jobs would have done."),
    "chargeback": (
        "slurm_gpushare.cli.report.chargeback:chargeback",
        "What reserved GPU-hours cost by the policy's rates.",
    ),
    "efficiency": (
        "slurm_gpushare.cli.report.efficiency:efficiency",
        "Who uses what was reserved, and the runs that wasted most.",
    ),
    "job": ("slurm_gpushare.cli.report.job:job", "Everything on one job, with the course of its use over time."),
    "jobs": ("slurm_gpushare.cli.report.jobs:jobs", "One line for each run of a job that had a share of a GPU."),
    "usage": ("slurm_gpushare.cli.report.usage:usage", "Reserved and used GPU time by account, user, month or others."),
}


@click.group(cls=LazyGroup, lazy=REPORTS)
def report() -> None:
    """What jobs reserved and what they used."""
