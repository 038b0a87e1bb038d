"""A real data set for the lab: the handwritten digits that the scikit-learn package ships, as plain files."""

import gzip
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from slurm_gpushare.errors import LabError

PACKAGE = "scikit-learn"
DATA = "sklearn/datasets/data/digits.csv.gz"
DESCRIPTION = "sklearn/datasets/descr/digits.rst"


def digits(cache: Path) -> Path:
    """Return the folder with ``digits.csv`` (1797 rows: 64 grey values 0..16 and the digit) and its description.

    The package is fetched once and only these two files are kept; raises LabError when it cannot be had.
    """
    folder = cache / "datasets" / "digits"
    if (folder / "digits.csv").exists():
        return folder
    with tempfile.TemporaryDirectory(dir=_made(cache)) as scratch:
        fetched = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            + ["--only-binary=:all:", "--dest", scratch, PACKAGE],
            capture_output=True,
            text=True,
            check=False,
        )
        wheels = list(Path(scratch).glob("*.whl"))
        if fetched.returncode or not wheels:
            last = (fetched.stderr.strip().splitlines() or ["no message"])[-1]
            raise LabError(f"dataset: pip could not download {PACKAGE}: {last}")
        made = Path(scratch) / "digits"
        made.mkdir()
        with zipfile.ZipFile(wheels[0]) as wheel:
            (made / "digits.csv").write_bytes(gzip.decompress(wheel.read(DATA)))
            (made / "README.rst").write_bytes(wheel.read(DESCRIPTION))
        made.chmod(0o755)
        _made(folder.parent)
        try:
            os.rename(made, folder)
        except OSError:
            # Two labs that come up at once both fetch it: the first stays.
            if not (folder / "digits.csv").exists():
                raise
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
