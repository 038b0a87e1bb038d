"""The lab that a benchmark runs in, and programs of bench/inside that run in it as root."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab import cluster, inside, samples, source, state
from slurm_gpushare.lab.params import LabParams
from slurm_gpushare.lab.progress import Progress

PYTHON = "/opt/gpushare/bin/python3"


@dataclass
class Setting:
    """What a run of the benchmarks was asked for, and what it has found out on the way."""

    lab: str  # name of the lab
    runs: int | None  # measurements of each side; None: each benchmark's own number
    slurm: str | None = None  # the lab's version, once there was one


@contextmanager
def running(setting: Setting, with_samples: bool = False, wanted: LabParams | None = None) -> Iterator[str]:
    """Bring the lab up if it is not, yield its name, and stop it if it was brought up here.

    ``wanted`` is another lab than the setting's. Raises LabError, also where that one is up with other parameters.
    """
    progress = Progress(lambda line: print(line, file=sys.stderr, flush=True))  # standard output is for results
    params = wanted or LabParams(name=setting.lab)
    started = cluster.status(params.name)["state"] != "up"
    try:
        if started or wanted:
            cluster.up(params, progress)
        if with_samples:
            samples.put_samples(params.name, progress)
        setting.slurm = inside.run_text(params.name, ["slurmctld", "-V"]).strip()
        yield params.name
    finally:
        if started:
            cluster.down(params.name)


def run_program(lab: str, program: str, arguments: dict) -> dict:
    """Run bench/inside/PROGRAM.py in the lab as root with ``arguments`` as JSON; return the JSON it prints.

    The text goes in from this tree. Raises LabError when it fails; what it says on its standard error is shown.
    """
    text = (source.source_root() / "bench/inside" / f"{program}.py").read_text(encoding="utf-8")
    command = [PYTHON, "-I", "-c", text, json.dumps(arguments)]
    done = subprocess.run(inside.inside_argv(lab, command), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise LabError(f"bench/inside/{program}.py: status {done.returncode}; logs: {state.LOG_INSIDE} in the lab")
    return json.loads(done.stdout)
