import pytest

from slurm_gpushare.backends import gpu, shard
from slurm_gpushare.grant import Grant
from slurm_gpushare.node_policy import BackendPolicy

GRANT = Grant("shard", 2, 0.25, 50, None, 1, "", "", "")


@pytest.mark.parametrize(
    "text, numbers",
    [("", ()), ("0", (0,)), ("0,1", (0, 1)), ("0-3,6", (0, 1, 2, 3, 6)), ("10", (10,))],
)
def test_numbers_of_gpus(text, numbers):
    assert gpu.gpu_numbers(text) == numbers


@pytest.mark.parametrize("text", ["a", "0,b", "-1", "1-", "0x1", "1 2", "GPU-8c", "1\n"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="SLURM_JOB_GPUS"):
        gpu.gpu_numbers(text)


@pytest.mark.parametrize("given, believed", [("0,1", True), ("2-3", True), ("0", False), ("", False), ("0,1,2", False)])
def test_a_grant_is_believed_when_slurm_gave_its_gpus(given, believed):
    reason = shard.agrees(GRANT, {"SLURM_JOB_GPUS": given}, BackendPolicy())
    assert (reason is None) is believed
    assert believed or "2 GPUs" in reason


def test_a_malformed_list_of_gpus_is_no_agreement():
    assert "'x'" in shard.agrees(GRANT, {"SLURM_JOB_GPUS": "x"}, BackendPolicy())


def test_a_task_is_left_as_it_is():
    assert shard.task_argv(GRANT, BackendPolicy(), "batch", ["a=b", "c"], None) == ["a=b", "c"]
    assert shard.task_environment("/w") == {}
    assert shard.binds(BackendPolicy()) == []
