"""The machine that this tier runs in: one for all tests, which find it as those before left it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm import image, site
from tests.vm.machine import Machine


@pytest.fixture(scope="module", params=["24.11", "26.05"])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine with a site's Slurm on it, and the project's package beside, not installed."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("the machine's disks are made by root, and CI must not skip it")
        pytest.skip("the machine's disks are made by root")
    slurm = request.param
    work = Path(tempfile.mkdtemp(prefix="gpushare-vm-"))
    booted = None
    try:
        disks = (image.system_disk(slurm), image.source_disk(slurm, work), image.images_disk(work))
        booted = Machine(work, *image.kernel(slurm), *disks)
        site.set_up(booted)
        yield booted
    finally:
        if booted:
            booted.stop()
        shutil.rmtree(work)
