"""Why a job waits for GPUs of a pool that have licences of their own."""

from dataclasses import replace

import pytest

from slurm_gpushare.grant import Grant
from slurm_gpushare.slurm.licences import Licence
from slurm_gpushare.slurm.nodes import Node
from slurm_gpushare.slurm.view import View
from slurm_gpushare.slurm.why import explain_wait
from tests.unit.slurm.recorded import view

GRANT = Grant("bitfusion", 1, 0.5, 50, None, 1, "", "gpu:0.5", "")


def moment(*choices: dict[str, int], grant: Grant = GRANT, **used: int) -> View:
    """Return a moment of a pool with two servers of two GPUs; ``s1_0=75``: so much of GPU 0 of s1 is in use."""
    counts = {f"gpu{gpu}@s{server}": used.get(f"s{server}_{gpu}", 0) for server in (1, 2) for gpu in (0, 1)}
    licences = {name: Licence(name, 100, count, 100 - count, remote=True) for name, count in counts.items()}
    recorded = view("26.05", "pool-full")
    job = replace(
        recorded.job,
        grant=grant,
        choices=choices,
        licences={name: count for choice in choices for name, count in choice.items()},
    )
    return replace(recorded, job=job, licences=licences, nodes=[_free(node) for node in recorded.nodes])


def _free(node: Node) -> Node:
    return replace(node, cpus_free=8, memory_free=16000)


ANY = tuple({f"gpu{gpu}@s{server}": 50} for server in (1, 2) for gpu in (0, 1))


def test_no_gpu_has_it_alone() -> None:
    answer = explain_wait(moment(*ANY, s1_0=75, s1_1=75, s2_0=75, s2_1=60))
    assert answer.kind == "fragmented"
    assert answer.why == [
        "enough is free in sum, but no single GPU of the pool has it",
        "115 of the 400 slices in the pool are free (1.15 GPUs), at most 40 (0.4 GPU) on one GPU; "
        "it needs 50 (0.5 GPU) of one GPU",
    ]
    assert "--gres=gpu:0.4 would find room in the pool now" in answer.sooner


def test_the_pool_is_full() -> None:
    answer = explain_wait(moment(*ANY, s1_0=100, s1_1=100, s2_0=100, s2_1=100))
    assert answer.kind == "full"
    assert answer.why[0].startswith("none of the 400 slices in the pool is free; it needs 50")
    assert not any("in the pool now" in line for line in answer.sooner)


def test_gpus_that_it_needs_together() -> None:
    two = {"gpu0@s1": 100, "gpu1@s1": 100}
    whole = Grant("bitfusion", 2, 1.0, 200, None, 1, "", "gpu:2", "")
    answer = explain_wait(moment(two, grant=whole, s1_1=25))
    assert answer.kind == "full"
    assert answer.why == ["it needs these GPUs of the pool together, free of what it needs: gpu1@s1 (75 of 100)"]
    assert explain_wait(moment(two, grant=whole)).kind in ("soon", "priority")


def test_one_gpu_that_was_chosen_at_submission() -> None:
    answer = explain_wait(moment({"gpu0@s1": 50}, s1_0=100))
    assert answer.why == [
        "it needs one GPU of the pool, chosen at its submission, free of what it needs: gpu0@s1 (0 of 50)"
    ]
    assert answer.sooner[0] == "submitted again it may get another one: gpu1@s1 has room now"
    full = explain_wait(moment({"gpu0@s1": 50}, s1_0=100, s1_1=60, s2_0=60, s2_1=60))
    assert not any("submitted again" in line for line in full.sooner)


def test_each_gpu_is_listed() -> None:
    answer = explain_wait(moment(*ANY, s1_0=75, s1_1=75, s2_0=75, s2_1=60))
    assert {"gpu0@s1 has 25 of 100 free", "gpu1@s2 has 40 of 100 free"} <= set(answer.details)


def test_a_share_of_each_task_is_a_part_of_the_nodes_slices() -> None:
    each = Grant("bitfusion", 1, 0.25, 50, None, 1, "", "--gpus-per-task=0.25", "", tasks=2)
    answer = explain_wait(moment(*ANY, grant=each, s1_0=75, s1_1=75, s2_0=75, s2_1=75))
    assert "100 of the 400 slices in the pool are free (1 GPU)" in answer.why[1]
    assert not any("--gres" in line for line in answer.sooner)


def test_a_server_that_is_out_of_use() -> None:
    seen = moment({"gpu0@s2": 50})
    away = replace(seen.licences["gpu0@s2"], free=0, withheld=200)
    answer = explain_wait(replace(seen, licences={**seen.licences, "gpu0@s2": away}))
    assert answer.kind == "full"
    assert "the pool's server s2 is out of use: `gpushare pool` tells why" in answer.details


@pytest.mark.parametrize("ahead", [0, 2])
def test_it_is_its_turn_or_not(ahead: int) -> None:
    answer = explain_wait(replace(moment(*ANY, s1_0=100), ahead=ahead))
    assert answer.kind == ("priority" if ahead else "soon")
