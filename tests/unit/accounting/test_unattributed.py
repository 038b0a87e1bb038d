"""What GPUs did for no job, by GPU and time."""

from pathlib import Path

import pytest

from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.accounting.unattributed import unattributed
from tests.unit.accounting.month import T
from tests.unit.accounting.test_store import gpu_hour

HOUR = 3600
BEGIN = T - T % HOUR - T


@pytest.fixture
def store(tmp_path: Path):
    store = Store(f"sqlite:///{tmp_path}/usage.sqlite")
    store.add_usage(
        [
            gpu_hour(BEGIN, 10, gpu_name="Tesla", gpu_seconds_unattributed=5.0),
            gpu_hour(BEGIN, 10, gpu="GPU-2", gpu_name="Tesla", gpu_seconds_unattributed=7.0),
            gpu_hour(BEGIN, 10, gpu="GPU-3", node="n2", gpu_name="Other", gpu_seconds_unattributed=None),
            gpu_hour(BEGIN + HOUR, 10, node="n2", gpu_name="Other", gpu_seconds_unattributed=11.0),
        ]
    )
    yield store
    store.close()


def period(start: float, end: float, **changed: object) -> Selection:
    return Selection(T + BEGIN + start, T + BEGIN + end, **changed)


def test_by_what_tells_gpus_apart(store: Store) -> None:
    both = period(0, 2 * HOUR)
    assert unattributed(store, both, ("node",)) == {("n1",): 12, ("n2",): 11}
    assert unattributed(store, both, ("gpu", "node")) == {("Tesla", "n1"): 12, ("Other", "n2"): 11}
    assert sum(unattributed(store, both, ("day",)).values()) == 23
    assert unattributed(store, both, ()) == {(): 23}


def test_an_hour_counts_with_the_part_that_lies_in_the_time(store: Store) -> None:
    assert unattributed(store, period(HOUR / 2, HOUR * 1.5), ("node",)) == {("n1",): 6, ("n2",): 5.5}
    assert unattributed(store, period(2 * HOUR, 3 * HOUR), ("node",)) == {}


@pytest.mark.parametrize("by", [("user",), ("node", "account"), ("backend", "month")])
def test_it_is_nobodys(store: Store, by: tuple[str, ...]) -> None:
    assert unattributed(store, period(0, HOUR), by) == {}


@pytest.mark.parametrize("limit", [{"uid": 1001}, {"users": ("alice",)}, {"states": ("FAILED",)}])
def test_some_jobs_alone_have_none(store: Store, limit: dict) -> None:
    assert unattributed(store, period(0, HOUR, **limit), ("node",)) == {}
