"""`gpushare study` with TensorFlow in containers, through Slurm."""

import json

import pytest

from tests.lab.cluster import Cluster

pytestmark = pytest.mark.timeout(1800)  # the image may have to be built
OUT = "/home/alice/study-tensorflow"


def test_two_halves_train_beside_each_other(tensorflow_cluster: Cluster) -> None:
    lab = tensorflow_cluster
    lab.run("rm", "-rf", OUT, user="alice")
    words = ["--jobs=2", "--repeat=1", "--burn-in=0", "--models=lenet,alexnet", "--ways=shard", f"--out={OUT}"]
    words += ["--arguments=--batch_size=2 --num_batches=3 --num_warmup_batches=1"]
    options = ["--container-image=/data/images/tensorflow.sif", "--nodelist=n1"]
    done = lab.run("gpushare", "study", *words, "--", *options, user="alice", check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "these are not numbers of a GPU" in done.stdout
    results = json.loads(lab.read(f"{OUT}/results.json"))
    whole, shared = results["cases"]
    assert (whole["jobs"], shared["jobs"], shared["fraction"]) == (1, 2, 0.5)
    (comparison,) = results["comparisons"]
    assert set(comparison["throughput_ratio"]) == {"lenet", "alexnet"}
    assert all(ratio > 0 for ratio in comparison["throughput_ratio"].values())
    assert comparison["work_ratio"] == pytest.approx(2 / comparison["completion_ratio"])
    for name in ("throughput", "completion"):
        assert lab.read(f"{OUT}/{name}.svg").startswith("<svg")
