"""Advice on jobs whose use is known by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.accounting.advice import advise
from tests.unit.accounting.month import GIB, grant, run, used


def record(job_id: int, p95: float | None = 0.1, peak: int | None = GIB, **changed: object):
    """A job that held half of a GPU of 16 GiB for 100 s."""
    values = {"fraction": 0.5, "sm_p95": p95, "memory_peak_bytes": peak, "memory_share_bytes": 8 * GIB, **changed}
    return used(job_id, 0, 100, p95, **values)


def halves(*jobs: int, **changed: object) -> list:
    return [run(job, 0, 100, extra=grant(fraction=0.5), **changed) for job in jobs]


def test_the_busiest_and_the_fullest_of_them_decide() -> None:
    (one,) = advise(halves(1, 2, 3), [record(1, 0.1), record(2, 0.2), record(3, 0.05, 2 * GIB)])
    assert (one.user, one.account, one.backend, one.gpu, one.request) == (
        *("alice", "physics", "shard", "Tesla", "gpu:0.5"),
    )
    assert (one.jobs, one.jobs_unknown, one.fraction, one.fraction_advised) == (3, 0, 0.5, 0.2)
    assert (one.memory_peak_bytes, one.memory_advised_bytes) == (2 * GIB, 2 * GIB)
    # 150 GPU-seconds were reserved; a fifth instead of a half frees three fifths of them.
    assert (one.gpu_seconds_reserved, one.gpu_seconds_freed) == (150, pytest.approx(90))


def test_memory_can_be_what_decides() -> None:
    (one,) = advise(halves(1), [record(1, 0.1, 6 * GIB)])
    assert one.fraction_advised == 0.38  # 6 of 16 GiB, in whole per cent


def test_who_uses_the_share_gets_no_advice() -> None:
    assert advise(halves(1), [record(1, 0.5)]) == []
    assert advise(halves(1), [record(1, 0.1, 9 * GIB)]) == []


def test_what_is_not_known_gives_none_and_is_counted() -> None:
    assert advise(halves(1), []) == [] == advise([], [record(1)])
    unknown = [record(2, None), record(3, 0.1, None), record(4, seconds_sampled=40.0)]
    assert advise(halves(2, 3, 4), unknown) == []
    (one,) = advise(halves(1, 2, 3, 4), [record(1), *unknown])
    assert (one.jobs, one.jobs_unknown) == (1, 3)


def test_kinds_are_told_apart_and_the_most_wasteful_comes_first() -> None:
    rows = [*halves(1), *halves(2, user="bob"), *halves(3, user="bob")]
    found = advise(rows, [record(1), record(2), record(3)])
    assert [(one.user, one.jobs) for one in found] == [("bob", 2), ("alice", 1)]


def test_a_running_job_is_left_alone() -> None:
    assert advise([run(1, 0, None, extra=grant(fraction=0.5))], [record(1)]) == []


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 8 * GIB)), min_size=1, max_size=6))
def test_each_job_would_have_fitted(uses: list) -> None:
    jobs = range(1, len(uses) + 1)
    records = [record(job, p95, peak) for job, (p95, peak) in zip(jobs, uses, strict=True)]
    for one in advise(halves(*jobs), records):
        assert 0 < one.fraction_advised < 0.5 and 0 <= one.gpu_seconds_freed < one.gpu_seconds_reserved
        for p95, peak in uses:
            assert p95 <= one.fraction_advised + 1e-6
            assert peak <= one.fraction_advised * 16 * GIB + 1000 and peak <= one.memory_advised_bytes
