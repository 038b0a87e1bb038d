"""Each spelling of a request, through job_submit.lua: what it becomes, or what the user is told."""

from fractions import Fraction

import pytest

from slurm_gpushare.grant import Grant, decode_grant

MIB = 1024**2


def gres(text: str) -> str:
    """A list as Slurm's client sends it."""
    return ",".join(f"gres/{part}" for part in text.split(","))


def test_a_quarter_in_the_shipped_pool(lab_controller) -> None:
    answer = lab_controller.submit(tres_per_node=gres("gpu:0.25"), partition="bitfusion")
    assert answer.status == 0
    assert answer.job["tres_per_node"] == "gres/bitfusion:25"
    assert answer.job["licenses"] == "bitfusion:25"
    assert (answer.job["min_nodes"], answer.job["max_nodes"]) == (1, 1)
    assert decode_grant(answer.job["extra"]) == Grant(
        backend="bitfusion",
        gpus=1,
        fraction=0.25,
        slices=25,
        memory=4070 * MIB,
        nodes=1,
        rule="partition bitfusion",
        request="gpu:0.25",
        extra="",
    )
    assert answer.told == [
        "gpushare: gpu:0.25 is 0.25 of one GPU in the bitfusion pool: 25 of 100 slices, 4070 MiB; "
        "on one node (-N n takes n times as much)"
    ]


def test_the_default_partition_is_the_clusters(lab_controller) -> None:
    answer = lab_controller.submit(tres_per_node=gres("gpu:0.25"))
    assert answer.status == 0 and answer.job["tres_per_node"] == "gres/shard:25"
    assert "licenses" not in answer.job
    grant = decode_grant(answer.job["extra"])
    assert (grant.backend, grant.slices, grant.memory) == ("shard", 25, None)


@pytest.mark.parametrize(
    ("text", "slices"),
    [
        ("gpu:0.25", 25), ("gpu:.25", 25), ("gpu:0.07", 7), ("gpu:0.29", 29), ("gpu:0.570", 57), ("gpu:00.5", 50),
        ("gpu:0.333", 34), ("gpu:0.3333333333333333", 34), ("gpu:0.2500000000000001", 26), ("gpu:0.02", 2),
        ("gpu:0.99", 99), ("gpu:0.990000000", 99),
    ],
)  # fmt: skip
def test_shares_on_the_grid_and_rounded_up(controller, text: str, slices: int) -> None:
    answer = controller.submit(tres_per_node=gres(text), partition="shard")
    assert answer.status == 0, answer.told
    assert answer.job["tres_per_node"] == f"gres/shard:{slices}"
    grant = decode_grant(answer.job["extra"])
    assert (grant.slices, grant.fraction) == (slices, slices / 100)
    assert grant.memory == slices * 40960 // 100 * MIB
    assert ("rounded up" in answer.told[0]) == (Fraction(text[4:]) * 100 != slices)


def test_the_nodes_of_a_nodelist_count(controller) -> None:
    answer = controller.submit(tres_per_node="gres/gpu:0.25", partition="bitfusion", req_nodes="c[1-2]", min_nodes=2)
    assert (answer.job["min_nodes"], answer.job["max_nodes"], answer.job["licenses"]) == (2, 2, "bitfusion:50")


@pytest.mark.parametrize("prefix", ["gres/", "gres:", ""])
def test_every_prefix_that_slurm_puts_before_it(controller, prefix: str) -> None:
    answer = controller.submit(tres_per_node=prefix + "gpu:0.5", partition="shard")
    assert answer.job["tres_per_node"] == "gres/shard:50"


def test_other_parts_of_a_list_stay(controller) -> None:
    answer = controller.submit(
        tres_per_node=gres("nvme:1,gpu:0.5,craynetwork:2"), partition="shard", licenses="matlab:2"
    )
    assert answer.job["tres_per_node"] == "gres/shard:50,gres/nvme:1,gres/craynetwork:2"
    assert answer.job["licenses"] == "matlab:2"
    answer = controller.submit(tres_per_node=gres("gpu:0.5,nvme:1"), partition="bitfusion", licenses="matlab:2,fs")
    assert answer.job["tres_per_node"] == "gres/bitfusion:50,gres/nvme:1"
    assert answer.job["licenses"] == "matlab:2,fs,bitfusion:50"


