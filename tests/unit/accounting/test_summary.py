"""The summary of a run, as the tools that read jobstats' form take it."""

import base64
import gzip
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.accounting.summary import MOST, PREFIX, decode, encode, is_ours, summarise, utilization
from slurm_gpushare.slurm.ended import EndedRun
from tests.unit.accounting.month import GIB, T, used

RUN = EndedRun(
    cluster="lab",
    job_id=12,
    name="12",
    submit=T,
    restart=0,
    start=T,
    end=T + 200,
    nodes=1,
    nodelist="n1",
    cpus=4,
    gpus=0,
    memory_bytes=8 * GIB,
    cpu_seconds=300.0,
    memory_used_bytes=2 * GIB,
    admin_comment="",
)


def share(**changed: object):
    return used(12, 0, 200, 0.2, **{"memory_share_bytes": 10 * GIB, "memory_peak_bytes": 4 * GIB, **changed})


def read(text: str) -> dict:
    """Decode as the format's own readers do: what follows JS1: is base64 of gzip of JSON."""
    assert text[:4] == "JS1:" and text[4:7] == "H4s"
    return json.loads(gzip.decompress(base64.b64decode(text[4:])))


def test_a_share_is_seen_by_readers() -> None:
    found = read(encode(summarise(RUN, ["n1"], [share()])))
    assert found == {
        "nodes": {
            "n1": {
                "cpus": 4,
                "total_memory": 8 * GIB,
                "used_memory": 2 * GIB,
                "total_time": 300.0,
                "gpu_total_memory": {"0": 10 * GIB},
                "gpu_used_memory": {"0": 4 * GIB},
                "gpu_utilization": {"0": 80.0},
                "gpu_share": {"0": 0.25},
            }
        },
        "total_time": 200,
        "gpus": 1,
        "by": "gpushare",
    }


def test_the_same_summary_is_the_same_text() -> None:
    assert encode(summarise(RUN, ["n1"], [share()])) == encode(summarise(RUN, ["n1"], [share()]))


@pytest.mark.parametrize(
    ("of_the_gpu", "percent"),
    [(0.0, 0.0), (0.00001, 0.1), (0.125, 50.0), (0.25, 100.0), (0.6, 100.0), (None, None)],
)
def test_utilization_is_of_the_share(of_the_gpu: float | None, percent: float | None) -> None:
    assert utilization(used(1, 0, 100, of_the_gpu)) == percent


def test_utilization_is_of_the_sampled_seconds() -> None:
    record = replace(used(1, 0, 100, 0.25), seconds_sampled=50.0, gpu_seconds_used=6.25)
    assert utilization(record) == 50.0


@pytest.mark.parametrize("missing", ["memory_share_bytes", "memory_peak_bytes", "gpu_seconds_used"])
def test_a_gpu_of_which_something_is_unknown_is_left_out_whole(missing: str) -> None:
    known, unknown = share(gpu="GPU-1", gpu_index=0), share(gpu="GPU-2", gpu_index=1, **{missing: None})
    node = summarise(RUN, ["n1"], [known, unknown])["nodes"]["n1"]
    assert all(list(table) == ["0"] for table in node.values() if isinstance(table, dict))
    assert summarise(RUN, ["n1"], [unknown]) is None


def test_what_slurm_does_not_know_is_left_out() -> None:
    run = replace(RUN, memory_used_bytes=None, cpu_seconds=None)
    node = summarise(run, ["n1"], [share()])["nodes"]["n1"]
    assert "used_memory" not in node and "total_time" not in node and node["cpus"] == 4


def test_a_cpu_that_was_used_for_a_moment_was_used() -> None:
    for seconds, written in ((0.03, 0.1), (0.0, 0.0)):
        node = summarise(replace(RUN, cpu_seconds=seconds), ["n1"], [share()])["nodes"]["n1"]
        assert node["total_time"] == written


def test_nodes_divide_what_slurm_tells_of_the_job() -> None:
    run = replace(RUN, nodes=2, nodelist="n[1-2]", cpus=5)
    found = summarise(run, ["n1", "n2"], [share(node="n2", gpu_index=3)])["nodes"]
    assert [found[node]["cpus"] for node in ("n1", "n2")] == [3, 2]
    assert [found[node]["total_time"] for node in ("n1", "n2")] == [150.0, 150.0]
    assert "gpu_utilization" not in found["n1"] and found["n2"]["gpu_utilization"] == {"3": 80.0}


def test_gpus_of_a_pools_server_stand_below_the_jobs_nodes() -> None:
    records = [share(node="pool1", gpu=f"GPU-{at}", gpu_index=at, source="server") for at in range(3)]
    found = summarise(replace(RUN, nodes=2), ["n1", "n2"], records)["nodes"]
    assert [list(found[node]["gpu_utilization"]) for node in ("n1", "n2")] == [["0", "2"], ["1"]]


def test_parts_with_the_same_or_no_number_have_numbers_of_their_own() -> None:
    records = [share(gpu="a", gpu_index=1), share(gpu="b", gpu_index=1), share(gpu="c", gpu_index=None)]
    node = summarise(RUN, ["n1"], records)["nodes"]["n1"]
    assert sorted(node["gpu_utilization"]) == ["0", "1", "2"]


def test_sources_are_not_added_up() -> None:
    records = [share(), share(node="pool1", gpu="GPU-9", source="allocation")]
    assert summarise(RUN, ["n1"], records)["gpus"] == 1


@pytest.mark.parametrize("run", [replace(RUN, end=None), replace(RUN, start=None)])
def test_a_run_that_has_not_ended_has_none(run: EndedRun) -> None:
    assert summarise(run, ["n1"], [share()]) is None
    assert summarise(RUN, [], [share()]) is None and summarise(RUN, ["n1"], []) is None


def test_a_large_job_fits_into_slurms_column() -> None:
    nodes = [f"gpu{at:04}" for at in range(500)]
    records = [
        share(node=node, gpu=f"{node}-{at}", gpu_index=at, memory_peak_bytes=GIB + (number * 4 + at) * 7_654_321 % GIB)
        for number, node in enumerate(nodes)
        for at in range(4)
    ]
    text = encode(summarise(replace(RUN, nodes=500, cpus=2000), nodes, records))
    assert len(text) < MOST
    assert len(read(text)["nodes"]) == 500


def test_only_our_own_text_is_ours() -> None:
    ours = summarise(RUN, ["n1"], [share()])
    theirs = {name: value for name, value in ours.items() if name != "by"}
    assert is_ours(encode(ours)) and not is_ours(encode(theirs))
    packed = PREFIX + base64.b64encode(gzip.compress(b"[1]")).decode()
    for text in ("", "JS1:Short", "JS1:None", "see ticket 12", "JS1:H4sI", "JS1:!", packed, encode(ours)[:-9]):
        assert not is_ours(text)


@given(st.text() | st.text().map(PREFIX.__add__) | st.binary().map(lambda b: PREFIX + base64.b64encode(b).decode()))
def test_no_text_of_others_breaks_the_reader(text: str) -> None:
    assert not is_ours(text)
    assert decode(text) is None or isinstance(decode(text), dict)
