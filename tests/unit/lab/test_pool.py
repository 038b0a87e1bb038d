"""The servers of a lab's pool."""

from slurm_gpushare.lab import pool
from slurm_gpushare.lab.params import LabParams


def test_the_first_server_keeps_the_names_of_a_pool_of_one() -> None:
    first, second = pool.servers(LabParams(pool_servers=2, pool_gpus=3))
    assert (first.name, first.address, first.daemon, first.config) == (
        "server1",
        "10.77.0.10:56001",
        "pool",
        "/etc/lab/pool.json",
    )
    assert (second.name, second.ip, second.config, second.gpus) == ("server2", "10.77.0.11", "/etc/lab/pool2.json", 3)


def test_a_flat_pool_has_no_licences_of_gpus() -> None:
    assert pool.licence_commands(LabParams(pool_servers=3)) == []


def test_each_gpu_has_a_licence_of_its_server() -> None:
    commands = pool.licence_commands(LabParams(name="x", pool_servers=2, pool_gpus=2, pool_placement="pinned"))
    assert [words[2:4] for words in commands] == [
        [f"name=gpu{gpu}", f"server={server}"] for server in ("server1", "server2") for gpu in (0, 1)
    ]
    assert all({"type=license", "count=100", "allowed=100", "cluster=x"} <= set(words) for words in commands)
