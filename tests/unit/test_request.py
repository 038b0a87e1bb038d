"""sbatch's own words as the fields that slurmctld gets."""

import pytest

from slurm_gpushare.request import Request


def test_fields_as_the_client_sends_them() -> None:
    request = Request(
        gres="gpu:0.25,nvme:1",
        gpus="1",
        gpus_per_node="2",
        gpus_per_task="3",
        gpus_per_socket="4",
        cpus_per_gpu="5",
        partition="shard",
        nodes="2",
        licenses="matlab",
        extra="words",
        tres_per_task="gres/gpu:0.5",
        mem="2G",
        ntasks=4,
        ntasks_per_node=2,
        cpus_per_task=3,
        user="alice",
        account="physics",
        qos="debug",
        options={"dataset": "digits"},
    )
    assert request.job_desc() == {
        "tres_per_node": "gres/gpu:2,gres/gpu:0.25,gres/nvme:1",
        "gres": "gres/gpu:2,gres/gpu:0.25,gres/nvme:1",
        "tres_per_job": "gres/gpu:1",
        "tres_per_task": "gres/gpu:3,gres/gpu:0.5",
        "min_mem_per_node": 2048,
        "num_tasks": 4,
        "ntasks_per_node": 2,
        "cpus_per_task": 3,
        "user_name": "alice",
        "account": "physics",
        "qos": "debug",
        "tres_per_socket": "gres/gpu:4",
        "cpus_per_tres": "gres/gpu:5",
        "partition": "shard",
        "min_nodes": 2,
        "max_nodes": 2,
        "licenses": "matlab",
        "extra": "words",
        "spank_job_env": ["_SLURM_SPANK_OPTION_gpushare_dataset=digits"],
    }


def test_what_is_not_given_is_not_there() -> None:
    assert Request().job_desc() == {}


def test_nodes_that_are_none() -> None:
    with pytest.raises(ValueError, match="number of nodes"):
        Request(nodes="some").job_desc()
