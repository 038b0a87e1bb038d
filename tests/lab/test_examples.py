"""The job scripts that come with the project run as they stand."""

from tests.lab.cluster import Cluster

SCRIPTS = "/usr/src/slurm-gpushare/job_scripts"


def test_digits(cluster: Cluster) -> None:
    job = int(
        cluster.out("sbatch", "--parsable", "-o/home/alice/example.out", f"{SCRIPTS}/digits.sbatch", user="alice")
    )
    assert cluster.wait(job) == "COMPLETED", cluster.read("/home/alice/example.out")
    assert "of unseen digits right" in cluster.read("/home/alice/example.out")
    assert '"request":"gpu:0.25"' in cluster.sacct(job, "Extra")[0]["Extra"]
