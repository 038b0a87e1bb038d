"""Figures of a history made by hand, and sums that no order of records may change."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.accounting.report import KEYS, RunReport, build, match, run_report, share_of
from tests.unit.accounting import month
from tests.unit.accounting.month import GIB, T, grant, run, used


def reports(rows: list, records: list, start: float = T, end: float = T + 2000) -> dict[tuple, RunReport]:
    return {(one.job_id, one.restart): one for one in build(rows, records, start, end)}


@pytest.fixture
def all_of_it() -> dict[tuple, RunReport]:
    return reports(month.RUNS, month.RECORDS)


def amounts(one: RunReport) -> tuple:
    return (one.gpu_seconds_reserved, one.gpu_seconds_used, one.gpu_seconds_idle, one.gpu_seconds_over)


def test_the_keys_are_the_contract() -> None:
    assert ", ".join(KEYS) == (
        "cluster, job_id, submit, restart, user, account, partition, qos, state, request, backend, gpus, fraction, "
        "nodes, array_job_id, array_task_id, start, end, elapsed_seconds, gpu_seconds_reserved, gpu_seconds_used, "
        "gpu_seconds_idle, gpu_seconds_over, memory_peak_bytes, energy_joules, quality, coverage, enforces, image, "
        "reason"
    )


def test_which_runs_are_told_of(all_of_it: dict) -> None:
    assert list(all_of_it) == [(1, 0), (1, 1), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0)]


def test_each_run_of_a_requeued_job_has_its_own_use(all_of_it: dict) -> None:
    assert amounts(all_of_it[1, 0]) == pytest.approx((25, 10, 15, 0))
    assert amounts(all_of_it[1, 1]) == pytest.approx((50, 100, 0, 50))
    assert (all_of_it[1, 0].state, all_of_it[1, 1].state) == ("REQUEUED", "COMPLETED")


def test_tasks_of_an_array_and_a_gpu_that_two_share(all_of_it: dict) -> None:
    assert [(all_of_it[job, 0].array_job_id, all_of_it[job, 0].array_task_id) for job in (3, 2)] == [(2, 6), (2, 7)]
    assert amounts(all_of_it[2, 0]) == pytest.approx((25, 20, 5, 0))
    assert amounts(all_of_it[4, 0]) == pytest.approx((25, 60, 0, 35))
    assert all_of_it[4, 0].user == "bob"


def test_two_nodes_add_up_and_the_peak_is_of_the_fullest_gpu(all_of_it: dict) -> None:
    one = all_of_it[5, 0]
    assert amounts(one) == pytest.approx((200, 200, 0, 0))
    assert (one.gpus, one.fraction, one.nodes, one.backend, one.request) == (2, 0.5, 2, "shard", "gpu:0.5")
    assert (one.memory_peak_bytes, one.energy_joules, one.quality, one.coverage) == (7 * GIB, 4000, "measured", 1)


def test_what_nobody_measured_is_reserved_by_slurms_clock_and_otherwise_unknown(all_of_it: dict) -> None:
    one = all_of_it[6, 0]
    assert (one.backend, one.gpus, one.fraction, one.request) == ("gpu", 1, 1, "gpu:1")
    assert amounts(one) == (120, None, None, None)
    assert (one.memory_peak_bytes, one.energy_joules, one.quality, one.coverage) == (None, None, "unknown", None)
    running = all_of_it[7, 0]
    assert (running.end, running.state, amounts(running)) == (None, "RUNNING", (25, None, None, None))


def test_a_node_without_its_record_makes_the_use_unknown_and_not_less() -> None:
    one = run_report(month.TWO_NODES, month.TWO_NODES_USE[:2])
    assert amounts(one) == (200, None, None, None)
    assert (one.quality, one.coverage, one.memory_peak_bytes) == ("unknown", 0.5, 2 * GIB)


def test_a_run_was_held_as_well_as_its_least_held_part() -> None:
    best, least = "memory=enforced,compute=none,faults=none", "memory=advisory,compute=none,faults=none"
    records = [replace(record, enforces=best) for record in month.TWO_NODES_USE]
    assert run_report(month.TWO_NODES, records).enforces == best
    assert run_report(month.TWO_NODES, [replace(records[0], enforces=least), *records[1:]]).enforces == least
    assert run_report(month.TWO_NODES, records[:2]).enforces is None


def test_a_part_that_is_unknown_makes_the_sum_unknown() -> None:
    records = [*month.TWO_NODES_USE[:3], used(5, 600, 700, None, node="n2", gpu="GPU-4", fraction=0.5)]
    one = run_report(month.TWO_NODES, records)
    assert amounts(one) == (200, None, None, None)
    assert (one.quality, one.coverage) == ("unknown", 0.75)
    estimated = [replace(month.TWO_NODES_USE[0], quality="estimated"), *month.TWO_NODES_USE[1:]]
    assert run_report(month.TWO_NODES, estimated).quality == "estimated"


def test_measured_as_nothing_is_0() -> None:
    one = run_report(run(1, 0, 100), [used(1, 0, 100, 0.0, memory_peak_bytes=0)])
    assert amounts(one) == (25, 0, 25, 0)
    assert one.memory_peak_bytes == 0


def test_the_period_takes_what_overlaps_it() -> None:
    assert set(reports(month.RUNS, month.RECORDS, T + 110, T + 115)) == {(1, 0), (1, 1)}
    assert set(reports(month.RUNS, month.RECORDS, T + 330, T + 390)) == set()
    assert set(reports(month.RUNS, month.RECORDS, T + 5000, T + 6000)) == {(7, 0)}


def test_use_that_slurm_does_not_tell_of_is_not_lost() -> None:
    records = [used(77, 10, 60, 0.2), used(77, 12, 60, 0.2, node="n2"), used(77, 500, 510, None)]
    first, second = build([], records, T, T + 2000)
    assert (first.job_id, first.submit, first.state, first.user, first.nodes) == (77, None, None, "alice", 2)
    assert amounts(first) == pytest.approx((24.5, 19.6, 4.9, 0))
    assert (first.start, first.end, first.elapsed_seconds, first.fraction) == (T + 10, T + 60, None, 0.25)
    assert amounts(second) == (2.5, None, None, None)


def test_what_a_run_was_given() -> None:
    whole = run(1, 0, 10, nodes=2, alloc_tres="gres/gpu=3,gres/gpu:a100=3", req_tres="gres/gpu=3", extra="")
    assert (share_of(whole).gpus, share_of(whole).request) == (1.5, "gpu=3")
    typed = run(1, 0, 10, nodes=2, alloc_tres="gres/gpu=4", req_tres="gres/gpu=4,gres/gpu:a100=4", extra="")
    assert (share_of(typed).gpus, share_of(typed).request) == (2, "gpu:a100:2")
    bare = share_of(run(1, 0, 10, extra=""))
    assert (bare.backend, bare.gpus, bare.fraction, bare.request) == ("shard", None, None, "shard:25")
    newer = share_of(run(1, 0, 10, extra='{"v":9}'), [used(1, 0, 10, 0.1)])
    assert (newer.backend, newer.gpus, newer.fraction) == ("shard", 1, 0.25)
    pool = run(1, 0, 10, alloc_tres="cpu=1,gres/bitfusion=25", extra=grant("bitfusion"))
    assert share_of(pool).backend == "bitfusion"


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 900), st.integers(0, 300)), max_size=12),
    st.lists(
        st.tuples(st.integers(1, 4), st.floats(0, 1000), st.floats(0, 300), st.none() | st.floats(0, 1)), max_size=30
    ),
    st.randoms(use_true_random=False),
)
def test_every_record_counts_once_whatever_the_order(spans: list, uses: list, random: object) -> None:
    rows = [run(job, start, start + length, submit=T + n, restart=n) for n, (job, start, length) in enumerate(spans)]
    records = [
        used(job, start, start + length, share, gpu=f"GPU-{n}") for n, (job, start, length, share) in enumerate(uses)
    ]
    of_run, left = match(rows, records)
    given_out = [record for some in of_run.values() for record in some] + left
    assert sorted(map(str, given_out)) == sorted(map(str, records))

    told = build(rows, records, T - 10000, T + 10000)
    unmeasured = sum(0.25 * row.elapsed_seconds for row in rows if not of_run[row.key])
    reserved = sum(record.gpu_seconds_reserved for record in records) + unmeasured
    assert sum(one.gpu_seconds_reserved for one in told) == pytest.approx(reserved, abs=1e-3)
    known = [one.gpu_seconds_used for one in told if one.gpu_seconds_used is not None]
    assert sum(known) <= sum(record.gpu_seconds_used or 0 for record in records) + 1e-3

    random.shuffle(rows)
    random.shuffle(records)
    assert build(rows, records, T - 10000, T + 10000) == told


def test_what_two_sources_measured_is_never_added_up() -> None:
    inside = used(1, 10, 110, 0.5, backend="bitfusion", source="allocation", gpu="GPU-1")
    on_server = used(1, 10, 110, 0.4, backend="bitfusion", source="server", node="server1", gpu="GPU-1")
    row = run(1, 10, 110, extra=grant(backend="bitfusion"))
    only = run_report(row, [inside])
    both = run_report(row, [inside, on_server])
    assert amounts(only) == pytest.approx((25, 50, 0, 25)) and amounts(both) == pytest.approx((25, 40, 0, 15))
    assert run_report(row, [on_server, inside]) == both
    # A source that saw nothing takes the place of none that did.
    blind = used(1, 10, 110, None, backend="bitfusion", source="server", node="server1", gpu="GPU-1")
    assert run_report(row, [blind, inside]) == only
    assert [one.gpu_seconds_used for one in build([], [inside, on_server], T, T + 2000)] == [pytest.approx(40)]


def test_a_server_that_saw_the_job_alone_for_a_moment_gives_way_to_the_allocation() -> None:
    inside = used(1, 10, 110, 0.5, backend="bitfusion", source="allocation")
    row = run(1, 10, 110, extra=grant(backend="bitfusion"))
    for seconds, chosen in ((49, 50), (50, 30)):
        on_server = used(
            1, 10, 110, 0.3, backend="bitfusion", source="server", node="server1", seconds_sampled=float(seconds)
        )
        assert run_report(row, [on_server, inside]).gpu_seconds_used == pytest.approx(chosen)
        assert run_report(row, [on_server]).gpu_seconds_used == pytest.approx(30)


def test_one_record_of_a_server_stands_for_all_allocations_on_that_gpu() -> None:
    tasks = [used(1, 10, 110, 0.25, backend="bitfusion", source="allocation", gpu=f"GPU-1/{n}") for n in range(3)]
    on_server = used(1, 10, 110, 0.7, backend="bitfusion", source="server", node="server1", fraction=0.75)
    row = run(1, 10, 110, extra=grant(backend="bitfusion").replace('"extra":""', '"extra":"","tasks":3'))
    both = run_report(row, [*tasks, on_server])
    assert amounts(both) == pytest.approx((75, 70, 5, 0)) and both.quality == "measured"
    lacking = run_report(row, [used(1, 10, 110, 0.4, source="server", node="server1", fraction=0.5)])
    assert lacking.gpu_seconds_reserved == pytest.approx(75) and lacking.gpu_seconds_used is None


def test_each_task_with_an_allocation_of_its_own_is_a_part() -> None:
    tasks = [used(1, 10, 110, 0.25, backend="bitfusion", source="allocation", gpu=f"GPU-1/{n}") for n in range(3)]
    row = run(1, 10, 110, extra=grant(backend="bitfusion").replace('"extra":""', '"extra":"","tasks":3'))
    one = run_report(row, tasks)
    assert one.gpus == 3 and amounts(one) == pytest.approx((75, 75, 0, 0)) and one.quality == "measured"
    lacking = run_report(row, tasks[:2])
    assert lacking.gpu_seconds_reserved == pytest.approx(75) and lacking.gpu_seconds_used is None
