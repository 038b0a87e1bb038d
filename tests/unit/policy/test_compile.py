"""The policy as slurmctld and nodes read it."""

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lupa.lua51 import LuaRuntime

from slurm_gpushare.errors import PolicyError
from slurm_gpushare.node_policy import ContainerPolicy, Dataset, IdlePolicy, node_policy_from_json, read_node_policy
from slurm_gpushare.policy.compile import compile_policy, lua_literal, lua_string, pool_memory, to_lua, to_node_json
from slurm_gpushare.policy.load import load_policy, parse_policy
from slurm_gpushare.policy.lua import from_lua, shipped_etc
from slurm_gpushare.policy.schema import Policy

MIB = 1024**2
LUA = LuaRuntime(encoding=None)
STRINGS = st.text(max_size=30)


@pytest.fixture
def policy() -> Policy:
    return load_policy(os.path.join(shipped_etc(), "gpushare.yaml")).policy


@given(STRINGS)
def test_any_text_is_quoted_safely(text: str) -> None:
    text = text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
    literal = lua_string(text)
    assert literal.isascii() and literal.isprintable()
    assert LUA.execute(f"return {literal}".encode()) == text.encode("utf-8", "surrogateescape")


@given(
    st.dictionaries(
        STRINGS.filter(str.isprintable), st.one_of(st.booleans(), st.integers(-(2**50), 2**50), st.just("x"))
    )
)
def test_tables_come_back(table: dict) -> None:
    chunk = f"return {lua_literal({'inner': table, 'none': None, 'list': [1, 2]})}".encode()
    assert from_lua(LUA.execute(chunk)) == {"inner": table, "list": {1: 1, 2: 2}}


def test_nothing_else_becomes_lua() -> None:
    with pytest.raises(TypeError, match="no Lua literal"):
        lua_literal({"a": 0.5})


def test_the_shipped_policy_as_slurmctld_reads_it(policy) -> None:
    assert from_lua(LUA.execute(to_lua(policy).encode())) == {
        "v": 1,
        "enforce": {"partitions": {}, "accounts": {}},
        "operators": {},
        "slices_per_gpu": 100,
        "require_client": False,
        "partitions": {"bitfusion": {1: "bitfusion"}, "shard": {1: "shard"}},
        "backends": {
            "bitfusion": {
                "placement": "flat",
                "licence": "bitfusion",
                "gres": "bitfusion",
                "servers": {1: {"gpus": 1, "gpu_memory_mib": 16280}},
                "gpu_memory_mib": 16280,
            },
            "shard": {
                "gres": "shard",
                "types": {"p100": {"gpu_memory_mib": 16280}},
                "advice": "nothing holds a job to its share",
            },
        },
        "datasets": {"digits": True},
        "limits": {
            "minimum_slices": 1,
            "whole_gpus": True,
            "container_required": False,
            "images": {1: "/data/images", 2: "/home"},
            "mounts": {1: "/data", 2: "/scratch", 3: "/home"},
            "writable": True,
        },
        "rules": {},
        "index": {"users": {}, "accounts": {}, "qos": {}, "partitions": {}, "any": {}},
    }


def test_the_shipped_policy_as_nodes_read_it(policy) -> None:
    node = node_policy_from_json(to_node_json(policy))
    assert node.slices_per_gpu == 100
    assert node.container.images == ("/data/images", "/home") and node.container.pid_namespace
    assert node.container == ContainerPolicy("auto", ("/data/images", "/home"), ("/data", "/scratch", "/home"), True)
    assert node.datasets["digits"] == Dataset("/data/datasets/digits", "/datasets/digits", "ro")
    assert node.backends["bitfusion"].gpu_memory == 16280 * MIB
    assert node.backends["bitfusion"].command == "/usr/bin/bitfusion"
    assert node.backends["shard"].gpu_memory is None
    assert (node.agent_interval, node.service) == (1.0, "http://10.77.0.1:6827")
    assert (node.metrics, node.metrics_series) == (None, 10_000)


@pytest.mark.parametrize(
    ("sizes", "size"), [(["1 GiB", "1 GiB"], 1024 * MIB), (["1 GiB", "2 GiB"], None), (["1 GiB", "null"], None)]
)
def test_memory_is_unknown_where_servers_differ(sizes: list[str], size: int | None) -> None:
    servers = ", ".join(f"{{address: 'h:1', gpus: 1, gpu_memory: {text}}}" for text in sizes)
    policy = parse_policy(f"backends: {{bitfusion: {{servers: [{servers}]}}}}").policy
    assert pool_memory(policy.backends.bitfusion) == size


