"""A lab with a LUPINE server."""

import yaml

from slurm_gpushare.lab import configure, lupine, slurmconf
from slurm_gpushare.lab.params import LabParams
from slurm_gpushare.lab.source import source_root
from slurm_gpushare.policy.load import parse_policy

WITH = LabParams(lupine=True)


def test_nothing_of_it_is_there_unless_asked_for() -> None:
    files = slurmconf.slurm_conf(LabParams()) + slurmconf.gres_conf(LabParams())
    assert "lupine" not in files and LabParams().all_nodes == ["n1", "n2", "c1", "c2"]


def test_its_node_partition_and_gres() -> None:
    conf, gres = slurmconf.slurm_conf(WITH).splitlines(), slurmconf.gres_conf(WITH).splitlines()
    assert WITH.all_nodes[-1] == "l1"
    assert any(line.startswith("NodeName=l1 ") and " Gres=lupine:200 " in line for line in conf)
    assert conf[-1] == "PartitionName=lupine Nodes=l1 State=UP"
    assert "GresTypes=gpu,shard,bitfusion,nvme,lupine" in conf
    assert any(line.startswith("AccountingStorageTRES=") and line.endswith(",gres/lupine") for line in conf)
    assert gres[-1] == "NodeName=l1 Name=lupine Count=200 Flags=CountOnly"


def test_a_licence_for_each_gpu() -> None:
    words = [" ".join(command) for command in lupine.licence_commands("lab")]
    assert [text.split(" type=")[0] for text in words] == [
        "add resource name=gpu0 server=lupine1",
        "add resource name=gpu1 server=lupine1",
    ]
    assert all("count=100 " in text and "cluster=lab" in text for text in words)


def test_the_policy_has_it() -> None:
    shipped = yaml.safe_load((source_root() / "etc/gpushare.yaml").read_text())
    policy = parse_policy(yaml.safe_dump(configure.site_policy(shipped, WITH))).policy
    assert policy.partitions["lupine"].choices == ["lupine"]
    [server] = policy.backends.lupine.servers
    assert (server.name, server.address, server.gpus) == ("lupine1", "10.77.0.1:14833", 2)
