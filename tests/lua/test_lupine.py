"""GPUs of LUPINE servers: a share becomes licences of a GPU, and the user is told that nothing holds anybody to it."""

import re

import pytest

from slurm_gpushare.grant import decode_grant
from tests.lua.conftest import install

POLICY = """
partitions: {bitfusion: lupine, pool2: {default: bitfusion, allowed: [lupine]}}
backends:
  bitfusion:
    placement: flat
    servers: [{address: "10.0.0.1:56001", gpus: 2}]
  lupine:
    placement: PLACEMENT
    servers:
      - {name: l1, address: "10.0.0.8:14833", gpus: 2, gpu_memory: 16000 MiB}
      - {name: l2, address: "10.0.0.9:14833", gpus: 1, gpu_memory: 16000 MiB}
"""


def submitter(folder, placement):
    controller = install(folder, POLICY.replace("PLACEMENT", placement))
    return lambda **fields: controller.submit(**{"partition": "bitfusion", **fields})


@pytest.fixture(params=["pinned", "first_fit"])
def servers(request, tmp_path):
    return submitter(tmp_path, request.param)


@pytest.mark.parametrize(
    "placement, licences",
    [
        ("pinned", {"gpu0@l1:25", "gpu1@l1:25", "gpu0@l2:25"}),
        ("first_fit", {"gpu0@l1:25|gpu1@l1:25|gpu0@l2:25"}),
    ],
)
def test_a_quarter(tmp_path, placement, licences):
    answer = submitter(tmp_path, placement)(tres_per_node="gres/gpu:0.25")
    assert answer.status == 0, answer.told
    assert answer.job["tres_per_node"] == "gres/lupine:25"
    assert answer.job["licenses"] in licences
    grant = decode_grant(answer.job["extra"])
    assert (grant.backend, grant.gpus, grant.fraction, grant.slices, grant.tasks) == ("lupine", 1, 0.25, 25, 1)
    assert answer.told == [
        "gpushare: gpu:0.25 is 0.25 of one GPU in the lupine pool: 25 of 100 slices, 4000 MiB; on one node "
        "(-N n takes n times as much); nothing holds a job to its share"
    ]


def test_each_of_three_finds_another_gpu(tmp_path):
    servers = submitter(tmp_path, "pinned")
    chosen = {servers(tres_per_node="gres/gpu:0.75").job["licenses"] for _ in range(3)}
    assert chosen == {"gpu0@l1:75", "gpu1@l1:75", "gpu0@l2:75"}


def test_two_gpus_lie_on_one_server(servers):
    answer = servers(tres_per_node="gres/gpu:2")
    assert set(answer.job["licenses"].split(",")) == {"gpu0@l1:100", "gpu1@l1:100"}
    assert servers(tres_per_node="gres/gpu:3").status != 0


@pytest.mark.parametrize("own", ["gpu0@l1:100", "gpu0@L2:1", "matlab:1,gpu1@l1:1"])
def test_the_licences_of_the_gpus_are_not_the_users(servers, own):
    answer = servers(tres_per_node="gres/gpu:0.25", licenses=own)
    assert answer.status != 0 and re.search(r"gpu\d@", answer.told[0])


def test_it_may_be_chosen_beside_another(servers):
    chosen = [servers(tres_per_node="gres/gpu:0.25", partition="pool2")]
    chosen.append(
        servers(
            tres_per_node="gres/gpu:0.25",
            partition="pool2",
            spank_job_env=["_SLURM_SPANK_OPTION_gpushare_gpu_backend=lupine"],
        )
    )
    assert [decode_grant(answer.job["extra"]).backend for answer in chosen] == ["bitfusion", "lupine"]
    assert "nothing holds a job to its share" not in chosen[0].told[0]
