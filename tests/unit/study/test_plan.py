"""What a study runs: every job trains every model once, in an order that a seed fixes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.errors import RequestError
from slurm_gpushare.study.plan import WHOLE, Settings, rounds

SETTINGS = st.builds(
    Settings,
    command=st.just(("program",)),
    models=st.lists(st.sampled_from("abcdef"), min_size=1, unique=True).map(tuple),
    jobs=st.integers(2, 12),
    repeats=st.integers(1, 6),
    burn_in=st.integers(0, 2),
    seed=st.integers(),
    ways=st.lists(st.sampled_from(["", "shard", "mps"]), min_size=1, unique=True).map(tuple),
)


@given(SETTINGS)
def test_every_job_trains_every_model_once(settings: Settings) -> None:
    plan = rounds(settings)
    assert len(plan) == (settings.burn_in + settings.repeats) * (1 + len(settings.ways))
    for one in plan:
        assert len(one.orders) == (1 if one.case == WHOLE else settings.jobs)
        assert all(sorted(order) == sorted(settings.models) for order in one.orders)
    assert all(one.orders == (settings.models,) for one in plan if one.case == WHOLE)
    assert sum(one.counts for one in plan) == settings.repeats * len(settings.cases)
    assert len({one.name for one in plan}) == len(plan)


@given(SETTINGS)
def test_a_plan_is_the_same_each_time(settings: Settings) -> None:
    assert rounds(settings) == rounds(settings)


def test_more_rounds_leave_the_first_ones_as_they_were() -> None:
    few, many = rounds(Settings(repeats=2)), rounds(Settings(repeats=5))
    assert many[: len(few)] == few


def test_cases_take_turns_and_burn_in_comes_first() -> None:
    names = [one.name for one in rounds(Settings(repeats=2, ways=("shard", "mps")))]
    assert names == [
        *("whole-burn-in1", "shard-burn-in1", "mps-burn-in1"),
        *("whole-1", "shard-1", "mps-1", "whole-2", "shard-2", "mps-2"),
    ]


def test_seeds_and_rounds_give_different_orders() -> None:
    orders = {rounds(Settings(seed=seed))[1].orders for seed in range(20)}
    assert len(orders) > 10
    every = list(itertools.permutations(Settings().models))
    seen = {order for one in rounds(Settings(repeats=50)) for order in one.orders}
    assert seen == set(every)


@pytest.mark.parametrize(("jobs", "fraction"), [(2, 0.5), (3, 0.33), (4, 0.25), (7, 0.14), (100, 0.01)])
def test_the_shares_fit_on_one_gpu(jobs: int, fraction: float) -> None:
    assert Settings(jobs=jobs).fraction == fraction
    assert round(fraction * 100) * jobs <= 100


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"jobs": 1}, "--jobs=1: write a number from 2 to 100"),
        ({"repeats": 0}, "--repeat=0: write"),
        ({"burn_in": -1}, "--burn-in=-1: write"),
        ({"models": ("resnet50", "vgg")}, "no model vgg: write some of alexnet, inception3, lenet, resnet50"),
        ({"models": ("../x",), "command": ("p",)}, "'../x' is no name"),
        ({"models": ("alexnet", "alexnet")}, "write each name once"),
        ({"models": ()}, "write each name once, and at least one"),
        ({"ways": ("whole",)}, "whole is the name of the case without sharing"),
        (
            {"engine": "local", "ways": ("shard",)},
            "'shard' with --engine=local: write some of time-slicing, mps, mps-open",
        ),
        ({"engine": "local", "ways": ("mps",), "options": ("--mem=1G",)}, "--engine=local does not use Slurm"),
        ({"options": ("job.sh",)}, "job.sh: write sbatch's options in the form --name=value"),
        ({"engine": "k8s"}, "write slurm or local"),
    ],
)
def test_bad_input_is_one_line(wrong: dict, said: str) -> None:
    with pytest.raises(RequestError) as error:
        Settings(**wrong)
    assert said in str(error.value) and "\n" not in str(error.value)
