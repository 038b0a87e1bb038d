"""Where a lab keeps its files on the host, and which processes are its own.

RUN/NAME/params.json   what was asked, written by ``up``
RUN/NAME/state.json    the holder's and the inner init's pid, written by the holder
RUN/NAME/log           logs of all daemons (/var/log/lab inside)
RUN/NAME/upper, work   what the lab wrote over its root file system
"""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from slurm_gpushare.errors import LabError

# Inside the lab
RUN_INSIDE = "/run/lab"
READY_INSIDE = RUN_INSIDE + "/ready"
LOG_INSIDE = "/var/log/lab"
GPU_CONFIG = "/etc/lab/gpu-{node}.json"  # the GPUs of a node's stand-in
# Of Slurm, where it could be had (recipe.py).
NVML_PLUGIN = "usr/lib/x86_64-linux-gnu/slurm-wlm/gpu_nvml.so"
NVML_FOLDER = "/usr/lib/nvidia-standin"
SOURCE_INSIDE = "/usr/src/slurm-gpushare"
WHEELS_INSIDE = "/usr/src/python-wheels"  # in a bare lab


@dataclass(frozen=True)
class LabState:
    """The processes of a lab; a pid counts only together with its start time (clock ticks since boot)."""

    holder: int
    holder_start: int
    bwrap: int = 0  # 0 until there is one
    bwrap_start: int = 0
    init: int = 0  # the lab's own pid 1, as the host sees it
    init_start: int = 0

    def alive(self) -> bool:
        """Whether the holder still runs."""
        return start_time(self.holder) == self.holder_start

    def entered(self) -> bool:
        """Whether the lab's namespaces can be entered."""
        return self.alive() and self.init > 0 and start_time(self.init) == self.init_start

    def ready(self) -> bool:
        """Whether every daemon has come up."""
        return self.entered() and os.path.exists(f"/proc/{self.init}/root{READY_INSIDE}")

    def left(self) -> list[int]:
        """Return which of the three still run. The kernel ends a pid namespace's init only after all others in it."""
        known = ((self.holder, self.holder_start), (self.bwrap, self.bwrap_start), (self.init, self.init_start))
        return [pid for pid, start in known if pid and start_time(pid) == start]


def start_time(pid: int) -> int | None:
    """Return when ``pid`` started, in clock ticks since boot; None when there is no such process or it is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def write_state(folder: Path, state: LabState) -> None:
    """Write state.json, whole or not at all."""
    temporary = folder / "state.json.new"
    temporary.write_text(json.dumps(asdict(state)))
    temporary.rename(folder / "state.json")


def read_state(folder: Path) -> LabState | None:
    """Return the state of the lab at ``folder``; None when it has none (not up, or not yet). Raises LabError."""
    path = folder / "state.json"
    try:
        data = json.loads(path.read_text())
        known = {field.name for field in fields(LabState)}
        return LabState(**{name: int(value) for name, value in data.items() if name in known})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError) as error:
        raise LabError(f"{path} is not readable ({error}): end the process that holds the lab and delete it") from None


def require_up(run: Path, name: str) -> LabState:
    """Return the state of lab ``name`` below ``run`` when it is up; raises LabError with what to do instead."""
    current = read_state(run / name)
    if current is None or not current.entered():
        option = "" if name == "lab" else f" --name {name}"
        raise LabError(f"lab {name} is not up: run `gpushare lab up{option}`")
    return current
