import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.metrics.series import Series


def filled(intervals, every=1.0, most=240):
    series, at = Series(every, most), 0.0
    for seconds, sm, memory in intervals:
        series.add(at, at + seconds, sm, memory)
        at += seconds
    return series, at


def test_short_runs_have_a_point_a_second():
    series, _ = filled([(0.5, 0.2, 5), (0.5, 0.4, 3), (1.0, 1.0, 7)])
    assert series.points() == {"every": 1.0, "sm": [0.3, 1.0], "memory": [5, 7]}


def test_what_is_not_known_is_null_and_not_nothing():
    series = Series()
    series.add(0, 1, 0.5, None)
    series.add(2, 3, None, 7)
    series.add(3, 4, 0.0, 0)
    assert series.points() == {"every": 1.0, "sm": [0.5, None, None, 0.0], "memory": [None, None, 7, 0]}
    assert Series().points() is None
    series = Series()
    series.add(0, 5, None, None)
    assert series.points() is None


def test_long_runs_have_fewer_points_that_stand_for_more():
    series, _ = filled([(1.0, number % 2, number) for number in range(1000)])
    points = series.points()
    assert points["every"] == 8 and len(points["sm"]) == len(points["memory"]) == 125
    assert set(points["sm"]) == {0.5} and points["memory"][:2] == [7, 15]


def test_an_end_on_a_boundary_begins_no_point():
    series, _ = filled([(2.0, 0.5, 1)])
    assert len(series.points()["sm"]) == 2
    series, _ = filled([(240.0, 0.5, 1)])
    assert len(series.points()["sm"]) == 240 and series.every == 1.0


def test_times_that_cannot_be_are_left_out():
    series = Series()
    for start, end in ((5, 5), (5, 4), (-3, -1), (0, float("nan"))):
        series.add(start, end, 0.5, 1)
    assert series.points() is None
    series.add(-1, 1, 0.5, 1)
    assert series.points() == {"every": 1.0, "sm": [0.5], "memory": [1]}


interval = st.tuples(st.floats(0.05, 40), st.none() | st.floats(0, 1), st.none() | st.integers(0, 1 << 40))


@given(st.lists(interval, max_size=80), st.sampled_from([2, 5, 240]))
def test_the_mean_over_time_is_kept_however_often_points_are_merged(intervals, most):
    series, end = filled(intervals, most=most)
    used = sum(seconds * sm for seconds, sm, _ in intervals if sm is not None)
    known = sum(seconds for seconds, sm, _ in intervals if sm is not None)
    assert series.sums() == (pytest.approx(used, abs=1e-9), pytest.approx(known, abs=1e-9))
    points = series.points()
    if points is None:
        assert known == 0 and all(memory is None for _, _, memory in intervals)
        return
    assert len(points["sm"]) == len(points["memory"]) <= most
    assert len(points["sm"]) * points["every"] < end + points["every"] + 1e-6
    assert all(sm is None or 0 <= sm <= 1 for sm in points["sm"])
    peaks = [memory for _, _, memory in intervals if memory is not None]
    assert max((each for each in points["memory"] if each is not None), default=None) == max(peaks, default=None)
    if end and known == pytest.approx(end):
        # Every point is known whole but the last: the mean of the points, so weighed, is the run's.
        every, sm = points["every"], points["sm"]
        weights = [min(end, (number + 1) * every) - number * every for number in range(len(sm))]
        mean = sum(weight * each for weight, each in zip(weights, sm, strict=True)) / end
        assert mean == pytest.approx(used / end, abs=1e-4)


@given(st.lists(interval, max_size=40), st.lists(interval, max_size=40))
def test_it_goes_on_from_its_state(before, after):
    series, at = filled(before, most=240)
    again = Series.of_state(json.loads(json.dumps(series.state())))
    for seconds, sm, memory in after:
        for each in (series, again):
            each.add(at, at + seconds, sm, memory)
        at += seconds
    assert again.points() == series.points()
