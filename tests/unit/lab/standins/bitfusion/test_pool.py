"""The pool's state machine."""

from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from slurm_gpushare.lab.standins.bitfusion.config import parse_config
from slurm_gpushare.lab.standins.bitfusion.pool import Pool, Request

MEMORY = [16280, 16280, 32510]
TIMEOUT = 600


def pool_of(memory=tuple(MEMORY), clock=lambda: 0.0, **settings_):
    gpus = [
        {
            "uuid": f"GPU-{place}",
            "name": "Card",
            "memory_mib": mib,
            "idle_watts": 1,
            "max_watts": 2,
            "capability": "6.0",
        }
        for place, mib in enumerate(memory)
    ]
    config = {"listen": "127.0.0.1", "token": "t", "gpus": gpus, "auto_release_timeout": TIMEOUT} | settings_
    return Pool(parse_config(config), clock)


class PoolMachine(RuleBasedStateMachine):
    """Any sequence of requests, connections, losses, releases and time, against a model that only adds up."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.pool = None
        self.connections = []
        self.requests = 0

    @precondition(lambda self: self.pool is None)
    @rule(mode=st.sampled_from(["free", "hold"]))
    def start(self, mode):
        self.pool = pool_of(clock=lambda: self.now, on_disconnect=mode)

    def living(self):
        return list(self.pool.allocations.values())

    @precondition(lambda self: self.pool)
    @rule(
        kind=st.sampled_from(["run", "request_gpus"]),
        count=st.integers(1, 3),
        size=st.one_of(st.fractions(Fraction(1, 100), 1), st.integers(1, 40000)),
    )
    def request(self, kind, count, size):
        self.requests += 1
        amount = {"fraction": size} if isinstance(size, Fraction) else {"mib": size}
        request = Request("c", str(self.requests), kind, count, **amount)
        before = [self.pool.free_mib(gpu) for gpu in range(3)]
        try:
            granted = self.pool.request(request)
        except ValueError:
            assert count > 2 or isinstance(size, int)
            granted = None
        if granted is None:
            assert [self.pool.free_mib(gpu) for gpu in range(3)] == before
            return
        assert len(set(granted.gpus)) == count
        assert len({MEMORY[gpu] for gpu in granted.gpus}) == 1
        total = MEMORY[granted.gpus[0]]
        assert granted.mib == (size if isinstance(size, int) else size.numerator * total // size.denominator)
        if kind == "run":
            self.pool.connect(granted)
            self.connections.append((granted, True))

    @precondition(lambda self: self.pool and self.pool.allocations)
    @rule(data=st.data())
    def attach(self, data):
        allocation = data.draw(st.sampled_from(self.living()))
        assert self.pool.find(allocation.uuid, allocation.secret) is allocation
        assert self.pool.find(allocation.uuid, "0" * 32) is None
        self.pool.connect(allocation)
        self.connections.append((allocation, False))

    @precondition(lambda self: self.connections)
    @rule(data=st.data())
    def lose(self, data):
        allocation, owner = data.draw(st.sampled_from(self.connections))
        self.connections.remove((allocation, owner))
        alive = allocation.uuid in self.pool.allocations
        self.pool.disconnect(allocation, owner)
        freed = owner and self.pool.config.on_disconnect == "free"
        assert (allocation.uuid in self.pool.allocations) == (alive and not freed)

    @precondition(lambda self: self.pool and self.pool.allocations)
    @rule(data=st.data())
    def release(self, data):
        allocation = data.draw(st.sampled_from(self.living()))
        before = [self.pool.free_mib(gpu) for gpu in range(3)]
        for _ in range(2):
            self.pool.free(allocation, "release")
        after = [self.pool.free_mib(gpu) for gpu in range(3)]
        assert [b - a for a, b in zip(before, after, strict=True)] == [
            allocation.mib if gpu in allocation.gpus else 0 for gpu in range(3)
        ]
        assert self.pool.find(allocation.uuid, allocation.secret) is None

    @precondition(lambda self: self.pool)
    @rule(seconds=st.integers(1, 2 * TIMEOUT))
    def wait(self, seconds):
        self.now += seconds
        idle = [each for each in self.living() if not each.connected and self.now - each.idle_since >= TIMEOUT]
        kept = [each for each in self.living() if each not in idle]
        self.pool.expire()
        assert self.living() == kept

    @invariant()
    def memory_adds_up(self):
        if self.pool is None:
            return
        for gpu, total in enumerate(MEMORY):
            held = sum(each.mib for each in self.living() if gpu in each.gpus)
            assert 0 <= held <= total
            assert self.pool.free_mib(gpu) == total - held
        counts = self.pool.state()["counts"]
        assert counts["granted"] - counts["released"] == len(self.living())


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_decimal_fraction_is_exact():
    """0.29 x 100 is 28.999… in binary."""
    assert pool_of([100]).request(Request("c", "1", "run", 1, Fraction("0.29"))).mib == 29


def test_whole_use_of_a_gpu_leaves_nothing_and_not_one_mebibyte_more():
    pool = pool_of([16280])
    for number in range(4):
        assert pool.request(Request("c", str(number), "run", 1, Fraction("0.25")))
    assert pool.free_mib(0) == 0
    assert pool.request(Request("c", "5", "run", 1, mib=1)) is None


def test_a_part_below_one_mebibyte_can_never_be_had():
    with pytest.raises(ValueError, match="no such GPUs"):
        pool_of([100]).request(Request("c", "1", "run", 1, Fraction(1, 1000)))


def test_the_refusals_of_one_waiting_client_are_one_entry():
    pool = pool_of([100])
    held = pool.request(Request("a", "1", "run", 1))
    for _ in range(3):
        assert pool.request(Request("b", "2", "run", 1)) is None
    pool.free(held, "release")
    assert pool.request(Request("b", "2", "run", 1))
    state = pool.state()
    assert [(entry["event"], entry.get("times")) for entry in state["log"]] == [
        ("granted", None),
        ("refused", 3),
        ("released", None),
        ("granted", None),
    ]
    assert state["counts"] == {"granted": 2, "refused": 3, "released": 1}
