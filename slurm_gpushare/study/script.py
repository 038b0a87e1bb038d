"""The batch script of one job of a study: Python that carries its task and the benchmark along."""

import sys
from pathlib import Path

from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.study.plan import Settings

BENCHMARK = "job_scripts/cnn_benchmark.py"


def make_script(settings: Settings, models: tuple[str, ...], benchmark: str) -> str:
    """Return the script of a job that trains ``models`` in this order; ``benchmark``: the text of cnn_benchmark.py."""
    task = {
        "models": list(models),
        "command": list(settings.command),
        "arguments": list(settings.arguments),
        "benchmark": "" if settings.command else benchmark,
    }
    runner = Path(__file__).with_name("runner.py").read_text(encoding="utf-8")
    return f"#!/usr/bin/env python3\nTASK = {task!a}\n{runner}"


def read_benchmark() -> str:
    """Return the text of the benchmark that comes along, from the source tree or from where it was installed.

    Raises
    ------
    BrokenInstallation
        It is in neither.
    """
    places = (Path(__file__).parents[2] / BENCHMARK, Path(sys.prefix) / "share/gpushare" / BENCHMARK)
    for path in places:
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise BrokenInstallation(f"{places[-1]}: not there: install slurm-gpushare again, or name a program by --command")