def test_compile_writes_both_and_makes_slurmctld_read_again(policy, tmp_path) -> None:
    submit, node_file = tmp_path / "job_submit.lua", tmp_path / "node.json"
    submit.write_text("-- here")
    before = time.time()
    written = compile_policy(policy, str(tmp_path), str(node_file))
    assert written == [str(tmp_path / "gpushare_policy.lua"), str(node_file)]
    assert (tmp_path / "gpushare_policy.lua").read_text() == to_lua(policy)
    assert read_node_policy(str(node_file)).slices_per_gpu == 100
    assert [os.stat(path).st_mode & 0o777 for path in written] == [0o644, 0o644]
    # Slurm compares whole seconds with those of its last reading, which may be this very second.
    first = submit.stat().st_mtime
    assert first == int(first) >= int(before) + 1
    compile_policy(policy, str(tmp_path), str(node_file))
    assert submit.stat().st_mtime >= first + 1
    assert submit.read_text() == "-- here"
    assert sorted(os.listdir(tmp_path)) == ["gpushare_policy.lua", "job_submit.lua", "node.json"]


def test_a_compute_node_needs_the_nodes_file_alone(policy, tmp_path) -> None:
    assert compile_policy(policy, str(tmp_path), str(tmp_path / "node.json")) == [str(tmp_path / "node.json")]
    assert os.listdir(tmp_path) == ["node.json"]


def test_a_failed_write_leaves_the_old_file_and_no_other(policy, tmp_path, monkeypatch) -> None:
    node_file = tmp_path / "node.json"
    node_file.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        compile_policy(policy, str(tmp_path), str(node_file))
    assert node_file.read_text() == "old" and os.listdir(tmp_path) == ["node.json"]


RULES = """
datasets: {d: {path: /d, target: /d, groups: [staff, guests]}}
containers: {images: [/a]}
rules:
  - {name: one, users: [alice, bob], accounts: [physics], maximum_fraction: 0.5, images: [/a, /b]}
  - {name: two, groups: [staff], users: [bob, carol]}
  - {name: three, qos: [debug], partitions: [shard]}
  - {name: four, whole_gpus: false}
"""
GROUPS = {"staff": ["alice", "bob"], "guests": ["carol"]}


def test_rules_are_found_by_their_most_selective_criterion() -> None:
    table = from_lua(LUA.execute(to_lua(parse_policy(RULES).policy, GROUPS.__getitem__).encode()))
    assert table["index"] == {
        "users": {"alice": {1: 1}, "bob": {1: 1, 2: 2}},
        "accounts": {},
        "qos": {"debug": {1: 3}},
        "partitions": {},
        "any": {1: 4},
    }
    assert table["rules"][1]["maximum_slices"] == 50 and table["rules"][2]["users"] == {"bob": True}
    assert table["rules"][4] == {"name": "four", "whole_gpus": False}
    assert table["datasets"] == {"d": {"alice": True, "bob": True, "carol": True}}


def test_nodes_take_what_any_rule_allows() -> None:
    node = node_policy_from_json(to_node_json(parse_policy(RULES).policy))
    assert node.container.images == ("/a", "/b")


def test_the_idle_policy_is_for_the_nodes_file_where_it_is_not_off() -> None:
    text = "agent: {service: 'http://a:1'}\nidle: {action: requeue, after: 60, exempt: [{qos: [long], users: [bob]}]}"
    node = node_policy_from_json(to_node_json(parse_policy(text).policy))
    exempt = ({"qos": ["long"], "users": ["bob"]},)
    assert node.idle == IdlePolicy("requeue", 60.0, 900.0, 0.005, None, False, 1, exempt)
    assert node_policy_from_json(to_node_json(parse_policy("idle: {after: 60}").policy)).idle is None


def test_an_unknown_group_is_an_error_and_changes_nothing(tmp_path) -> None:
    policy = parse_policy("rules: [{name: a, groups: [no-such-group-here]}]").policy
    with pytest.raises(PolicyError, match="group no-such-group-here: this host has no such group"):
        compile_policy(policy, str(tmp_path), str(tmp_path / "node.json"))
    assert os.listdir(tmp_path) == []
