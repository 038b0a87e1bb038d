"""The main path holds with every version of Slurm that the lab has."""

import json

import pytest

from slurm_gpushare.lab.params import SLURM_VERSIONS
from tests.lab.cluster import Cluster, until

IMAGE = "--container-image=/data/images/digits.sif"
# It stays until it was measured: on a busy machine the training alone may be over before the first sample.
WAIT = "until [ -e ~/measured ]; do sleep 0.1; done"
TRAIN = f"gpu-workload --gpu 0 --sm 20 --memory 3G -- sh -c 'python3 /opt/digits/digits.py --epochs 500 && {WAIT}'"
MEMORY = 3 * 1024**3


@pytest.fixture(params=["cluster", "new_cluster"], ids=SLURM_VERSIONS)
def lab(request: pytest.FixtureRequest) -> Cluster:
    """A lab of each version."""
    lab = request.getfixturevalue(request.param)
    version = SLURM_VERSIONS[request.param == "new_cluster"]
    assert lab.out("sinfo", "-V").startswith(f"slurm-wlm {version}.")
    return lab


@pytest.mark.parametrize(
    ("backend", "partition", "tres"),
    [("bitfusion", "bitfusion", "license/bitfusion=25"), ("shard", "shard", "gres/shard=25")],
)
def test_a_quarter_from_the_request_to_the_report(lab: Cluster, backend: str, partition: str, tres: str) -> None:
    job = lab.sbatch(
        "alice",
        f"-p{partition}",
        "--gres=gpu:0.25",
        IMAGE,
        "--dataset=digits",
        "-o/home/alice/version-%j.out",
        script=lab.script("alice", "rm -f ~/measured", f"exec {TRAIN}"),
    )
    until("its memory is measured", lambda: MEMORY in _measured(lab, job), 120)
    lab.run("touch", "/home/alice/measured", user="alice")
    assert lab.wait(job, 120) == "COMPLETED", lab.read(f"/home/alice/version-{job}.out")
    assert "1797 images, 500 epochs" in lab.read(f"/home/alice/version-{job}.out")
    row = lab.sacct(job, "AllocTRES", "Extra")[0]
    assert tres in row["AllocTRES"].split(",")
    assert '"request":"gpu:0.25"' in row["Extra"]
    line = next(line for line in lab.report() if line["job_id"] == job)
    assert (line["backend"], line["fraction"], line["quality"]) == (backend, 0.25, "measured")
    assert line["memory_peak_bytes"] == MEMORY


def _measured(lab: Cluster, job: int) -> list[int | None]:
    """Return what is measured of the memory of a job, wherever it has a share."""
    status = json.loads(lab.out("gpushare", "status", "--format", "json"))
    shares = [share for gpu in status["gpus"] for share in gpu["jobs"]] + status["elsewhere"]
    return [share["memory"] for share in shares if share["job_id"] == job]


def test_the_record_has_the_runs_unique_id_where_slurm_gives_one(lab: Cluster) -> None:
    command = 'echo "${SLURM_JOB_SLUID:-}"; cat /run/gpushare/$SLURMD_NODENAME/jobs/$SLURM_JOB_ID/launch.json'
    said = lab.run("srun", "--gres=gpu:0.25", "sh", "-c", command, user="alice").stdout
    given, record = said.split("\n", 1)
    assert json.loads(record)["sluid"] == (given or None)
    if not lab.out("sinfo", "-V").startswith("slurm-wlm 24.11."):
        assert given
