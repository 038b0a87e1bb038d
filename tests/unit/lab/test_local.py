"""A lab with nodes for the further local backends."""

import pytest
import yaml

from slurm_gpushare.lab import configure, devices, local, slurmconf, supervisor
from slurm_gpushare.lab.params import LOCAL_NODES, LabParams
from slurm_gpushare.lab.source import source_root
from slurm_gpushare.lab.standins.gpu.spec import parse_specs
from slurm_gpushare.policy.load import parse_policy

ALL = LabParams(mps=True, mig=True, vgpu=True, hami=True)


def test_nothing_of_them_is_there_unless_asked_for() -> None:
    assert LabParams().all_nodes == ["n1", "n2", "c1", "c2"]
    assert local.nodes(LabParams()) == []
    text = slurmconf.slurm_conf(LabParams()) + slurmconf.gres_conf(LabParams(), autodetect=True)
    assert "AutoDetect" not in text
    assert not any(
        f"PartitionName={backend} " in text or f"NodeName={node} " in text for backend, node in LOCAL_NODES.items()
    )


def test_each_is_asked_for_by_itself() -> None:
    for backend, node in LOCAL_NODES.items():
        params = LabParams(**{backend: True})
        assert params.all_nodes[4:] == [node]
        assert f"PartitionName={backend} Nodes={node} State=UP" in slurmconf.slurm_conf(params).splitlines()


def test_their_gres() -> None:
    conf = slurmconf.slurm_conf(ALL).splitlines()
    gres = {
        words[0].removeprefix("NodeName="): words[-2].removeprefix("Gres=")
        for words in map(str.split, conf)
        if words and words[0].startswith("NodeName=")
    }
    assert gres["m1"] == "gpu:v100:2,shard:200"
    assert gres["g1"] == "gpu:a100_3g.20gb:1,gpu:a100_2g.10gb:1,gpu:a100_1g.5gb:2"
    assert gres["v1"] == "gpu:a40-12q:1"
    assert gres["h1"] == "gpu:p100:2,shard:200"


def test_mig_is_detected_where_slurm_has_the_plugin_and_written_down_elsewhere() -> None:
    found = [line for line in slurmconf.gres_conf(ALL, autodetect=True).splitlines() if "=g1 " in line]
    assert found == ["NodeName=g1 AutoDetect=nvml"]
    written = [line for line in slurmconf.gres_conf(ALL).splitlines() if "=g1 " in line]
    assert len(written) == 4
    assert written[0] == (
        "NodeName=g1 Name=gpu Type=a100_3g.20gb "
        "MultipleFiles=/dev/nvidia0,/dev/nvidia-caps/nvidia-cap21,/dev/nvidia-caps/nvidia-cap22"
    )


def test_a_node_has_the_device_nodes_that_its_gres_conf_names() -> None:
    [node] = local.nodes(LabParams(mig=True))
    there = {f"/dev/{name}" for name in devices.device_names(node.gpus, node.capabilities.values())}
    files = {word for line in node.gres_conf(False) for word in line.partition("MultipleFiles=")[2].split(",")}
    assert len(files) == 9 and files <= there
    assert node.capabilities["gpu0/gi9/access"] == 84 and node.capabilities["gpu0/gi9/ci0/access"] == 85


@pytest.mark.parametrize("node", local.nodes(ALL), ids=lambda node: node.backend)
def test_the_stand_in_takes_the_inventory(node: local.LocalNode) -> None:
    specs = parse_specs({"gpus": node.inventory("lab")})
    assert len(specs) == node.gpus == supervisor.gpu_counts(ALL)[node.name]
    assert [part.profile for part in specs[0].mig] == [part.profile for part in node.instances]
    assert specs == parse_specs({"gpus": node.inventory("lab")}) != parse_specs({"gpus": node.inventory("other")})


def test_the_parts_are_a_whole_card() -> None:
    [spec] = parse_specs({"gpus": local.nodes(LabParams(mig=True))[0].inventory("lab")})
    assert sum(part.slices for part in spec.mig) == 7
    assert sum(part.memory_mib for part in spec.mig) <= spec.memory_mib
    assert len({part.uuid for part in spec.mig}) == 4


def test_the_policy_has_them() -> None:
    shipped = yaml.safe_load((source_root() / "etc/gpushare.yaml").read_text())
    policy = parse_policy(yaml.safe_dump(configure.site_policy(shipped, ALL))).policy
    for node in local.nodes(ALL):
        assert policy.partitions[node.backend].choices == [node.backend]
        assert set(getattr(policy.backends, node.backend).types) == set(node.types)
