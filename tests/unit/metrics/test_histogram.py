import json
import math

from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.metrics.histogram import Histogram, bytes_bin, bytes_of, share_bin, share_of

GIB = 1 << 30


@given(st.floats(0, 1))
def test_a_share_is_off_by_half_a_point_at_most(share):
    assert abs(share_of(share_bin(share)) - share) <= 0.005 + 1e-12


@given(st.integers(1, 1 << 50))
def test_bytes_are_off_by_one_per_cent_at_most(amount):
    assert abs(bytes_of(bytes_bin(amount)) - amount) <= 0.01 * amount + 0.5


def test_whole_per_cents_are_exact_and_nothing_is_nothing():
    assert [share_of(share_bin(number / 100)) for number in range(101)] == [number / 100 for number in range(101)]
    assert bytes_of(bytes_bin(0)) == 0 and share_bin(1.7) == 100 and share_bin(-1) == 0


def test_percentiles_are_weighed_by_time():
    histogram = Histogram()
    for share, seconds in ((0.0, 90.0), (0.5, 6.0), (1.0, 4.0)):
        histogram.add(share_bin(share), seconds)
    assert [share_of(histogram.percentile(one)) for one in (0.5, 0.9, 0.95, 0.97, 1.0)] == [0, 0, 0.5, 1, 1]
    assert Histogram().percentile(0.5) is None


values = st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 100)), min_size=1, max_size=60)


@given(values, st.floats(0.01, 1))
def test_a_percentile_is_where_that_share_of_the_time_lies_below(values, wanted):
    histogram = Histogram()
    for share, seconds in values:
        histogram.add(share_bin(share), seconds)
    found = share_of(histogram.percentile(wanted))
    total = math.fsum(seconds for _, seconds in values)
    below = math.fsum(seconds for share, seconds in values if share < found + 0.005 + 1e-9)
    strictly = math.fsum(seconds for share, seconds in values if share < found - 0.005 - 1e-9)
    assert below >= wanted * total * (1 - 1e-9) and strictly <= wanted * total * (1 + 1e-9)


@given(values)
def test_it_survives_its_state(values):
    histogram = Histogram()
    for share, seconds in values:
        histogram.add(bytes_bin(share * GIB), seconds)
    again = Histogram.of_state(json.loads(json.dumps(histogram.state())))
    for one in (0.1, 0.5, 0.95, 1.0):
        assert again.percentile(one) == histogram.percentile(one)
