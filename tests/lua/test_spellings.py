"""Every spelling gives the same grant on both backends, and the user's words stay readable in it."""

import pytest

from slurm_gpushare.grant import decode_grant


@pytest.mark.parametrize("amount", ["0.25", ".25", "25%", "25.0%", "1/4", "250/1000"])
@pytest.mark.parametrize(
    ("field", "text", "recorded"),
    [
        ("tres_per_node", "gres/gpu:{}", "gpu:{}"),
        ("tres_per_job", "gres/gpu:{}", "--gpus={}"),
        ("tres_per_task", "gres/gpu:{}", "--gpus-per-task={}"),
        ("tres_per_node", "gres/gpu:task@{}", "--gpus-per-task={}"),
        ("tres_per_node", "gres/gpu:job@{}", "--gpus={}"),
        ("spank_job_env", "_SLURM_SPANK_OPTION_gpushare_gpu_share={}", "--gpu-share={}"),
    ],
)
def test_the_same_grant(controller, field: str, text: str, recorded: str, amount: str) -> None:
    text = text.format(amount)
    for partition, gres in (("shard", "gres/shard:25"), ("bitfusion", "gres/bitfusion:25")):
        answer = controller.submit(**{field: [text] if field == "spank_job_env" else text}, partition=partition)
        assert answer.status == 0, answer.told
        assert answer.job["tres_per_node"] == gres
        assert "tres_per_job" not in answer.job and "tres_per_task" not in answer.job
        grant = decode_grant(answer.job["extra"])
        assert (grant.slices, grant.fraction, grant.request) == (25, 0.25, recorded.format(amount))


def test_many_gpus_of_a_share_each(controller) -> None:
    answer = controller.submit(tres_per_node="gres/gpu:0.25:2", partition="bitfusion")
    grant = decode_grant(answer.job["extra"])
    assert (grant.gpus, grant.fraction, grant.slices) == (2, 0.25, 50)
    assert answer.job["licenses"] == "bitfusion:50"
    assert "0.25 of each of 2 GPUs" in answer.told[0]


@pytest.mark.parametrize(
    ("fields", "slices", "nodes"),
    [
        ({"num_tasks": 2}, 50, (1, 1)),
        ({"num_tasks": 4, "min_nodes": 2, "max_nodes": 2}, 50, (2, 2)),
        ({"ntasks_per_node": 3, "min_nodes": 2, "max_nodes": 2}, 75, (2, 2)),
        ({}, 25, (1, 1)),
    ],
)
def test_a_share_for_each_task_is_summed_on_a_node(controller, fields: dict, slices: int, nodes: tuple) -> None:
    answer = controller.submit(tres_per_task="cpu=2,gres/gpu:0.25", partition="shard", **fields)
    assert answer.status == 0, answer.told
    assert answer.job["tres_per_node"] == f"gres/shard:{slices}" and answer.job["tres_per_task"] == "cpu=2"
    assert (answer.job["min_nodes"], answer.job["max_nodes"]) == nodes


@pytest.mark.parametrize(
    ("words", "fields", "allocation", "licences"),
    [
        ("1", {"num_tasks": 2}, (2, 1, 1.0, 200), 200),
        ("0.25", {"num_tasks": 4, "min_nodes": 2, "max_nodes": 2}, (2, 1, 0.25, 50), 100),
        ("0.5:2", {"num_tasks": 2}, (2, 2, 0.5, 200), 200),
        ("8G", {"num_tasks": 2}, (2, 1, 0.51, 102), 102),
        ("0.25", {"num_tasks": 1}, (1, 1, 0.25, 25), 25),
    ],
)
def test_each_task_of_a_pool_job_has_an_allocation_of_its_own(
    controller, words: str, fields: dict, allocation: tuple, licences: int
) -> None:
    answer = controller.submit(tres_per_task=f"gres/gpu:{words}", partition="bitfusion", **fields)
    assert answer.status == 0, answer.told
    grant = decode_grant(answer.job["extra"])
    assert (grant.tasks, grant.gpus, grant.fraction, grant.slices) == allocation
    assert answer.job["licenses"] == f"bitfusion:{licences}"
    assert ('"tasks"' in answer.job["extra"]) == ("for each of the" in answer.told[0]) == (grant.tasks > 1)


def test_a_pool_without_room_for_every_task(controller) -> None:
    answer = controller.submit(tres_per_task="gres/gpu:0.5", num_tasks=7, partition="bitfusion")
    assert answer.status == -1 and "for 7 tasks: the pool has room for 6 of them: write -n 6" in answer.told[0]


def test_one_gpu_for_all_tasks_is_a_whole_gpu(controller) -> None:
    answer = controller.submit(tres_per_task="gres/gpu:0.5", num_tasks=2, partition="shard")
    assert answer.job["tres_per_node"] == "gres/gpu:1" and "extra" not in answer.job


def test_memory_alone_and_within_a_share(controller) -> None:
    memory = "_SLURM_SPANK_OPTION_gpushare_gpu_mem=8G"
    alone = decode_grant(controller.submit(spank_job_env=[memory], partition="shard").job["extra"])
    assert (alone.slices, alone.memory, alone.request) == (20, 8192 * 1024**2, "--gpu-mem=8G")
    within = controller.submit(tres_per_node="gres/gpu:0.5", spank_job_env=[memory], partition="shard")
    grant = decode_grant(within.job["extra"])
    assert (grant.slices, grant.memory, grant.request) == (50, 8192 * 1024**2, "gpu:0.5 --gpu-mem=8G")


def test_each_part_of_a_heterogeneous_job_is_decided_by_itself(controller) -> None:
    first = controller.submit(tres_per_node="gres/gpu:0.5", partition="bitfusion", het_job_offset=0)
    second = controller.submit(tres_per_node="gres/gpu:0.25", partition="shard", het_job_offset=1)
    third = controller.submit(partition="cpu", het_job_offset=2)
    assert first.job["licenses"] == "bitfusion:50" and second.job["tres_per_node"] == "gres/shard:25"
    assert "extra" not in third.job
