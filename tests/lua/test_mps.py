"""Shares with MPS and HAMi-core: shards with limits of their own kind, and what users are told of them."""

import pytest

from slurm_gpushare.grant import decode_grant
from slurm_gpushare.units import MIB
from tests.lua.conftest import install

POLICY = """
partitions: {mig: mps, pool2: hami, shard: shard}
backends:
  shard: {over_memory: kill}
  hami: {gpu_memory: 16 GiB}
  mps: {types: {v100: {gpu_memory: 16160 MiB}}, MORE}
"""


def controller_of(folder, more):
    return install(folder, POLICY.replace("MORE", more))


@pytest.fixture
def one_per_node(tmp_path):
    return controller_of(tmp_path, "users: one_per_node")


def submit(controller, gres, **fields):
    return controller.submit(**{"partition": "mig", "tres_per_node": f"gres/{gres}", **fields})


def test_shards_and_a_node_for_one_user(one_per_node) -> None:
    answer = submit(one_per_node, "gpu:0.25")
    assert (answer.job["tres_per_node"], answer.job["shared"]) == ("gres/shard:25", 2)
    grant = decode_grant(answer.job["extra"])
    assert (grant.backend, grant.fraction, grant.slices, grant.memory) == ("mps", 0.25, 25, 4040 * MIB)
    assert "; its limits are advisory: programs can undo those of memory and compute" in answer.told[0]


def test_a_node_for_the_job_alone_stays_so(one_per_node) -> None:
    assert submit(one_per_node, "gpu:0.25", shared=0).job["shared"] == 0
    assert submit(one_per_node, "gpu:0.25", shared=1).job["shared"] == 2


@pytest.mark.parametrize("more", ["users: multiuser", "users: time_sliced"])
def test_nodes_of_several_users(tmp_path, more) -> None:
    assert "shared" not in submit(controller_of(tmp_path, more), "gpu:0.25").job


def test_whole_gpus_are_slurms(one_per_node) -> None:
    answer = submit(one_per_node, "gpu:1")
    assert answer.status == 0 and "extra" not in answer.job and "shared" not in answer.job


def test_one_share_alone(tmp_path) -> None:
    controller = controller_of(tmp_path, "fraction: 0.25")
    answer = submit(controller, "gpu:0.25")
    assert answer.job["tres_per_node"] == "gres/shard:25"
    assert answer.told[0].endswith("that is not in compute mode EXCLUSIVE_PROCESS")
    assert submit(controller, "gpu:2G").job["tres_per_node"] == "gres/shard:25"
    for other in ("gpu:0.2", "gpu:0.5", "gpu:5G"):
        refused = submit(controller, other)
        assert refused.status != 0
        assert "the one share that is given here is 0.25 of a GPU: write --gres=gpu:0.25" in refused.told[0]
    assert submit(controller, "gpu:1").status == 0


def test_moving_to_nodes_of_one_user(one_per_node) -> None:
    job = submit(one_per_node, "gpu:0.25", partition="shard").job
    record = {"extra": job["extra"], "partition": "shard", "tres_per_node": job["tres_per_node"], "job_state": 0,
              "user_id": 1001, "min_nodes": 1, "max_nodes": 1}  # fmt: skip
    refused = one_per_node.modify(record, partition="mig")
    assert refused.status != 0 and "given to one user at a time: cancel it and submit it there" in refused.told[0]
    record |= {"extra": submit(one_per_node, "gpu:0.25").job["extra"], "partition": "mig"}
    larger = one_per_node.modify(record, tres_per_node="gres/gpu:0.5")
    assert larger.job["tres_per_node"] == "gres/shard:50" and "shared" not in larger.job


def test_shards_by_their_own_name_are_given_by_none_of_them(one_per_node) -> None:
    assert "given by gpushare alone" in submit(one_per_node, "shard:25").told[0]


def test_what_holds_a_job_is_told(one_per_node) -> None:
    hami = submit(one_per_node, "gpu:0.25", partition="pool2")
    assert decode_grant(hami.job["extra"]).backend == "hami" and "its limits are advisory" in hami.told[0]
    watched = submit(one_per_node, "gpu:0.25", partition="shard")
    assert watched.told[0].endswith("; its limits are advisory: the watcher ends a job over its memory")
