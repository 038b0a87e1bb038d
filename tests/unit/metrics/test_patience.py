import threading
import time

import pytest

from slurm_gpushare.metrics.patience import Patience


def fails():
    raise ValueError("no")


def test_calls_give_what_they_give_or_raise():
    outcomes = Patience(20).call({"a": lambda: 1, "b": fails, "c": lambda: 3})
    assert (outcomes["a"], outcomes["c"]) == (1, 3)
    assert isinstance(outcomes["b"], ValueError)


def test_one_thread_makes_all_calls_of_all_batches():
    patience = Patience(20)
    threads = set()
    for _ in range(50):
        patience.call(dict.fromkeys("abc", lambda: threads.add(threading.get_ident())))
    assert len(threads) == 1 and threading.get_ident() not in threads


@pytest.mark.parametrize("which", ["a", "b", "c"])
def test_one_that_hangs_costs_the_others_nothing_but_its_wait(which):
    patience, returns = Patience(0.02), threading.Event()
    calls = {key: (lambda key=key: returns.wait(20) if key == which else key) for key in "abc"}
    for _ in range(3):
        outcomes = patience.call(calls)
        assert list(outcomes) == ["a", "b", "c"]
        assert isinstance(outcomes.pop(which), TimeoutError)
        assert outcomes == {key: key for key in "abc" if key != which}
    assert patience.hangs(which) and patience.any_hangs()
    returns.set()
    deadline = time.monotonic() + 20
    while patience.any_hangs():
        assert time.monotonic() < deadline
    assert patience.call(calls) == {key: True if key == which else key for key in "abc"}


def test_all_that_hang_are_waited_for_once():
    patience, returns, begun = Patience(0.02), threading.Event(), []
    calls = dict.fromkeys("abc", lambda: begun.append(1) or returns.wait(20))
    for _ in range(2):
        assert all(isinstance(outcome, TimeoutError) for outcome in patience.call(calls).values())
    assert len(begun) == 3
    returns.set()


def test_it_can_be_used_again_after_close():
    patience = Patience(20)
    patience.close()
    assert patience.call({"a": lambda: 1}) == {"a": 1}
    patience.close()
    assert patience.call({"a": lambda: 2}) == {"a": 2}
    patience.close()
