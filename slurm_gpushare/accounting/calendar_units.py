"""Days, weeks and months in local time: where each begins. A day in which clocks change has 23 or 25 hours."""

from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo


def around(moment: float, unit: str, zone: tzinfo | None = None) -> tuple[datetime, float]:
    """Return the local beginning of the day, week (from Monday) or month around ``moment``, and the next one's moment.

    Moments are seconds since the epoch; ``zone`` None is the machine's own.
    """
    local = datetime.fromtimestamp(moment, zone)
    day = datetime(local.year, local.month, local.day)
    if unit == "week":
        day -= timedelta(days=day.weekday())
    if unit == "month":
        day = day.replace(day=1)
        following = (day + timedelta(days=31)).replace(day=1)
    else:
        following = day + timedelta(days=7 if unit == "week" else 1)
    limit = following.replace(tzinfo=zone).timestamp()
    # Where clocks are put back over midnight that hour is there twice.
    return day, limit if limit > moment else limit + 3600.0


def unit_name(first: datetime, unit: str) -> str:
    """Return what a unit that begins at ``first`` is called in reports: its first day, or its month."""
    return f"{first:%Y-%m}" if unit == "month" else f"{first:%Y-%m-%d}"


def beginnings(start: float, end: float, unit: str, zone: tzinfo | None = None) -> Iterator[int]:
    """Yield the beginnings of all units that have a part in [start, end], both included."""
    moment = start
    while moment <= end:
        first, following = around(moment, unit, zone)
        yield int(first.replace(tzinfo=zone).timestamp())
        moment = following