@pytest.mark.parametrize(
    ("text", "nodes", "licences", "per_node"),
    [("gpu:1", None, 100, 100), ("gpu", None, 100, 100), ("gpu:2", None, 200, 200), ("gpu:1.0", 3, 300, 100),
     ("gpu:0.25", 2, 50, 25), ("gpu:0.5", 6, 300, 50), ("gpu:2", 1, 200, 200), ("gpu:0.995", None, 100, 100)],
)  # fmt: skip
def test_the_pool_multiplies_by_nodes(controller, text, nodes, licences, per_node) -> None:
    asked = {} if nodes is None else {"min_nodes": nodes, "max_nodes": nodes}
    answer = controller.submit(tres_per_node=gres(text), partition="pool2", **asked)
    assert answer.status == 0, answer.told
    assert answer.job["licenses"] == f"bitfusion:{licences}"
    assert answer.job["tres_per_node"] == f"gres/bitfusion:{per_node}"
    grant = decode_grant(answer.job["extra"])
    assert (grant.slices, grant.nodes) == (per_node, nodes or 1)
    assert grant.gpus * grant.fraction * 100 == per_node
    assert (answer.job["min_nodes"], answer.job["max_nodes"]) == (nodes or 1, nodes or 1)
    assert ("on one node" in answer.told[0]) == (nodes is None)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"licenses": "matlab:3"},
        {"extra": "color=blue"},
        {"extra": '{"V":1}'},
        {"tres_per_node": "gres/nvme:2"},
        {"tres_per_node": "gres/none"},
        {"tres_per_task": "cpu=1"},
        {"tres_per_node": "gres/gpu:1"},
        {"tres_per_node": "gres/gpu:2,gres/nvme:1"},
        {"tres_per_node": "gres/gpu:tesla:1,gres/gpu:a100:2"},
        {"tres_per_node": "gres/gpu:1g.10gb:1"},
        {"tres_per_node": "gres/gpu:a100"},
        {"tres_per_job": "gres/gpu:4"},
        {"tres_per_task": "cpu=2,gres/gpu=1"},
        {"tres_per_socket": "gres/gpu:tesla:1"},
        {"tres_per_node": "gres/gpu:1", "partition": "cpu"},
        {"tres_per_node": "gres/gpu:1", "partition": "cpu,shard"},
        {"tres_per_node": "gres/gpu:2", "cpus_per_tres": "gres/gpu:4", "min_nodes": 1, "max_nodes": 4},
        {"tres_per_node": "gres/gpu:2080ti:1"},
    ],
)
def test_cpu_jobs_and_whole_gpus_of_the_node_are_untouched(controller, fields: dict) -> None:
    before = controller.submit(script="#!/bin/sh", environment={"SLURM_GPUS": "4"}, **fields)
    assert before.status == 0 and before.told == [] and before.logged == []
    expected = {"script": "#!/bin/sh", "environment": {"SLURM_GPUS": "4"}, **fields}
    assert {name: before.job.get(name) for name in expected} == expected


def test_a_whole_gpu_that_slurm_could_not_read(controller) -> None:
    answer = controller.submit(tres_per_node="gres/gpu:2.0,gres/nvme:1")
    assert answer.status == 0 and answer.job["tres_per_node"] == "gres/gpu:2,gres/nvme:1"
    assert "extra" not in answer.job
    assert answer.told == ["gpushare: gpu:2.0 is gpu:2, whole GPUs of the node"]


