"""Slurm's headers for the plugin's tests, of the oldest and the newest Slurm that is tried.

``GPUSHARE_SLURM_INCLUDE`` (folders with ``slurm/spank.h`` in them, colons between) says where they are. Without it
Debian's libslurm-dev packages of two suites are fetched from the host's own mirror and unpacked into ``build/``, by an
apt that has its own folders and configuration: the host's packages, lists and cache are not touched.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from slurm_gpushare.errors import LabError
from tests import debian

VARIABLE = "GPUSHARE_SLURM_INCLUDE"
SUITES = ("trixie", "sid")  # Slurm 24.11; 26.05 and later
CACHE = Path(__file__).resolve().parents[2] / "build" / "slurm-headers"


class HeadersMissing(Exception):
    """The headers are not here and cannot be fetched; the text says why."""


def given() -> list[Path]:
    """Return the folders that the environment names, which may be none."""
    return [Path(word) for word in os.environ.get(VARIABLE, "").split(":") if word]


def version(include: Path) -> tuple[int, int]:
    """Return Slurm's major and minor version by the headers in ``include``."""
    text = (include / "slurm" / "slurm_version.h").read_text()
    number = int(re.search(r"SLURM_VERSION_NUMBER\s+(0x[0-9a-fA-F]+)", text)[1], 16)
    return number >> 16 & 0xFF, number >> 8 & 0xFF


def fetch(suite: str, cache: Path = CACHE) -> Path:
    """Return the include folder of ``suite``'s libslurm-dev, from ``cache`` when it is there already.

    Raises HeadersMissing when the host is not Debian, or its mirror does not answer.
    """
    include = cache / suite
    cache.mkdir(parents=True, exist_ok=True)
    # Each process of pytest-xdist has a session fixture of its own: the second waits for what the first fetches.
    with (
        (cache / f".{suite}.lock").open("w") as lock,
        tempfile.TemporaryDirectory(prefix=f".{suite}-", dir=cache) as folder,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (include / "slurm" / "spank.h").is_file():
            return include
        work = Path(folder)
        try:
            debian.unpack("libslurm-dev", suite, work)
        except (LabError, OSError, ValueError, subprocess.CalledProcessError) as error:
            detail = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[0]
            raise HeadersMissing(f"Slurm's headers of Debian {suite}: {detail}; or set {VARIABLE}") from None
        shutil.rmtree(include, ignore_errors=True)
        (work / "tree" / "usr" / "include").rename(include)
    return include
