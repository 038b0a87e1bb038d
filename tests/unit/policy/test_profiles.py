"""The table of MIG's and vGPU's profiles, and the policy's types that name them."""

import json
import re
from fractions import Fraction

import pytest

from slurm_gpushare.errors import PolicyError
from slurm_gpushare.node_policy import node_policy_from_json
from slurm_gpushare.policy.compile import to_node_json
from slurm_gpushare.policy.limits import tres
from slurm_gpushare.policy.load import parse_policy
from slurm_gpushare.policy.profiles import WAYS, find_profile, models, names, rows, table
from slurm_gpushare.units import MIB

POLICY = """
backends:
  mig: {types: {small: {gpu: A100-PCIE-40GB, profile: 2g.10gb}, new: {gpu: B200-180GB, profile: 1g.23gb}}}
  vgpu: {types: {v: {gpu: A40, profile: A40-12Q}}}
  hami: {types: {p100: {gpu_memory: 16 GiB}}, over_memory: kill}
"""


def test_every_profile_is_what_its_name_says() -> None:
    for way, gpu, name in table():
        each = find_profile(way, gpu, name)
        gib = int(re.search(r"(\d+)(gb|[CQ])$", name)[1])
        assert way in WAYS and 0 < each.fraction <= 1
        if way == "mig":
            assert each.fraction == Fraction(int(name.partition("g.")[0]), 4 if gpu == "A30" else 7)
            assert each.memory is None or gib * 0.9 < each.memory / MIB / 1024 <= gib
        else:
            assert each.memory == gib * 1024 * MIB and each.fraction.numerator == 1


def test_whole_vgpus_of_a_model_have_one_memory() -> None:
    for gpu in models("vgpu"):
        sizes = {find_profile("vgpu", gpu, name).memory / find_profile("vgpu", gpu, name).fraction
                 for name in names("vgpu", gpu)}  # fmt: skip
        assert len(sizes) == 1, gpu


def test_one_profile() -> None:
    assert find_profile("mig", "A100-SXM4-40GB", "2g.10gb").fraction == Fraction(2, 7)
    with pytest.raises(PolicyError, match=r"A100-SXM4-40GB 9g\.10gb is no mig profile"):
        find_profile("mig", "A100-SXM4-40GB", "9g.10gb")
    assert {"gpu": "A40", "backend": "vgpu", "profile": "A40-12Q", "fraction": "1/4", "memory_mib": 12288} in list(
        rows()
    )


def test_nodes_know_the_parts() -> None:
    policy = parse_policy(POLICY).policy
    node = node_policy_from_json(to_node_json(policy))
    assert node.backends["mig"].types == {
        "small": {"fraction": 2 / 7, "memory": 9984 * MIB},
        "new": {"fraction": 1 / 7, "memory": None},
    }
    assert node.backends["vgpu"].types == {"v": {"fraction": 0.25, "memory": 12288 * MIB}}
    hami = node.backends["hami"]
    assert (hami.gpu_memory, hami.over_memory, hami.library) == (16384 * MIB, "kill", "/usr/local/vgpu/libvgpu.so")
    assert json.loads(to_node_json(policy))["framework_memory"] is True
    assert tres(1.5, policy) == "gres/gpu=1,gres/shard=150"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mig: {types: {t: {gpu: A999, profile: 1g.5gb}}}", "'A999': no model with mig profiles: known are A30"),
        ("mig: {types: {t: {gpu: A30, profile: 1g.5gb}}}", "'1g.5gb': no profile of A30: known are 1g.6gb"),
        ("vgpu: {types: {t: {gpu: H200-SXM5-141GB, profile: x}}}", "no model with vgpu profiles"),
        ("mig: {types: {}}", "backends.mig.types"),
        ("mps: {fraction: 0.255}", "backends.mps.fraction: 0.255: is no multiple of 1/100"),
        ("hami: {types: {a: {}, b: {feature: x}}}", "backends.hami.types.a: {}: one of several types"),
    ],
)  # fmt: skip
def test_what_the_table_does_not_have_is_refused(text: str, said: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(f"backends: {{{text}}}")
    assert said in str(caught.value)
