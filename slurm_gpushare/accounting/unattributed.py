"""What GPUs did for no job, from their hours: by what tells GPUs and times apart, not by who had them."""

from collections import defaultdict
from collections.abc import Sequence

from slurm_gpushare.accounting.calendar_units import around, unit_name
from slurm_gpushare.accounting.dimensions import CALENDAR
from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.gpu_hour import HOUR

_OF_GPUS = ("cluster", "node", "gpu")


def unattributed(store: Store, selection: Selection, by: Sequence[str]) -> dict[tuple, float]:
    """Return the GPU-seconds of each group of ``by`` that were used by no job; raises StoreError.

    There are none where ``by`` has something of jobs, or who asks sees, or asks for, some jobs alone.
    """
    of_all = Selection(selection.start, selection.end)
    if selection != of_all or not set(by) <= {*_OF_GPUS, *CALENDAR}:
        return {}
    unit = next((name for name in by if name in CALENDAR), None)
    names = [name for name in by if name != unit]
    found: dict[tuple, float] = defaultdict(float)
    for hour, seconds, *values in store.unattributed(selection.start - HOUR, selection.end, names):
        part = min(hour + HOUR, selection.end) - max(hour, selection.start)
        if part > 0:
            # An hour that a day's limit cuts, in time zones of half an hour, is the earlier day's.
            label = unit_name(around(max(hour, selection.start), unit)[0], unit) if unit else None
            each = iter(values)
            found[tuple(label if name == unit else next(each) for name in by)] += seconds * part / HOUR
    return dict(found)