REFUSED = [
    ("gpu:0", {}, "gpu:0: asks for nothing"),
    ("gpu:0.000", {}, "above 0"),
    ("gpu:-0", {}, "-0 is not a number"),
    ("gpu:-1", {}, "-1 is not a number"),
    ("gpu:+1", {}, "+1 is not a number"),
    ("gpu:1.5", {}, "write gpu:2, or gpu:0.5 for a share"),
    ("gpu:99999999999", {}, "no cluster has so many"),
    ("gpu:99999999999.5", {}, "only whole GPUs"),
    ("gpu:nan", {}, "nan is not a number"),
    ("gpu:half", {}, "half is not a number"),
    ("gpu:inf", {}, "inf is not a number"),
    ("gpu:1e-9", {}, "1e-9 is not a number"),
    ("gpu:0x10", {}, "0x10 is not a number"),
    ("gpu:0.25x", {}, "0.25x is not a number"),
    ("gpu:0.2.5", {}, "0.2.5 is not a number"),
    ("gpu:", {}, "empty parts"),
    ("gpu:0.25:", {}, "gpu:0.25:"),
    ("gpu::0.25", {}, "not a request"),
    ("gpu:a:b:c", {}, "b is not a number"),
    ("gpu:a:0.5:2:3", {}, "too many parts"),
    ("gpu:0.25:2", {}, "lie on one GPU: write --gres=gpu:0.5 for as much of one"),
    ("gpu:0.5:3", {}, "write --gres=gpu:2 for whole ones"),
    ("gpu:0.25:0", {}, "0 is not a number of GPUs"),
    ("gpu:0.25:0.5", {}, "0.5 is not a number of GPUs"),
    ("gpu:tesla:0.25", {}, "no such type of GPU here: write it without a type, --gres=gpu:0.25"),
    ("gpu:tesla:0", {}, "asks for nothing"),
    ("gpu*2", {}, "not a request"),
    ("GPU:0.25", {}, "lower case"),
    (":gpu:0.25", {}, "not a request"),
    ("gpu:\u0660.\u0662\u0665", {}, "not ASCII"),
    ("gpu:0.25\n", {}, "control character"),
    ("gpu: 0.25", {}, "a space"),
    ("gpu:0." + "1" * 10000, {}, "longer than 256"),
    ("gpu:0.019", {}, "below the smallest share, 0.02 of a GPU: write --gres=gpu:0.02"),
    ("gpu:0.000000001", {}, "below the smallest share"),
    ("gpu:0.25,gpu:0.25", {}, "asks for GPUs once"),
    ("gpu:0.25,gpu:tesla:1", {}, "asks for GPUs once"),
    (
        "gpu:0.25",
        {"partition": "cpu"},
        "partition cpu has no shared GPUs: submit to -p bitfusion or -p pool2 or -p shard",
    ),
    ("gpu:0.25", {"partition": "shard,bitfusion"}, "name one partition"),
    ("gpu:1", {"partition": "shard,bitfusion"}, "name one partition"),
    ("gpu:tesla:1", {"partition": "bitfusion"}, "have no types: write --gres=gpu:1"),
    ("gpu:3", {"partition": "bitfusion"}, "largest server of the pool has 2 GPUs: write at most --gres=gpu:2"),
    ("gpu:2", {"partition": "bitfusion", "min_nodes": 2, "max_nodes": 2}, "room for 1 of them: write -N 1"),
    ("gpu:0.6", {"partition": "bitfusion", "min_nodes": 4, "max_nodes": 4}, "room for 3 of them"),
    ("gpu:0.25", {"partition": "bitfusion", "min_nodes": 2, "max_nodes": 4}, "not a range: write -N 2"),
    ("gpu:0.25", {"partition": "bitfusion", "max_nodes": 2}, "not a range: write -N 1"),
    ("gpu:0.25", {"partition": "bitfusion", "licenses": "a:1|b:1"}, "write one of them"),
    ("gpu:0.25", {"ntasks_per_tres": 2}, "write --ntasks-per-node=2 instead"),
    ("gpu:0.25", {"tres_per_job": "gres/gpu:1"}, "asks for GPUs once"),
    ("gpu:0.25", {"extra": "x" * 1024}, "bytes too long"),
    ("gpu:0.25", {"extra": "\udcff"}, "not UTF-8"),
    ("gpu:8GB", {}, "powers of 1024, as gpu:8G"),
    ("gpu:0G", {}, "asks for nothing"),
    ("gpu:0%", {}, "asks for nothing"),
    ("gpu:1/0", {}, "1/0 is not a number"),
    ("gpu:1/99999", {}, "1/99999 is not a number"),
    ("gpu:5/4", {}, "write gpu:2"),
    ("gpu:150%", {}, "write gpu:2"),
    ("gpu:41G", {}, "each GPU has 40960 MiB: write at most gpu:40960M"),
    ("gpu:tesla@0.25@x", {}, "not a request"),
    ("gpu:@0.25", {}, "no type of GPU"),
    ("gpu:0.25@0.25", {}, "no type of GPU"),
    ("gpu:task@", {}, "not a number"),
    ("gpu:task@0.6", {"num_tasks": 2}, "write --ntasks-per-node=1 and as many nodes as that takes, -N 2"),
    ("gpu:task@0.25", {"num_tasks": 3, "min_nodes": 2, "max_nodes": 2}, "equally many on each node"),
    ("gpu:0.25", {"cpus_per_tres": "gres/gpu:4", "num_tasks": 2}, "write --cpus-per-task=2 instead"),
    ("gpu:0.25", {"cpus_per_tres": "gres/gpu:3", "num_tasks": 2}, "write --cpus-per-task=N instead"),
    ("gpu:0.25", {"cpus_per_tres": "gres/gpu:x"}, "write --cpus-per-task=N instead"),
    ("gpu:2", {"cpus_per_tres": "gres/gpu:3", "partition": "bitfusion"}, "write --cpus-per-task=6 instead"),
    ("gpu:0.25", {"mem_per_tres": "gres/gpu:2G"}, "write --mem=2G instead"),
    ("gpu:0.25", {"partition": "bitfusion", "het_job_offset": 1}, "comes first"),
    (None, {"tres_per_job": "gres/gpu:0.25", "min_nodes": 2, "max_nodes": 2}, "--gpus=0.25 on 2 nodes"),
    (None, {"tres_per_job": "gres/gpu:2", "partition": "bitfusion", "min_nodes": 2}, "lies on one node"),
    ("shard:25", {}, "write --gres=gpu:0.25"),
    ("shard", {}, "write --gres=gpu:0.25"),
    ("shard:tesla:40", {}, "write --gres=gpu:0.4"),
    ("SHARD:25", {}, "write --gres=gpu:0.25"),
    ("shard=25", {"partition": "cpu"}, "write --gres=gpu:0.25"),
    ("nvme:1,bitfusion:25", {}, "slices of bitfusion"),
    (None, {"licenses": "bitfusion:25"}, "licences of bitfusion are given by gpushare alone: write --gres=gpu:0.25"),
    (None, {"licenses": "matlab, bitfusion"}, "licences of bitfusion"),
    (None, {"licenses": "matlab:1|bitfusion:25"}, "licences of bitfusion"),
    (None, {"tres_per_task": "cpu=1,license/bitfusion=25"}, "slices of bitfusion"),
    (None, {"tres_per_job": "gres/shard:25"}, "slices of shard"),
    (None, {"tres_per_socket": "gres/gpu:0.25"}, "a share of a GPU is for a node, a task or a job"),
    (None, {"extra": '{"v":1,"backend":"shard"}'}, "gpushare's own"),
    ("gpu:1", {"extra": '{"v":2}'}, "gpushare's own"),
]


