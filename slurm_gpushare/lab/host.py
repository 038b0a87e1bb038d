"""What the lab needs of the host: root, a few Debian programs, two folders."""

import os
import shutil
from pathlib import Path

from slurm_gpushare.errors import LabError

DEFAULT_CACHE = "/var/cache/gpushare-lab"
DEFAULT_RUN = "/var/tmp/gpushare-lab"

# program -> the Debian package that has it
PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "bwrap": "bubblewrap",
    "ip": "iproute2",
    "mount": "mount",
    "unshare": "util-linux",
    "apt-config": "apt",
}


def cache_dir() -> Path:
    """Return the one folder that keeps built root file systems between labs."""
    return _folder("GPUSHARE_LAB_CACHE", DEFAULT_CACHE)


def run_dir() -> Path:
    """Return the one folder that holds running labs, a folder each."""
    return _folder("GPUSHARE_LAB_RUN", DEFAULT_RUN)


def _folder(variable: str, default: str) -> Path:
    path = Path(os.environ.get(variable) or default)
    if not path.is_absolute() or ":" in str(path) or "," in str(path):
        # ':' and ',' separate the options of an overlay mount
        raise LabError(f"{variable}={path}: write an absolute path without ':' and ','")
    return path


def missing_packages(programs: dict[str, str] = PROGRAMS) -> list[str]:
    """Return the Debian packages whose programs are not in PATH, sorted."""
    return sorted({package for program, package in programs.items() if shutil.which(program) is None})


def require_host() -> None:
    """Raise LabError, one line, when this user or this machine cannot hold a lab."""
    require_root()
    missing = missing_packages()
    if missing:
        raise LabError(f"the lab needs programs that are not here: apt-get install {' '.join(missing)}")


def require_root() -> None:
    """Raise LabError when not root: mounts and namespaces need it."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root (it makes mounts and namespaces): run it as root or with sudo")
