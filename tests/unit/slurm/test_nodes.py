"""What nodes have left, in the forms of both versions."""

import json

import pytest

from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.nodes import parse_gres, parse_nodes
from tests.unit.slurm.recorded import VERSIONS, texts


def _node(gres: str, used: str, **more: object):
    return parse_nodes(json.dumps({"nodes": [{"name": "n", "gres": gres, "gres_used": used, **more}]}))[0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("(null)", []),
        ("gpu:2,shard:200", [("gpu", 2, ""), ("shard", 200, "")]),
        ("gpu:a100:2(S:0-1),shard:a100:200(S:0-1)", [("gpu", 2, "S:0-1"), ("shard", 200, "S:0-1")]),
        ("gpu:(null):2(IDX:0,3),nic:1", [("gpu", 2, "IDX:0,3"), ("nic", 1, "")]),
        ("fast:4G", [("fast", 4 * 1024**3, "")]),
    ],
)
def test_lists_of_gres(text: str, found: list) -> None:
    assert parse_gres(text) == found


@pytest.mark.parametrize(
    "used",
    [
        "gpu:(null):1(IDX:1),shard:(null):75(75/100,0/100,25/100)",
        "gpu:1(IDX:1),shard:100(75/100,-/100,25/100)",
        "gpu:a100:1(IDX:1),shard:a100:100(75/100,0/100,25/100)",
    ],
)
def test_each_gpu_is_whole_shared_or_free(used: str) -> None:
    node = _node("gpu:3,shard:300", used)
    assert [gpu.free for gpu in node.gpus] == [25, 0, 75]
    assert [gpu.whole for gpu in node.gpus] == [False, True, False]


def test_gpus_without_shards_are_one_each() -> None:
    node = _node("gpu:a100:4(S:0)", "gpu:a100:2(IDX:1-2)")
    assert [(gpu.free, gpu.total) for gpu in node.gpus] == [(1, 1), (0, 1), (0, 1), (1, 1)]


def test_a_pools_count() -> None:
    node = _node("bitfusion:100", "bitfusion:25")
    assert (node.free, node.gpus) == ({"bitfusion": 75}, ())


@pytest.mark.parametrize(
    ("state", "away"),
    [(["IDLE"], False), (["MIXED", "PLANNED"], False), (["IDLE", "DRAIN"], True), (["DOWN"], True), ("IDLE", False)],
)
def test_who_takes_jobs(state: object, away: bool) -> None:
    assert _node("", "", state=state).away is away


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded(version: str) -> None:
    nodes = {node.name: node for node in parse_nodes(texts(version, "shard-fragmented")["nodes"])}
    assert sorted(nodes) == ["c1", "c2", "n1", "n2"]
    assert [gpu.free for name in ("n1", "n2") for gpu in nodes[name].gpus] == [25, 25, 25, 25]
    assert (nodes["n1"].cpus_free, nodes["n1"].memory_free, nodes["n1"].partitions) == (6, 15000, ("shard",))
    assert nodes["c1"].free == {"bitfusion": 100}
    nodes = {node.name: node for node in parse_nodes(texts(version, "shard-none")["nodes"])}
    assert all(gpu.whole for gpu in nodes["n1"].gpus + nodes["n2"].gpus)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nodes": 1}', '{"nodes": [{}]}', '{"nodes": [1]}'])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(SlurmError, match="scontrol show node"):
        parse_nodes(text)


@pytest.mark.parametrize(
    ("gres", "used", "types"),
    [
        ("gpu:p100:2,shard:p100:200", "gpu:p100:1(IDX:1),shard:p100:0(0/100,0/100)", ("p100", "p100")),
        ("gpu:2", "gpu:(null):1(IDX:0)", (None, None)),
        ("gpu:a:1,gpu:b:2", "gpu:a:0(IDX:N/A),gpu:b:0(IDX:N/A)", ("a", "b", "b")),
        # Which are in use Slurm tells, whatever the order of its list.
        ("gpu:a:1,gpu:b:2", "gpu:a:1(IDX:2),gpu:b:1(IDX:0)", ("b", "b", "a")),
        ("gpu:a:1", "gpu:b:9(IDX:0-8)", ("a",)),
        ("nvme:4", "nvme:0", ()),
    ],
)
def test_the_type_of_each_gpu(gres, used, types):
    assert _node(gres, used).types == types


def test_who_took_a_node_out_and_when():
    when = {"set": True, "infinite": False, "number": 1795392416}
    one = _node("gpu:1", "gpu:0(IDX:N/A)", reason="fan", reason_set_by_user="root", reason_changed_at=when)
    assert (one.reason, one.reason_by, one.reason_at) == ("fan", "root", 1795392416)
    assert (_node("", "").reason_by, _node("", "", reason_changed_at={"set": True, "number": 0}).reason_at) == (
        "",
        None,
    )
