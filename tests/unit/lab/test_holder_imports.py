"""The holder and the lab's init run on a system Python that has nothing of ours installed."""

import subprocess
import sys

import pytest

from slurm_gpushare.lab.source import source_root


@pytest.mark.parametrize("module", ["slurm_gpushare.lab.holder", "slurm_gpushare.lab.supervisor"])
def test_imports_the_standard_library_alone(module: str) -> None:
    # -S: no site-packages, neither the environment's nor the system's.
    code = f"import sys; sys.path.insert(0, {str(source_root())!r}); import {module}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["node.prolog", "node.epilog", "node.launcher"])
def test_the_jobs_path_does_too(module: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(source_root())!r}); import slurm_gpushare.{module}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
