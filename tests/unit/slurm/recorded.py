"""What real Slurm printed: tests/assets/slurm/VERSION/*.json, recorded in the lab."""

import json
from dataclasses import replace
from pathlib import Path

from slurm_gpushare.slurm.job import parse_jobs
from slurm_gpushare.slurm.licences import parse_licences
from slurm_gpushare.slurm.nodes import parse_nodes
from slurm_gpushare.slurm.view import View

ASSETS = Path(__file__).parents[2] / "assets" / "slurm"
VERSIONS = ("24.11", "26.05")


def texts(version: str, name: str) -> dict[str, str]:
    """Return what scontrol printed, by "job", "nodes" and "licenses"."""
    return {
        what: json.dumps(data) for what, data in json.loads((ASSETS / version / f"{name}.json").read_text()).items()
    }


def view(version: str, name: str, **changes: object) -> View:
    """Return the recorded moment as `gpushare why` sees it, half a minute before Slurm's plan where it has one."""
    said = texts(version, name)
    job = parse_jobs(said["job"])[0]
    nodes = parse_nodes(said["nodes"]) if "nodes" in said else []
    licences = parse_licences(said["licenses"]) if "licenses" in said else {}
    now = (job.expected_start or 1_000_030) - 30
    return replace(View(job, nodes, licences, now), **changes)
