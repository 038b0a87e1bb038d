"""The policy's YAML: what is accepted, and each error with its line, key, value and remedy."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.errors import PolicyError
from slurm_gpushare.policy.load import load_policy, parse_policy
from slurm_gpushare.policy.lua import shipped_etc

MIB = 1024**2


def errors_of(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, "f.yaml")
    return str(caught.value).splitlines()


def test_the_shipped_policy_is_the_labs() -> None:
    policy = load_policy(os.path.join(shipped_etc(), "gpushare.yaml")).policy
    assert {name: kept.choices for name, kept in policy.partitions.items()} == {
        "bitfusion": ["bitfusion"],
        "shard": ["shard"],
    }
    pool = policy.backends.bitfusion
    assert [(server.address, server.gpus, server.gpu_memory) for server in pool.servers] == [
        ("10.77.0.10:56001", 1, 16280 * MIB)
    ]
    assert (pool.licence, pool.gres, pool.command) == ("bitfusion", "bitfusion", "/usr/bin/bitfusion")
    assert (policy.slices_per_gpu, policy.minimum_slices) == (100, 1)
    assert policy.datasets["digits"].model_dump() == {
        "path": "/data/datasets/digits",
        "target": "/datasets/digits",
        "mount_point": None,
        "mode": "ro",
        "groups": None,
    }
    assert policy.containers.images == ["/data/images", "/home"]
    assert policy.containers.mounts == ["/data", "/scratch", "/home"]
    assert (policy.agent.interval, policy.agent.service) == (1.0, "http://10.77.0.1:6827")
    assert policy.service.database == "sqlite:////var/lib/gpushare/usage.sqlite"


def test_all_errors_at_once_each_in_its_line() -> None:
    assert errors_of(
        "slices_per_gpu: '100'\n"
        "partitions:\n"
        "  gpu: bitfusion\n"
        "  shard: shard\n"
        "  shard: shard\n"
        "backends:\n"
        "  shard:\n"
        "    gpu_memory: 16 GB\n"
        "containers:\n"
        "  imges: [/data]\n"
        "  mounts:\n"
        "    - /ok\n"
        "    - data\n"
        "datasets:\n"
        "  digits:\n"
        "    path: /data/../etc\n"
        "    mode: wo\n"
        "agent:\n"
        "  interval: 0\n"
    ) == [
        "f.yaml:1: slices_per_gpu: '100': should be a valid integer (into how many slices a GPU is divided; shares are "
        "rounded up to it)",
        "f.yaml:3: partitions.gpu: 'bitfusion': no such backend in this file: write one of its backends (shard)",
        "f.yaml:5: partitions.shard: stands twice, first in line 4: keep one of them",
        "f.yaml:8: backends.shard.gpu_memory: '16 GB': is not an amount of memory: write it with its unit, such as "
        "16280 MiB or 16 GiB (memory of each GPU; null where they differ)",
        "f.yaml:10: containers.imges: is not a setting: did you mean images?",
        "f.yaml:13: containers.mounts[1]: 'data': write an absolute path without .., colon, comma or control "
        "characters",
        "f.yaml:15: datasets.digits.target: is missing: write where it is seen in the container",
        "f.yaml:16: datasets.digits.path: '/data/../etc': write an absolute path without .., colon, comma or control "
        "characters (the folder on the nodes)",
        "f.yaml:17: datasets.digits.mode: 'wo': should be 'ro' or 'rw' (ro: read-only; rw: writable where the user may "
        "write to it)",
        "f.yaml:19: agent.interval: 0: should be greater than or equal to 0.1 (time between two samples)",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "f.yaml:1: the file has no settings"),
        ("[1]", "f.yaml:1: the file has no settings"),
        ("a: [", "f.yaml:1: not YAML"),
        ("a: 1\nb:\n  c: }", "f.yaml:3: not YAML"),
        ("what: 1", "f.yaml:1: what: is not a setting: known are mode, "),
        ("backends: {bitfusion: {servers: []}}", "f.yaml:1: backends.bitfusion.servers: []: "),
        ("backends:\n  bitfusion:\n    servers:\n    - address: x\n      gpus: 1",
         "f.yaml:4: backends.bitfusion.servers[0].address: 'x': write HOST:PORT"),
        ("backends:\n  bitfusion: {placement: pinned, servers: [{address: 'a:1', gpus: 1}]}",
         "f.yaml:2: backends.bitfusion.servers[0].name: None: with placement pinned each GPU has licences, gpu0@NAME"),
        ("backends:\n  bitfusion:\n    servers:\n    - {name: a, address: 'a:1', gpus: 1}\n"
         "    - {name: a, address: 'a:2', gpus: 1}",
         "f.yaml:5: backends.bitfusion.servers[1].name: 'a': backends.bitfusion.servers[0] has that name"),
        ("backends:\n  bitfusion: {servers: [{name: a, address: 'a:1', gpus: 1}]}\n"
         "  lupine: {servers: [{name: a, address: 'a:2', gpus: 1}]}",
         "f.yaml:3: backends.lupine.servers[0].name: 'a': backends.bitfusion.servers[0] has that name"),
        ("backends:\n  bitfusion: {servers: [{name: Rack1, address: 'a:1', gpus: 1}]}",
         "f.yaml:2: backends.bitfusion.servers[0].name: 'Rack1': a server's name has only small letters"),
        ("backends:\n  bitfusion: {licence: 'a@b@c', servers: [{address: 'a:1', gpus: 1}]}",
         "f.yaml:2: backends.bitfusion.licence: 'a@b@c': a name begins with"),
        ("backends:\n  bitfusion: {gres: gpu, servers: [{address: 'a:1', gpus: 1}]}",
         "f.yaml:2: backends.bitfusion.gres: 'gpu': Slurm's own gres"),
        ("minimum_fraction: 0.125\n", "f.yaml:1: minimum_fraction: 0.125: is no multiple of 1/100"),
        ("minimum_fraction: .nan\n", "f.yaml:1: minimum_fraction: nan: "),
        ("service: {database: 'mysql://a:b@h/d'}", "keep the password in a file"),
        ("agent: {service: 'ftp://x'}", "write http://HOST:PORT"),
        ("agent: {service: yes}", "agent.service: True: "),
        ("containers: {pid_namespace: 1}", "containers.pid_namespace: 1: "),
        ("datasets: {'a,b': {path: /a, target: /b}}", "a name begins with a letter or digit"),
        ("datasets: {a: {path: /a, target: /}}", "write a folder below /"),
        ("rules:\n- name: a\n  maximum_fraction: 0.333", "f.yaml:3: rules[0].maximum_fraction: 0.333: is no multiple"),
        ("rules:\n- {name: a}\n- {name: a}", "f.yaml:3: rules[1].name: 'a': rules[0] has that name"),
        ("rules:\n- {name: a, users: []}", "f.yaml:2: rules[0].users: []: is empty: write at least one entry"),
        ("rules:\n- {users: [a]}", "f.yaml:2: rules[0].name: is missing: write how the grant"),
        ("rules: [{name: a, datasets: [x]}]", "rules[0].datasets[0]: 'x': no such dataset in this file: known are"),
        ("rules: [{name: a, backends: [shard]}]", "rules[0].backends[0]: 'shard': no such backend in this file"),
        ("rules: [{name: 'a\\nb'}]", "a rule's name has up to 40"),
        ("rules: [{name: a, usrs: [x]}]", "rules[0].usrs: is not a setting: did you mean users?"),
        ("rules: 3", "f.yaml:1: rules: 3: should be a valid list"),
        ("partitions: {a: {default: shard, allowed: [nix]}}", "partitions.a.allowed[0]: 'nix': no such backend"),
        ("partitions: {a: {allowed: []}}", "partitions.a.default: is missing"),
        ("backends: {shard: {types: {a: {}, b: {feature: x}}}}", "backends.shard.types.a: {}: one of several types"),
        ("backends: {shard: {types: {t: {gpu_memory: 3}}}}", "backends.shard.types.t.gpu_memory: 3: is not an amount"),
        ("containers: {images: ['docker://']}", "images[0]: 'docker://': write an absolute path, or a source"),
        ("containers: {images: ['docker://h/../x']}", "write an absolute path, or a source"),
        ("datasets: {a: {path: /a, target: /b, groups: []}}", "datasets.a.groups: []: is empty"),
        ("whole_gpus: 1", "whole_gpus: 1: should be a valid boolean"),
        ("partitions: {shard: 3}", "f.yaml:1: partitions.shard: 3: no such backend"),
        ("idle: {action: kill}", "f.yaml:1: idle.action: 'kill': "),
        ("idle: {action: end}", "f.yaml:1: idle.action: 'end': needs what agents measure: write agent.service too"),
        ("idle:\n  after: 1\n", "f.yaml:2: idle.after: 1: "),
        ("idle:\n  exempt: [{}]\n", "f.yaml:2: idle.exempt[0]: {}: would be every job: write accounts"),
        ("idle:\n  exempt: [{users: []}]\n", "f.yaml:2: idle.exempt[0].users: []: is empty"),
        ("service:\n  rates: [{rate: -1}]\n", "f.yaml:2: service.rates[0].rate: -1: "),
        ("service:\n  rates: [{rate: .inf}]\n", "f.yaml:2: service.rates[0].rate: inf: "),
        ("service:\n  rates: [{rate: .nan}]\n", "f.yaml:2: service.rates[0].rate: nan: "),
        ("service:\n  rates: [{account: a}]\n", "f.yaml:2: service.rates[0].rate: is missing"),
        ("service:\n  rates: [{rate: 1, backend: shards}]\n", "rates[0].backend: 'shards': no backend is called so"),
        ("service:\n  rates: [{rate: 1, gpu: a}, {rate: 2, gpu: a, account: b}]\n", "rates[1]: {'rate': 2, "),
        ("service:\n  rates: [{rate: 1}, {rate: 2, gpu: a}]\n", "never holds, service.rates[0] fits before it"),
        ("service: {currency: '<b>'}\n", "service.currency: '<b>': write the currency as EUR"),
    ],
)  # fmt: skip
def test_what_is_refused_and_what_is_said(text: str, said: str) -> None:
    lines = errors_of(text)
    assert any(said in line for line in lines), lines
    assert all(line.startswith("f.yaml:") for line in lines)


@pytest.mark.parametrize("off", ["off", "'off'", "no"])
def test_what_yaml_reads_as_false_is_off(off: str) -> None:
    policy = parse_policy(f"idle: {{action: {off}}}\nbackends: {{shard: {{over_memory: {off}}}}}").policy
    assert (policy.idle.action, policy.backends.shard.over_memory) == ("off", "off")


def test_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(PolicyError, match=r"none\.yaml: No such file"):
        load_policy(str(tmp_path / "none.yaml"))
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe4")
    with pytest.raises(PolicyError, match="not UTF-8 at byte 3"):
        load_policy(str(tmp_path / "latin.yaml"))


@given(st.text(st.sampled_from("ab: {}[]-\n'\"&*!|>%@?#0123456789.~,\t"), max_size=60))
def test_any_text_is_a_policy_or_a_policy_error(text: str) -> None:
    try:
        parse_policy(text)
    except PolicyError as error:
        assert str(error).startswith("gpushare.yaml:")


def test_minimum_in_slices_is_exact() -> None:
    assert parse_policy("minimum_fraction: 0.07").policy.minimum_slices == 7
    assert parse_policy("slices_per_gpu: 4").policy.minimum_slices == 1
    assert parse_policy("{slices_per_gpu: 4, minimum_fraction: 1}").policy.minimum_slices == 4
