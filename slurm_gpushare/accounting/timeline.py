"""The course of a run, drawn in a terminal: use and memory of each GPU over one axis of time. Pure functions.

What is drawn comes from the series of usage records (metrics/series.py): points of equal width from the record's
beginning. Several GPUs of a run are drawn over the run's own time, so that what lies below each other was at the same
time.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Glyphs:
    """What a chart is made of."""

    levels: str  # of one cell, from nothing to full
    unknown: str  # in the lowest row of a column in which nothing was measured
    limit: str  # the share, where no bar covers it
    axis: str
    corner: str
    base: str
    tick: str


UNICODE = Glyphs(levels=" ▁▂▃▄▅▆▇█", unknown="·", limit="╌", axis="│", corner="└", base="─", tick="┴")
ASCII = Glyphs(levels=" .:|#", unknown="?", limit="-", axis="|", corner="+", base="-", tick="+")


def columns(
    values: Sequence[float | None], every: float, begun: float, start: float, end: float, width: int, largest: bool
) -> list[float | None]:
    """Return ``values``, points of ``every`` seconds from ``begun`` on, as ``width`` columns of [``start``, ``end``].

    A column is the mean of the points that lie in it, weighed by the time that they do, or the ``largest`` of them.
    None is not known: of a point, and of a column that has no known one.
    """
    step = (end - start) / width
    found: list[float | None] = []
    for number in range(width):
        low, high = start + number * step - begun, start + (number + 1) * step - begun
        first, last = max(0, math.floor(low / every)), min(len(values), math.ceil(high / every))
        parts = [
            (values[at], min(high, (at + 1) * every) - max(low, at * every))
            for at in range(first, last)
            if values[at] is not None
        ]
        # A sliver of a neighbouring point, left over by rounding, is nothing of this column.
        parts = [(value, seconds) for value, seconds in parts if seconds > step * 1e-6]
        if not parts:
            found.append(None)
        elif largest:
            found.append(max(value for value, _ in parts))
        else:
            found.append(math.fsum(value * seconds for value, seconds in parts) / math.fsum(part[1] for part in parts))
    return found


def bars(values: Sequence[float | None], top: float, limit: float | None, height: int, glyphs: Glyphs) -> list[str]:
    """Return ``height`` rows of text, the highest first, with a bar from 0 to ``top`` for each value.

    A value above 0 is never drawn as nothing; the row in which ``limit`` lies is marked where no bar reaches it.
    """
    most = len(glyphs.levels) - 1
    marked = limit_row(top, limit, height)
    rows = []
    for row in reversed(range(height)):
        cells = []
        for value in values:
            if value is None:
                cells.append(glyphs.unknown if row == 0 else glyphs.limit if row == marked else " ")
                continue
            level = min(height * most, round(value / top * height * most))
            if value > 0:
                level = max(1, level)
            filled = min(most, max(0, level - row * most))
            cells.append(glyphs.limit if filled == 0 and row == marked else glyphs.levels[filled])
        rows.append("".join(cells))
    return rows


def limit_row(top: float, limit: float | None, height: int) -> int | None:
    """Return the row above ``limit``, counted from the lowest: a bar that reaches into it is over the limit.

    A limit at the top of the scale, where nothing is over it, is marked in the highest row.
    """
    return None if limit is None or not 0 < limit <= top else min(height - 1, math.floor(limit / top * height + 1e-9))


def chart(
    values: Sequence[float | None],
    limit: float | None,
    height: int,
    label: Callable[[float], str],
    glyphs: Glyphs,
    margin: int,
) -> list[str]:
    """Return a chart of ``values`` with its scale to the left, in a margin of ``margin`` columns.

    The scale goes to the largest of the values and the limit; the row of the limit has the limit's label.
    """
    known = [value for value in values if value is not None]
    top = max([*known, limit or 0.0], default=0.0) or 1.0
    marked = limit_row(top, limit, height)
    lines = []
    for number, text in enumerate(bars(values, top, limit, height, glyphs)):
        word = label(limit) if number == (None if marked is None else height - 1 - marked) else ""
        word = word or (label(top) if number == 0 else "")
        lines.append(f"{word:>{margin - 2}} {glyphs.axis}{text}")
    return lines


def axis(start: float, end: float, width: int, label: Callable[[float], str], glyphs: Glyphs, margin: int) -> list[str]:
    """Return the axis of time below charts of ``width`` columns: a line with ticks, and the times at them."""
    longest = max(len(label(start)), len(label(end)))
    ticks = max(1, min(6, width // (longest + 3)))
    line, words = [glyphs.base] * width, [" "] * width
    # The ends first: what lies between them gives way.
    for number in (0, ticks, *range(1, ticks)):
        at = min(width - 1, round(number * width / ticks))
        word = label(start + (end - start) * number / ticks)
        left = min(max(0, at - len(word) // 2), width - len(word))
        if left < 0 or set(words[max(0, left - 1) : left + len(word) + 1]) != {" "}:
            continue
        line[at] = glyphs.tick
        words[left : left + len(word)] = word
    return [" " * (margin - 1) + glyphs.corner + "".join(line), " " * margin + "".join(words).rstrip()]
