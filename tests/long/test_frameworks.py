"""The benchmark's networks in PyTorch and in JAX, as packages ship these."""

import re
import subprocess
from pathlib import Path
from typing import ClassVar

import pytest

from slurm_gpushare.lab import dataset, host, rootfs
from slurm_gpushare.lab.progress import Progress
from slurm_gpushare.lab.recipe import SUITE, Recipe
from tests.tools import SETUP

pytestmark = pytest.mark.timeout(1800)  # the root file system may have to be built
JOB_SCRIPTS = Path(__file__).parents[2] / "job_scripts"


class FrameworksRecipe(Recipe):
    """PyTorch of Debian's, since PyPI's brings gigabytes of CUDA; JAX of PyPI's, in a virtual environment."""

    venv: ClassVar[str] = "/opt/jax"


FRAMEWORKS = FrameworksRecipe(
    *("test frameworks", "apt", SUITE, None, ("python3-torch", "python3-numpy", "python3-venv"), "", SETUP, ("jax",))
)
PYTHON = {"pytorch": "/usr/bin/python3", "jax": f"{FrameworksRecipe.venv}/bin/python"}


def benchmark(framework: str, *words: str) -> str:
    """Run the benchmark where the frameworks are, without a network; returns what it prints."""
    root = rootfs.ensure(host.cache_dir(), FRAMEWORKS, Progress(print))
    argv = ["bwrap", "--die-with-parent", "--unshare-net", "--ro-bind", str(root), "/", "--proc", "/proc"]
    argv += ["--dev", "/dev", "--tmpfs", "/tmp", "--ro-bind", str(JOB_SCRIPTS), "/srv"]
    argv += ["--ro-bind", str(dataset.digits(host.cache_dir())), "/mnt", "--clearenv", "--setenv", "HOME", "/tmp"]
    argv += ["--", PYTHON[framework], "/srv/cnn_benchmark.py", f"--framework={framework}", *words]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
@pytest.mark.parametrize("framework", PYTHON)
def test_digits_are_learned(framework: str) -> None:
    said = benchmark(framework, "--model=lenet", "--data_dir=/mnt", "--num_batches=150")
    assert re.search(rf"^Framework: +{framework} \d", said, re.M | re.I), said
    assert float(re.search(r"^Accuracy @ 1 = ([0-9.]+)", said, re.M)[1]) > 0.9, said


@pytest.mark.long
@pytest.mark.parametrize("framework", PYTHON)
@pytest.mark.parametrize("model", ["alexnet", "inception3", "resnet50"])
def test_the_suites_networks_train(framework: str, model: str) -> None:
    # The suite's learning rates are for batches of hundreds.
    few = ("--batch_size=2", "--num_batches=10", "--num_warmup_batches=1", "--init_learning_rate=0.0002")
    said = benchmark(framework, f"--model={model}", *few)
    first, last = re.findall(r"^(\d+)\timages/sec: ([0-9.]+) .*\t([0-9.]+)$", said, re.M)
    assert (first[0], last[0]) == ("1", "10")
    assert float(last[1]) > 0
    # The same two images over and over: what it learned of them must show.
    assert float(last[2]) < float(first[2]), said
