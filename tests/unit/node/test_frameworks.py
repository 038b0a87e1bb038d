import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.node.frameworks import NEW_XLA, OURS, XLA, variables

TF = "TF_FORCE_GPU_ALLOW_GROWTH"


def test_a_quarter_of_the_card():
    assert variables(0.25, 1, 0, {}.get) == {TF: "true", XLA: "0.1875", OURS: "0.2500"}


@pytest.mark.parametrize("gpus, tasks, share", [(1, 1, "0.5000"), (1, 2, "0.2500"), (2, 2, "0.5000"), (2, 3, "0.2500")])
def test_tasks_on_one_gpu_share_the_share(gpus, tasks, share):
    assert variables(0.5, gpus, tasks, {}.get)[OURS] == share


def test_what_the_user_has_set_stays():
    users = {TF: "false", XLA: "0.1"}
    assert variables(0.25, 1, 1, users.get) == {OURS: "0.2500"}


def test_jax_is_not_given_both_of_its_names():
    assert XLA not in variables(0.25, 1, 1, {NEW_XLA: "0.1"}.get)


def test_a_step_and_a_job_from_within_a_job_do_not_take_ours_for_the_users():
    outer = variables(0.5, 1, 0, {}.get)
    assert variables(0.5, 1, 2, outer.get) == variables(0.25, 1, 1, {}.get)
    assert variables(0.1, 1, 0, {**outer, TF: "false"}.get) == {XLA: "0.0750", OURS: "0.1000"}


def test_a_share_that_is_no_number_is_the_users_joke():
    assert variables(0.5, 1, 0, {OURS: "much", XLA: "0.9"}.get) == {TF: "true", OURS: "0.5000"}


@given(st.floats(1e-6, 1), st.integers(1, 8), st.integers(0, 64))
def test_all_tasks_of_a_gpu_together_take_no_more_than_the_share(share, gpus, tasks):
    found = variables(share, gpus, tasks, {}.get)
    each = -(-tasks // gpus) or 1
    assert 0 < float(found[XLA]) <= float(found[OURS])
    assert float(found[OURS]) * each <= share + 1e-4 * each  # 0.0001 is the smallest that is written
