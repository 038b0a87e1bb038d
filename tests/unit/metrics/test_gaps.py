import json

from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.metrics.gaps import NOT_SAMPLED, SHORTEST, Gaps
from slurm_gpushare.usage import MOST_GAPS


def test_a_gap_has_the_first_reason_that_was_given_for_it():
    gaps = Gaps()
    gaps.known(0, 10)
    gaps.because("GPU is lost")
    gaps.because("GPU gives no reading")
    gaps.known(14.5, 20)
    gaps.known(22, 30)
    assert gaps.until(30) == [[10, 4.5, "GPU is lost"], [20, 2, NOT_SAMPLED]]
    gaps.because("agent was\ndown")
    assert gaps.until(33)[-1] == [30, 3, "agent was down"]
    assert gaps.until(30.5) == gaps.until(30)


def test_a_run_that_nobody_sampled_is_one_gap():
    assert Gaps().until(7) == [[0, 7, NOT_SAMPLED]]
    assert Gaps().until(0) == []


def test_of_too_many_the_longest_are_kept_in_their_order():
    gaps, at = Gaps(), 0.0
    for number in range(40):
        gaps.known(at, at + 1)
        at += 1 + SHORTEST + (number * 7) % 40
    found = gaps.until(at)
    assert len(found) == MOST_GAPS and [one[0] for one in found] == sorted(one[0] for one in found)
    assert sorted(one[1] for one in found) == [SHORTEST + number for number in range(20, 40)]


interval = st.tuples(st.floats(0, 50), st.floats(0.01, 50), st.none() | st.text(max_size=5))


@given(st.lists(interval, max_size=15), st.floats(0, 50))
def test_gaps_and_known_time_make_the_run(intervals, rest):
    gaps, at, missing = Gaps(), 0.0, 0.0
    for pause, seconds, why in intervals:
        if why is not None:
            gaps.because(why)
        gaps = Gaps.of_state(json.loads(json.dumps(gaps.state())))
        gaps.known(at + pause, at + pause + seconds)
        missing += pause
        at += pause + seconds
    told = sum(one[1] for one in gaps.until(at + rest))
    assert missing + rest - SHORTEST * (len(intervals) + 1) - 0.1 <= told <= missing + rest + 0.1
    assert all(one[2].isprintable() for one in gaps.until(at + rest))
