"""How long the longest run and the longest record are.

What overlaps with a period began before its end and ended after its beginning. Of old periods a database would read all
that is newer; what is known to be no longer than this has ended soon after the period, too.
"""

import math
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select

from slurm_gpushare.accounting.schema import Job, Meta, Usage

_NAMES = {Usage: "longest_usage", Job: "longest_run"}
_SPANS = {Usage: ("started", "ended"), Job: ("start", "end")}
_DAY = 86400


def longest(connection: Connection, model: type[Usage] | type[Job]) -> int:
    """Return a number of seconds that none of the model's rows lasts longer than."""
    return int(connection.scalar(select(Meta.value).where(Meta.name == _NAMES[model])) or 0) * _DAY


def longest_of(model: type[Usage] | type[Job], rows: Sequence[Mapping]) -> float:
    """Return how long the longest of ``rows`` is, in seconds, 0 where none has ended."""
    low, high = _SPANS[model]
    return max((row[high] - row[low] for row in rows if None not in (row[low], row[high])), default=0)


def row_of(model: type[Usage] | type[Job], seconds: float) -> dict[str, str]:
    """Return the row of Meta that tells it: whole days, so that it seldom grows, of which the larger sorts last."""
    return {"name": _NAMES[model], "value": f"{math.ceil(seconds / _DAY):08}"}