@pytest.mark.parametrize(("text", "fields", "said"), REFUSED, ids=[f"{row[0]!s:.20}-{row[2]:.20}" for row in REFUSED])
def test_refused_in_one_line_that_says_what_to_write(controller, text: str | None, fields: dict, said: str) -> None:
    asked = dict(fields)
    if text is not None:
        asked["tres_per_node"] = gres(text)
    answer = controller.submit(**asked)
    assert answer.status == -1
    assert len(answer.told) == 1 and answer.told[0].startswith("gpushare: ") and said in answer.told[0]
    assert answer.told[0].isprintable() and answer.told[0].isascii() and len(answer.told[0]) < 300
    assert answer.logged == []
    assert {name: answer.job.get(name) for name in asked} == asked


def test_the_users_own_extra_is_kept_in_the_grant(controller) -> None:
    own = 'a "b" \\ \t\n\x7f äöü € 🙂 {"v":1}'
    answer = controller.submit(tres_per_node="gres/gpu:0.5", partition="shard", extra=own)
    assert answer.status == 0 and decode_grant(answer.job["extra"]).extra == own
    assert answer.job["extra"].startswith('{"v":') and "\n" not in answer.job["extra"]


def test_an_extra_that_just_fits(controller) -> None:
    room = 1024 - len(controller.submit(tres_per_node="gres/gpu:0.5", partition="shard").job["extra"])
    fits = controller.submit(tres_per_node="gres/gpu:0.5", partition="shard", extra="x" * room)
    assert fits.status == 0 and len(fits.job["extra"]) == 1024
    over = controller.submit(tres_per_node="gres/gpu:0.5", partition="shard", extra="x" * (room + 1))
    assert over.status == -1 and "1 bytes too long" in over.told[0]
