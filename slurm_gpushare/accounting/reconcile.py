"""What is reserved here against what Slurm counted: TRES x elapsed time, of runs that have ended. Pure functions."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from slurm_gpushare.accounting.report import grant_of
from slurm_gpushare.slurm.sacct import JobRow
from slurm_gpushare.slurm.tres import gres_count, parse_tres

if TYPE_CHECKING:
    from slurm_gpushare.accounting.usage_report import Tally


_TOLD = 18.0  # GPU-seconds: less is nothing in hours with two digits


def slurm_gpu_seconds(row: JobRow) -> float | None:
    """Return the GPU-seconds that Slurm counted of a run: what AllocTRES has of GPUs, x ElapsedRaw; None: not known.

    Shards, and the count-only gres of a pool, are as many to a GPU as the grant's slices say; of a MIG or vGPU profile,
    which Slurm counts as a GPU, it is the fraction that the grant says.
    """
    tres, grant = parse_tres(row.alloc_tres), grant_of(row.extra)
    gpus = gres_count(tres, "gpu")
    if row.elapsed_seconds is None or (grant is None and not gpus):
        return None
    if grant is None:
        return float(gpus * row.elapsed_seconds)
    if gpus:
        return gpus * grant.fraction * row.elapsed_seconds
    slices = gres_count(tres, "shard") or gres_count(tres, grant.backend)
    if not slices:
        return None
    return slices / (grant.slices / (grant.tasks * grant.gpus * grant.fraction)) * row.elapsed_seconds


@dataclass(frozen=True)
class Reconciliation:
    """Both sides of the runs that have ended, and what one side lacks. GPU-seconds; None: nothing known."""

    gpu_seconds_slurm: float | None  # TRES x elapsed
    gpu_seconds_recorded: float | None  # by records whose run Slurm knows
    gpu_seconds_unrecorded: float | None  # of runs, or parts of them, without a record: no agent was there
    parts_unrecorded: int  # GPUs of runs that began in this time
    gpu_seconds_foreign: float | None  # by records whose run Slurm does not know: purged, or of another cluster
    parts_foreign: int

    @property
    def gpu_seconds_uncovered(self) -> float | None:
        """What records cover less than their runs; below 0: more. None: not known."""
        if self.gpu_seconds_slurm is None or self.gpu_seconds_recorded is None:
            return None
        return self.gpu_seconds_slurm - self.gpu_seconds_recorded - (self.gpu_seconds_unrecorded or 0.0)

    def line(self) -> str:
        """Return it in one line, in GPU-hours."""
        said = f"Slurm counted {_hours(self.gpu_seconds_slurm)} GPU-hours of runs that have ended, "
        said += f"{_hours(self.gpu_seconds_recorded)} are recorded here"
        if self.gpu_seconds_slurm and self.gpu_seconds_recorded is not None:
            said += f" ({100 * self.gpu_seconds_recorded / self.gpu_seconds_slurm:.1f} %)"
        if self.gpu_seconds_unrecorded is not None:
            count = f"{self.parts_unrecorded} GPU{'s' * (self.parts_unrecorded != 1)} of runs"
            said += f"; no agent measured {_hours(self.gpu_seconds_unrecorded)} h on {count}"
        if self.gpu_seconds_uncovered is not None and abs(self.gpu_seconds_uncovered) >= _TOLD:
            less = "less" if self.gpu_seconds_uncovered > 0 else "more"
            said += (
                f"; records cover {_hours(abs(self.gpu_seconds_uncovered))} h {less} than their runs, as where a node "
            )
            said += "is lost or a job suspended"
        if self.gpu_seconds_foreign is not None:
            said += f"; Slurm does not know the runs of {self.parts_foreign} record{'s' * (self.parts_foreign != 1)}"
            said += f", {_hours(self.gpu_seconds_foreign)} h"
        return said + "."


def reconcile(found: "Tally") -> dict:
    """Return the reconciliation of what ``found`` adds up, as an object of JSON with its ``line``."""
    one = Reconciliation(
        gpu_seconds_slurm=_rounded(found.slurm),
        gpu_seconds_recorded=_rounded(found.recorded),
        gpu_seconds_unrecorded=_rounded(found.unrecorded),
        parts_unrecorded=found.parts_unrecorded,
        gpu_seconds_foreign=_rounded(found.foreign),
        parts_foreign=found.parts_foreign,
    )
    return {**asdict(one), "line": one.line()}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _hours(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds / 3600:.2f}"
