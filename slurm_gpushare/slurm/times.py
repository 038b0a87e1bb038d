"""Times as Slurm's commands take them (sacct(1), --starttime), in the local time zone."""

import re
from datetime import datetime, timedelta

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_WORDS = {"today": 0, "midnight": 0, "noon": 12, "fika": 15, "teatime": 16}
_NOW = re.compile(r"now(?:([+-])([0-9]{1,9})([a-z]*))?")
_CLOCK = r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?\s*(am|pm)?"
_CLOCK_ONLY = re.compile(_CLOCK)
_ISO = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})(?:[t ]" + _CLOCK + ")?")
_MONTH_DAY = re.compile(r"([0-9]{2})[/.]?([0-9]{2})(?:[/.]?([0-9]{2}))?(?:-" + _CLOCK + ")?")


def parse_time(text: str, now: datetime) -> float:
    """Return the seconds since the epoch that ``text`` names; ``now`` is a local time without a time zone.

    Known: ``YYYY-MM-DD[THH:MM[:SS]]``, ``MMDD[YY]``, ``MM/DD[/YY]`` and ``MM.DD[.YY]`` with ``-HH:MM[:SS]``,
    ``HH:MM[:SS][AM|PM]``, ``today``, ``midnight``, ``noon``, ``fika``, ``teatime`` and ``now[{+|-}COUNT[UNIT]]``.
    As in sacct, a time or a day without a year lies in the past.

    Raises
    ------
    ValueError
        The text is no time, or names one that does not exist.
    """
    word = text.strip().lower()
    if match := _NOW.fullmatch(word):
        sign, count, unit = match.groups()
        seconds = _unit(unit or "seconds", text) * int(count or 0)
        return now.timestamp() + (-seconds if sign == "-" else seconds)
    try:
        if word in _WORDS:
            return _past(datetime(now.year, now.month, now.day, _WORDS[word]), now, timedelta(days=1)).timestamp()
        if match := _CLOCK_ONLY.fullmatch(word):
            moment = datetime(now.year, now.month, now.day) + _clock(match.groups())
            return _past(moment, now, timedelta(days=1)).timestamp()
        if match := _ISO.fullmatch(word):
            year, month, day, *clock = match.groups()
            return (datetime(int(year), int(month), int(day)) + _clock(clock)).timestamp()
        if match := _MONTH_DAY.fullmatch(word):
            month, day, year, *clock = match.groups()
            if year is not None:
                return (datetime(2000 + int(year), int(month), int(day)) + _clock(clock)).timestamp()
            moment = datetime(now.year, int(month), int(day)) + _clock(clock)
            return (moment.replace(year=now.year - 1) if now < moment else moment).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{text!r} does not exist: {error}") from None
    raise ValueError(f"{text!r} is not a time: write 2026-01-31, 2026-01-31T13:00, 13:00, today or now-7days")


def _clock(parts: list | tuple) -> timedelta:
    hour, minute, second, half = parts
    if hour is None:
        return timedelta()
    hours, minutes, seconds = int(hour), int(minute), int(second or 0)
    if half is not None:
        if not 1 <= hours <= 12:
            raise ValueError("the hour before am or pm is 1 to 12")
        hours = hours % 12 + (12 if half == "pm" else 0)
    if hours > 23 or minutes > 59 or seconds > 59:
        raise ValueError("the clock ends at 23:59:59")
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def _unit(word: str, text: str) -> int:
    found = [seconds for name, seconds in _UNITS.items() if (name + "s").startswith(word)]
    if len(found) != 1:
        raise ValueError(f"{text!r} is not a time: after the count write seconds, minutes, hours, days or weeks")
    return found[0]


def _past(moment: datetime, now: datetime, back: timedelta) -> datetime:
    return moment - back if now < moment else moment
