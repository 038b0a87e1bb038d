"""The course of a run as text, of courses that can be drawn by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.accounting.timeline import ASCII, UNICODE, axis, bars, chart, columns

share = st.none() | st.floats(0, 1)


def test_points_become_columns_by_time() -> None:
    assert columns([0.0, 1.0, 0.5, 0.5], 1.0, 0, 0, 4, 2, largest=False) == [0.5, 0.5]
    assert columns([0.0, 1.0, 0.5, 0.5], 1.0, 0, 0, 4, 2, largest=True) == [1.0, 0.5]
    # A point is drawn as wide as it was long, and what is not known weighs nothing.
    assert columns([0.2, 0.4], 2.0, 0, 0, 4, 4, largest=False) == [0.2, 0.2, 0.4, 0.4]
    assert columns([None, 0.4, None, None], 1.0, 0, 0, 4, 2, largest=False) == [0.4, None]


def test_columns_are_aligned_in_time_not_by_point() -> None:
    # A record that begins 2 s after the run, and one that began 2 s before what is drawn.
    assert columns([1.0, 1.0], 1.0, 2, 0, 6, 6, largest=False) == [None, None, 1.0, 1.0, None, None]
    assert columns([0.1, 0.2, 0.3, 0.4], 1.0, -2, 0, 2, 2, largest=False) == pytest.approx([0.3, 0.4])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=240), st.floats(0.1, 900), st.integers(1, 200))
def test_the_mean_over_time_is_conserved(values: list[float], every: float, width: int) -> None:
    begun = 1.8e9
    found = columns(values, every, begun, begun, begun + every * len(values), width, largest=False)
    assert None not in found
    assert math.fsum(found) / width == pytest.approx(math.fsum(values) / len(values), abs=1e-3)


@given(st.lists(share, min_size=1, max_size=240), st.floats(0.1, 900), st.integers(1, 200))
def test_no_peak_is_lost_and_nothing_is_made_up(values: list[float | None], every: float, width: int) -> None:
    found = columns(values, every, 0, 0, every * len(values), width, largest=True)
    known = [value for value in values if value is not None]
    assert max((one for one in found if one is not None), default=None) == max(known, default=None)
    assert len(found) == width


def test_bars() -> None:
    assert bars([0.0, 0.25, 0.5, 1.0, None], 1.0, None, 2, ASCII) == ["   # ", " :##?"]
    # The row above the limit is marked where nothing reaches into it.
    assert bars([0.0, 0.5, 1.0, None], 1.0, 0.5, 2, ASCII) == ["--#-", " ##?"]
    assert bars([0.0, 0.001], 1.0, None, 1, UNICODE) == [" ▁"]


@given(st.lists(share, min_size=1, max_size=100), st.none() | st.floats(0.01, 1), st.integers(1, 6))
def test_every_chart_is_of_its_size_and_of_ascii(values: list[float | None], limit: float | None, height: int) -> None:
    lines = chart(values, limit, height, lambda value: f"{100 * value:.0f} %", ASCII, 9)
    assert [len(line) for line in lines] == [9 + len(values)] * height
    assert all(line.isascii() for line in lines)
    for at, value in enumerate(values):
        cells = [line[9 + at] for line in lines]
        assert (cells[-1] == ASCII.unknown) == (value is None)
        if value:
            assert cells[-1] in ASCII.levels[1:]


def test_the_scale_names_the_share_in_its_row() -> None:
    def label(value: float) -> str:
        return f"{value:g}"

    assert chart([1.0, 0.25], 0.5, 2, label, ASCII, 6) == [" 0.5 |#-", "     |#:"]
    assert chart([1.0, 0.25], 0.25, 4, label, ASCII, 6)[0] == "   1 |# "
    # Of a share that nothing reaches, the scale ends there.
    assert chart([0.25], 1.0, 2, label, ASCII, 6) == ["   1 |-", "     |:"]
    assert chart([None], None, 1, label, ASCII, 6) == ["   1 |?"]


def test_the_axis_has_the_times_under_its_ticks() -> None:
    line, words = axis(0, 60, 24, lambda moment: f"{moment:02.0f}", ASCII, 3)
    assert line.startswith("  ++") and len(line) == 3 + 24
    assert (words.split()[0], words.split()[-1]) == ("00", "60") and len(words) <= 3 + 24
    for word, number in zip(words.split(), [at for at, mark in enumerate(line[3:]) if mark == "+"], strict=True):
        assert abs(words.index(word) - 3 - number) <= 2


@given(st.integers(1, 300), st.floats(1, 1e7))
def test_an_axis_is_never_wider_than_its_charts(width: int, seconds: float) -> None:
    line, words = axis(1.8e9, 1.8e9 + seconds, max(20, width), lambda moment: f"{moment:.0f}", UNICODE, 5)
    assert len(line) == 5 + max(20, width) and len(words) <= len(line)
