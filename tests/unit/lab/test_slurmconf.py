"""The lab's slurm.conf."""

import pytest

from slurm_gpushare.lab import slurmconf
from slurm_gpushare.lab.params import LabParams


def settings(text: str) -> dict[str, str]:
    """Return the lines NAME=VALUE, nodes and partitions by their own name."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found[line.split()[0] if name in ("NodeName", "PartitionName") else name] = value
    return found


def test_shares_of_gpus_and_of_the_pool() -> None:
    conf = settings(slurmconf.slurm_conf(LabParams(nodes=3, gpus=4, pool_gpus=2)))
    assert "Gres=gpu:p100:4,shard:400,nvme:4 " in conf["NodeName=n3"]
    assert "Gres=bitfusion:200 " in conf["NodeName=c2"]
    assert conf["Licenses"] == "matlab:4,bitfusion:200"
    assert "NodeName=n4" not in conf
    assert conf["PartitionName=shard"].startswith("shard Nodes=n[1-3] Default=YES")
    assert conf["PartitionName=bitfusion"].startswith("bitfusion Nodes=c[1-2]")
    assert conf["GresTypes"] == "gpu,shard,bitfusion,nvme"
    assert {"gres/gpu", "gres/shard", "gres/bitfusion", "license/bitfusion"} == set(
        conf["AccountingStorageTRES"].split(",")
    )


def test_every_node_has_a_port_of_its_own() -> None:
    text = slurmconf.slurm_conf(LabParams(nodes=5))
    ports = [word for line in text.splitlines() for word in line.split() if word.startswith("Port=")]
    assert len(ports) == len(set(ports)) == 7


def test_a_bare_lab_is_a_site_that_gives_whole_gpus() -> None:
    text = slurmconf.slurm_conf(LabParams(bare=True))
    bare = settings(text)
    ours = {"JobSubmitPlugins", "CliFilterPlugins", "PlugStackConfig", "Prolog", "Epilog"}
    beside = {"PrologFlags", "AccountingStoreFlags", "Licenses"}
    full = settings(slurmconf.slurm_conf(LabParams()))
    named = {"PartitionName=shard", "PartitionName=bitfusion"}
    assert set(full) - set(bare) == ours | beside | named
    assert (bare["GresTypes"], bare["AccountingStorageTRES"]) == ("gpu", "gres/gpu")
    assert "Gres=gpu:p100:2 " in bare["NodeName=n1"] and "Gres" not in bare["NodeName=c1"]
    assert not any(word in text for word in ("gpushare", "shard", "bitfusion"))
    assert slurmconf.gres_conf(LabParams(bare=True)) == "NodeName=n[1-2] Name=gpu Type=p100 File=/dev/nvidia[0-1]\n"


@pytest.mark.parametrize(
    ("params", "lines"),
    [
        (
            LabParams(nodes=1, gpus=1),
            ["NodeName=n1 Name=gpu Type=p100 File=/dev/nvidia0", "NodeName=n1 Name=shard Count=100"],
        ),
        (
            LabParams(nodes=2, gpus=3),
            ["NodeName=n[1-2] Name=gpu Type=p100 File=/dev/nvidia[0-2]", "NodeName=n[1-2] Name=shard Count=300"],
        ),
    ],
)
def test_gres_conf(params: LabParams, lines: list[str]) -> None:
    text = slurmconf.gres_conf(params).splitlines()
    assert text[:2] == lines
    assert text[3] == "NodeName=c[1-2] Name=bitfusion Count=100 Flags=CountOnly"


def test_hosts_names_every_node() -> None:
    lines = slurmconf.hosts(LabParams(nodes=1, pool_servers=2)).splitlines()
    assert "10.77.0.1 login n1 c1 c2" in lines
    assert lines[-3:] == ["10.77.0.10 pool", "10.77.0.10 server1", "10.77.0.11 server2"]


def test_a_pool_that_slurm_places_has_no_licence_of_its_own_name() -> None:
    params = LabParams(pool_servers=3, pool_gpus=2, pool_placement="pinned")
    conf = settings(slurmconf.slurm_conf(params))
    assert conf["Licenses"] == "matlab:4"
    assert "license/bitfusion" not in conf["AccountingStorageTRES"]
    # The count-only gres, for limits and billing, is of the whole pool on each client node.
    assert "Gres=bitfusion:600 " in conf["NodeName=c1"]
    assert "Name=bitfusion Count=600 Flags=CountOnly" in slurmconf.gres_conf(params)
