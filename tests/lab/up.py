"""Bringing a lab up for the tests, and down after them."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.lab.cluster import GPUSHARE, Cluster

# Of several processes that test side by side each has labs of its own.
PROCESS = os.environ.get("PYTEST_XDIST_WORKER", "")


def lab_up(name: str, *options: str) -> Iterator[Cluster]:
    """Yield a lab of that name with the example's image and data set; skips or fails the test where there is none."""
    name += PROCESS
    if os.environ.get("GPUSHARE_KEEP_LABS"):
        # A developer's labs stay up between runs; `gpushare lab down --name …` makes way for changed code.
        if subprocess.run([GPUSHARE, "lab", "up", "--name", name, "--samples", *options], check=False).returncode:
            pytest.fail(f"lab up --name {name}", pytrace=False)
        yield Cluster(name)
        return
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("the lab needs root, and CI must not skip it")
        pytest.skip("the lab needs root")
    subprocess.run([GPUSHARE, "lab", "down", "--name", name], capture_output=True, check=False)
    done = subprocess.run(
        [GPUSHARE, "lab", "up", "--name", name, "--samples", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        if done.returncode:
            pytest.fail(f"lab up --name {name}: status {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False)
        yield Cluster(name)
    finally:
        subprocess.run([GPUSHARE, "lab", "down", "--name", name], capture_output=True, check=False)
