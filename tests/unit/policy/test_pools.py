"""Several backends whose GPUs are those of servers, in one policy."""

import json

import pytest

from slurm_gpushare.cli.why import pool_servers
from slurm_gpushare.errors import PolicyError
from slurm_gpushare.node_policy import BackendPolicy, node_policy_from_json
from slurm_gpushare.policy.compile import to_lua, to_node_json
from slurm_gpushare.policy.limits import tres
from slurm_gpushare.policy.load import parse_policy
from slurm_gpushare.policy.schema import POOLS
from slurm_gpushare.units import MIB

BOTH = """
partitions: {remote: {default: lupine, allowed: [bitfusion]}}
backends:
  bitfusion:
    servers: [{address: "pool:56001", gpus: 2, gpu_memory: 16 GiB}]
  lupine:
    libraries: /sw/lupine
    servers:
      - {name: l1, address: "10.0.0.8:14833", gpus: 2, gpu_memory: 16000 MiB}
      - {name: l2, address: "10.0.0.9:14833", gpus: 1}
"""


def errors_of(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, "f.yaml")
    return str(caught.value)


def test_the_pools_are_the_backends_with_servers() -> None:
    assert list(POOLS) == ["bitfusion", "lupine"]
    assert list(parse_policy(BOTH).policy.backends.pools) == ["bitfusion", "lupine"]
    assert parse_policy("backends: {shard: {}}\n").policy.backends.pools == {}


def test_what_nodes_know_of_lupine() -> None:
    text = to_node_json(parse_policy(BOTH).policy)
    assert set(json.loads(text)["backends"]) == {"bitfusion", "lupine"}
    assert node_policy_from_json(text).backends["lupine"] == BackendPolicy(
        gres="lupine",
        placement="pinned",
        servers={"l1": "10.0.0.8:14833", "l2": "10.0.0.9:14833"},
        libraries="/sw/lupine",
    )


def test_slurmctld_tells_the_users_of_lupine_alone_that_nothing_is_enforced() -> None:
    lua = to_lua(parse_policy(BOTH).policy)
    assert lua.count('["advice"] = "nothing holds a job to its share"') == 1
    assert lua.index('["advice"]') > lua.index('["lupine"]') > lua.index('["bitfusion"] = {')


def test_limits_and_unreachable_servers_are_those_of_every_pool(tmp_path) -> None:
    assert tres(1.5, parse_policy(BOTH).policy) == "gres/gpu=1,gres/bitfusion=150,gres/lupine=150"
    path = tmp_path / "gpushare.yaml"
    path.write_text(BOTH)
    assert pool_servers(str(path)) == ["pool:56001", "10.0.0.8:14833", "10.0.0.9:14833"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{name: l2, ", "{name: l1, ", "has that name: write another"),
        ("{name: l2, ", "{", "servers[1].name"),
        ("gpus: 1}", "gpus: 0}", "servers[1].gpus"),
        ('"10.0.0.9:14833"', "10.0.0.9", "write HOST:PORT"),
        ("libraries: /sw/lupine", "libraries: lupine", "write an absolute path"),
        ("libraries: /sw/lupine", "gres: shard", "Slurm's own gres of that name is another thing: write lupine"),
        ("libraries: /sw/lupine", "placement: flat", "lupine.placement"),
        ("libraries: /sw/lupine", "command: /usr/bin/lupine", "lupine.command"),
        ('{address: "pool:56001"', '{name: l1, address: "pool:56001"', "has that name: write another"),
    ],
)
def test_what_is_wrong_is_told(old: str, new: str, said: str) -> None:
    assert old in BOTH
    assert said in errors_of(BOTH.replace(old, new))


def test_a_backend_that_the_file_lacks_is_told() -> None:
    text = BOTH + "rules: [{name: r, backends: [shard]}]\n"
    assert "no such backend in this file: write one of its backends (bitfusion, lupine)" in errors_of(text)


def test_gpus_of_unlike_size_have_no_common_memory() -> None:
    lua = to_lua(parse_policy(BOTH).policy)
    assert f'["gpu_memory_mib"] = {16000 * MIB // MIB}' in lua  # of the first server
    assert node_policy_from_json(to_node_json(parse_policy(BOTH).policy)).backends["lupine"].gpu_memory is None
