"""Sums and ratios: what jobs did one by one is what they did together, and the ratios are of these."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.study import figures
from slurm_gpushare.study.plan import WHOLE, Settings, rounds
from slurm_gpushare.study.read import Run

CARD = {"name": "NVIDIA Tesla P100", "driver": "535.1", "uuid": "GPU-1"}
MODELS = ("a", "b")


def run(began: float, ended: float, *rates: float, card: dict | None = CARD, place: str | None = None) -> Run:
    """Return a run of MODELS."""
    return Run(began, ended, dict(zip(MODELS, rates, strict=True)), card, place, "gpu" if card else None)


def study(seconds_alone: float, seconds_shared: float, rate_alone: float, rate_shared: float, jobs: int = 4) -> dict:
    """Return the results of one round of each case, whose jobs are all alike."""
    settings = Settings(models=MODELS, command=("x",), jobs=jobs, repeats=1, burn_in=0, ways=("shard",))
    alone, shared = rounds(settings)
    done = {
        alone: ([run(0, seconds_alone, rate_alone, rate_alone)], {"backend": None}),
        shared: (
            [run(10, 10 + seconds_shared, rate_shared, rate_shared)] * jobs,
            {"backend": "shard", "jobs": [7] * jobs},
        ),
    }
    return figures.results(settings, done, {}, {"date": "2018-08-01"})


def test_seventeen_percent_longer_is_3_42_times_the_work() -> None:
    [one] = study(100, 117, 200, 150)["comparisons"]
    assert one["completion_ratio"] == pytest.approx(1.17)
    assert one["work_ratio"] == pytest.approx(4 / 1.17)
    assert one["throughput_ratio"] == pytest.approx({"a": 3, "b": 3})
    assert one["throughput_ratio_in_all"] == pytest.approx(3)


RATES = st.floats(0.1, 1e5)
SPANS = st.tuples(st.floats(0, 1e6), st.floats(0.1, 1e5))


@given(st.lists(st.tuples(SPANS, RATES, RATES), min_size=1, max_size=8))
def test_what_jobs_did_adds_up(jobs: list) -> None:
    runs = [run(began, began + spent, one, other) for (began, spent), one, other in jobs]
    together = figures.throughput(runs, MODELS)
    assert math.fsum(together.values()) == pytest.approx(math.fsum(rate for _, *rates in jobs for rate in rates))
    assert figures.seconds(runs) >= max(run.ended - run.began for run in runs) - 1e-6
    assert all(figures.seconds(runs) >= figures.seconds([one]) - 1e-6 for one in runs)


@given(RATES, RATES, st.floats(1, 1e5), st.floats(1, 1e5), st.integers(2, 20))
def test_the_ratios_are_of_the_figures(alone: float, shared: float, short: float, long: float, jobs: int) -> None:
    results = study(short, long, alone, shared, jobs)
    whole, part = results["cases"]
    [one] = results["comparisons"]
    for model in MODELS:
        assert part["throughput"][model]["mean"] == pytest.approx(jobs * shared)
        total = one["throughput_ratio"][model] * whole["throughput"][model]["mean"]
        assert total == pytest.approx(part["throughput"][model]["mean"])
    assert one["work_ratio"] * one["completion_ratio"] == pytest.approx(jobs)


@given(st.lists(RATES, min_size=1, max_size=9))
def test_a_summary_lies_within_its_values(values: list[float]) -> None:
    made = figures.summary(values)
    assert made["low"] <= made["mean"] * (1 + 1e-9) and made["mean"] <= made["high"] * (1 + 1e-9)
    assert made["n"] * made["mean"] == pytest.approx(math.fsum(values))
    assert (made["sd"] is None) == (len(values) == 1)


def test_nothing_is_unknown_not_nothing() -> None:
    assert figures.summary([]) is None


@pytest.mark.parametrize(
    ("runs", "remote", "said"),
    [
        ([run(0, 5, 1, 1), run(1, 6, 1, 1)], False, None),
        ([run(0, 5, 1, 1), run(5, 9, 1, 1)], False, "did not run at one time"),
        ([run(0, 5, 1, 1), run(0, 5, 1, 1, card={**CARD, "uuid": "GPU-2"})], False, "on 2 GPUs (GPU-1, GPU-2)"),
        ([run(0, 5, 1, 1, card=None, place="n1/0"), run(0, 5, 1, 1, card=None, place="n1/1")], False, "n1/0, n1/1"),
        ([run(0, 5, 1, 1, card=None, place="c1/0"), run(0, 5, 1, 1, card=None, place="c2/0")], True, None),
        ([run(0, 5, 1, 1, card=None), run(0, 5, 1, 1, card=None)], False, None),
    ],
)
def test_rounds_that_do_not_compare(runs: list[Run], remote: bool, said: str | None) -> None:
    found = figures.objection(runs, remote)
    assert found is None if said is None else said in found


def test_a_round_that_does_not_compare_is_told_and_not_counted() -> None:
    settings = Settings(models=MODELS, command=("x",), jobs=2, repeats=2, burn_in=1, ways=("shard",))
    together, apart = [run(0, 5, 1, 1), run(1, 7, 3, 3)], [run(0, 5, 9, 9), run(6, 9, 9, 9)]
    done = {
        one: ([run(0, 5, 1, 1)] if one.case == WHOLE else apart if one.number == 2 else together, {})
        for one in rounds(settings)
    }
    results = figures.results(settings, done, {}, {})
    shared = results["cases"][1]
    assert len(shared["rounds"]) == 2, "burn-in counts for nothing"
    assert (shared["seconds"]["n"], shared["seconds"]["mean"], shared["throughput"]["a"]["mean"]) == (1, 7, 4)
    assert any("Round shard-2 is not counted: its jobs did not run" in line for line in figures.sentences(results))


def test_missing_rounds_are_told_and_what_they_leave_unknown() -> None:
    settings = Settings(models=MODELS, command=("x",), repeats=1, burn_in=0, ways=("shard",))
    alone, shared = rounds(settings)
    results = figures.results(settings, {alone: ([run(0, 5, 1, 1)], {})}, {shared: "job 3 ended as FAILED"}, {})
    assert results["comparisons"][0]["work_ratio"] is None
    said = figures.sentences(results)
    assert "Round shard-1 is missing: job 3 ended as FAILED" in said and "shard: not enough rounds to compare." in said
    rows = {(row["figure"], row["model"], row["case"]): row for row in figures.rows(results)}
    assert rows["seconds", None, "shard"]["mean"] is None and rows["seconds", None, WHOLE]["mean"] == 5
    assert all(set(row) == set(figures.COLUMNS) for row in rows.values())


@pytest.mark.parametrize(
    ("change", "gpu", "said"),
    [
        ({}, True, "Computed on NVIDIA Tesla P100, driver 535.1."),
        ({"device": "cpu"}, False, "does not use it): these are not numbers of a GPU."),
        ({"card": None, "device": "cpu"}, False, "Computed on CPUs: these are not numbers of a GPU."),
        ({"card": None, "device": None}, False, "The jobs saw no GPU: these are not numbers of a GPU."),
        ({"card": None, "device": "gpu"}, True, "Computed on a GPU that nvidia-smi did not tell of."),
    ],
)
def test_what_it_was_computed_on(change: dict, gpu: bool, said: str) -> None:
    settings = Settings(models=MODELS, command=("x",), repeats=1, burn_in=0)
    done = {one: ([replace(run(0, 5, 1, 1), **change)] * len(one.orders), {}) for one in rounds(settings)}
    results = figures.results(settings, done, {}, {})
    assert results["gpu"] is gpu and said in results["remark"]
    assert figures.sentences(results)[-1] == results["remark"]
