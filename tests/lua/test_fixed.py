"""Parts of GPUs (MIG, vGPU): a share becomes the smallest that holds it, as a typed gres/gpu."""

import pytest

from slurm_gpushare.grant import decode_grant
from slurm_gpushare.units import MIB
from tests.lua.conftest import install

POLICY = """
partitions: {mig: mig, pool2: vgpu, shard: shard}
rules: [{name: course, accounts: [course], maximum_fraction: 0.3, minimum_fraction: 0.2}]
backends:
  shard: {}
  mig:
    types:
      a100_3g.20gb: {gpu: A100-PCIE-40GB, profile: 3g.20gb}
      a100_1g.5gb: {gpu: A100-PCIE-40GB, profile: 1g.5gb}
      a100_2g.10gb: {gpu: A100-PCIE-40GB, profile: 2g.10gb}
  vgpu:
    types:
      a40-12q: {gpu: A40, profile: A40-12Q}
      a40-48q: {gpu: A40, profile: A40-48Q}
"""


@pytest.fixture(scope="module")
def submit(tmp_path_factory):
    controller = install(tmp_path_factory.mktemp("fixed"), POLICY)
    return lambda gres, partition="mig", **fields: controller.submit(
        partition=partition, **({"tres_per_node": f"gres/{gres}"} if gres else {}), **fields
    )


@pytest.mark.parametrize(
    ("gres", "given", "fraction", "slices", "mib"),
    [
        ("gpu:0.1", "a100_1g.5gb:1", 1 / 7, 15, 4864),
        ("gpu:1/7", "a100_1g.5gb:1", 1 / 7, 15, 4864),
        ("gpu:0.143", "a100_2g.10gb:1", 2 / 7, 29, 9984),
        ("gpu:2/7", "a100_2g.10gb:1", 2 / 7, 29, 9984),
        ("gpu:0.285714286", "a100_3g.20gb:1", 3 / 7, 43, 20096),
        ("gpu:4864M", "a100_1g.5gb:1", 1 / 7, 15, 4864),
        ("gpu:5G", "a100_2g.10gb:1", 2 / 7, 29, 9984),
        ("gpu:0.25:2", "a100_2g.10gb:2", 2 / 7, 58, 9984),
        ("gpu:a100_1g.5gb:1", "a100_1g.5gb:1", 1 / 7, 15, 4864),
        ("gpu:a100_1g.5gb", "a100_1g.5gb:1", 1 / 7, 15, 4864),
        ("gpu:a100_1g.5gb:2", "a100_1g.5gb:2", 1 / 7, 29, 4864),
    ],
)
def test_the_smallest_part_that_holds_it(submit, gres, given, fraction, slices, mib) -> None:
    answer = submit(gres)
    assert answer.status == 0 and answer.job["tres_per_node"] == f"gres/gpu:{given}"
    grant = decode_grant(answer.job["extra"])
    assert (grant.backend, grant.gpus, grant.slices, grant.memory) == ("mig", int(given[-1]), slices, mib * MIB)
    assert grant.fraction == pytest.approx(fraction, abs=1e-12) and grant.request == gres


def test_the_user_is_told_what_it_is(submit) -> None:
    assert submit("gpu:0.25").told == [
        "gpushare: gpu:0.25 is gpu:a100_2g.10gb:1 of the node, 2/7 of a GPU: 29 of 100 slices, 9984 MiB"
    ]
    assert submit("gpu:0.25:2").told == [
        "gpushare: gpu:0.25:2 is gpu:a100_2g.10gb:2 of the node, each 2/7 of a GPU: 58 slices, 9984 MiB each"
    ]


def test_share_and_memory_must_both_fit(submit) -> None:
    options = {"spank_job_env": ["_SLURM_SPANK_OPTION_gpushare_gpu_mem=6G"]}
    answer = submit("gpu:0.1", **options)
    assert answer.job["tres_per_node"] == "gres/gpu:a100_2g.10gb:1"
    assert decode_grant(answer.job["extra"]).memory == 9984 * MIB
    refused = submit("gpu:a100_1g.5gb:1", **options)
    assert refused.status != 0 and "has 4864 MiB: there are gpu:a100_1g.5gb (1/7" in refused.told[0]


@pytest.mark.parametrize("gres", ["gpu:0.5", "gpu:1", "gpu:2", "gpu", "gpu:100%", "gpu:21G"])
def test_what_no_part_holds_is_refused_with_the_list(submit, gres) -> None:
    answer = submit(gres)
    assert answer.status != 0 and "tres_per_job" not in answer.job
    assert answer.told[0].endswith(
        "there are gpu:a100_1g.5gb (1/7 of a GPU, 4864 MiB), gpu:a100_2g.10gb (2/7 of a GPU, 9984 MiB), "
        "gpu:a100_3g.20gb (3/7 of a GPU, 20096 MiB)"
    )


def test_a_share_of_a_type_is_refused(submit) -> None:
    assert "write it without a type" in submit("gpu:a100@0.25").told[0]


def test_whole_gpus_of_another_type_stay(submit) -> None:
    answer = submit("gpu:a100:1")
    assert answer.status == 0 and answer.job["tres_per_node"] == "gres/gpu:a100:1" and "extra" not in answer.job


def test_a_whole_vgpu_is_a_grant(submit) -> None:
    answer = submit("gpu:1", "pool2")
    assert answer.job["tres_per_node"] == "gres/gpu:a40-48q:1"
    assert decode_grant(answer.job["extra"]).fraction == 1 and "of the node, all of a GPU" in answer.told[0]
    assert submit("gpu:0.25", "pool2").job["tres_per_node"] == "gres/gpu:a40-12q:1"


def test_tasks_of_a_node_share_one_part(submit) -> None:
    answer = submit("gpu:task@0.1", num_tasks=2, min_nodes=1, max_nodes=1)
    assert answer.job["tres_per_node"] == "gres/gpu:a100_2g.10gb:1"
    assert answer.told[0].endswith("for the 2 tasks of a node together")


def test_a_rule_holds_for_what_is_given(submit) -> None:
    assert submit("gpu:0.05", account="course").job["tres_per_node"] == "gres/gpu:a100_2g.10gb:1"
    assert "at most 0.3 of a GPU" in submit("gpu:0.3", account="course").told[0]


def test_other_gres_and_what_counts_by_gpu_stay(submit) -> None:
    answer = submit("gpu:0.25,gres/nvme:1", cpus_per_tres="gres/gpu:4")
    assert answer.job["tres_per_node"] == "gres/gpu:a100_2g.10gb:1,gres/nvme:1"
    assert answer.job["cpus_per_tres"] == "gres/gpu:4"


def test_a_pending_job_is_decided_anew(tmp_path) -> None:
    controller = install(tmp_path, POLICY)
    job = controller.submit(partition="mig", tres_per_node="gres/gpu:0.25").job
    record = {"extra": job["extra"], "partition": "mig", "tres_per_node": job["tres_per_node"], "job_state": 0,
              "user_id": 1001, "min_nodes": 1, "max_nodes": 1}  # fmt: skip
    answer = controller.modify(record, tres_per_node="gres/gpu:0.4")
    assert answer.status == 0 and answer.job["tres_per_node"] == "gres/gpu:a100_3g.20gb:1"
    moved = controller.modify(record, partition="pool2")
    assert moved.job["tres_per_node"] == "gres/gpu:a40-12q:1"
