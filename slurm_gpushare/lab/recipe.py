"""What the lab's root file system and its base image are made of, and the key under which a built one is kept."""

import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

SUITE = "trixie"  # has Slurm 24.11
# Has Slurm 26.05, and the only Apptainer: that is in no release of Debian.
UNSTABLE = "sid"

PACKAGES = (
    "slurmctld",
    "slurmd",
    "slurmdbd",
    "slurm-client",
    "slurm-wlm-basic-plugins",
    "slurm-wlm-mysql-plugin",
    "libslurm-dev",
    "munge",
    "mariadb-server",
    "apptainer",
    "squashfuse",
    "squashfs-tools",
    # Without these two Apptainer writes a line about each to every job's standard error.
    "fuse2fs",
    "gocryptfs",
    "python3-venv",
    "python3-dev",
    "gcc",
    "libc6-dev",
    "make",
    "iproute2",
    "procps",
    "mount",
    "hostname",
    "passwd",
    "less",
)

PREFERENCES = f"""\
Package: *
Pin: release n={UNSTABLE}
Pin-Priority: 1

Package: apptainer
Pin: release n={UNSTABLE}
Pin-Priority: 600
"""

# Run as root inside the new root file system, without network. The users have no subordinate ids: Apptainer then
# builds by a single mapped id, where with them it would call newuidmap, which a nested namespace refuses.
SETUP = """\
set -e
for user in alice:1001 bob:1002; do
  name=${user%%:*} id=${user##*:}
  groupadd -g $id $name
  useradd -m -u $id -g $id -s /bin/bash $name
done
: > /etc/subuid
: > /etc/subgid
install -d -m 0755 /data /data/images /data/datasets
install -d -o slurm -g slurm -m 0755 /var/lib/slurm/slurmctld /var/spool/slurmd
rm -f /etc/resolv.conf /etc/localtime /etc/hostname
: > /etc/resolv.conf
cp /usr/share/zoneinfo/Etc/UTC /etc/localtime
"""

# Of Debian's contrib, and without what it depends on: NVIDIA's library, in whose place the lab has a stand-in.
NVML_PLUGIN = ("slurm-wlm-nvml-plugin", "gpu_nvml.so")

VENV = "/opt/gpushare"

# The image that the example jobs start from: a small Debian with Python, as one would pull from a registry.
# OpenBLAS, one thread: with the reference BLAS the examples train thirty times as long.
IMAGE_PACKAGES = ("python3", "python3-numpy", "libopenblas0-serial", "procps")
IMAGE_SETUP = """\
set -e
rm -rf /var/cache/apt /var/lib/apt/lists /etc/resolv.conf /etc/localtime /etc/hostname
rm -rf /usr/share/doc /usr/share/info /usr/share/perl5 /usr/lib/python3/dist-packages/numpy/*/tests
: > /etc/resolv.conf
cp /usr/share/zoneinfo/Etc/UTC /etc/localtime 2>/dev/null || : > /etc/localtime
"""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is in a root file system; two equal recipes share one."""

    what: str  # how progress names it
    variant: str  # mmdebstrap's
    suite: str
    unstable: str | None  # a second suite, which only the packages pinned in preferences come from
    packages: tuple[str, ...]
    preferences: str
    setup: str
    python: tuple[str, ...]  # requirements of the virtual environment; empty: there is none
    taken: tuple[str, str] | None = None  # a package of contrib and the one file to take of it, where it can be had
    venv: ClassVar[str] = VENV

    def key(self) -> str:
        """Return the recipe's name in the cache: 16 hex digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def python_requirements(pyproject: str, extras: tuple[str, ...] = ("html", "mariadb")) -> tuple[str, ...]:
    """Return what the product with ``extras`` and its build need, from the text of pyproject.toml."""
    data = tomllib.loads(pyproject)
    project = data["project"]
    optional = [requirement for extra in extras for requirement in project["optional-dependencies"][extra]]
    return tuple(sorted({*project["dependencies"], *optional, *data["build-system"]["requires"]}))


def read_recipe(source: Path, slurm: str = "24.11") -> Recipe:
    """Return the recipe of the lab itself for the source tree at ``source``, with that Slurm of SLURM_VERSIONS."""
    requirements = python_requirements((source / "pyproject.toml").read_text())
    if slurm == "24.11":
        return Recipe(
            "root file system", "apt", SUITE, UNSTABLE, PACKAGES, PREFERENCES, SETUP, requirements, NVML_PLUGIN
        )
    what = f"root file system of Slurm {slurm}"
    return Recipe(what, "apt", UNSTABLE, None, PACKAGES, "", SETUP, requirements, NVML_PLUGIN)


IMAGE = Recipe("base image", "essential", SUITE, None, IMAGE_PACKAGES, "", IMAGE_SETUP, ())


# TensorFlow's own package brings neither library.
TENSORFLOW_PACKAGES = ("python3", "python3-venv", "procps", "libstdc++6", "libgomp1")


class TensorFlowRecipe(Recipe):
    """The same for an image, in which the product's own place is nothing's."""

    venv: ClassVar[str] = "/opt/tensorflow"  # job_scripts/tensorflow.def has it in PATH


TENSORFLOW = TensorFlowRecipe(
    *("TensorFlow base image", "essential", SUITE, None, TENSORFLOW_PACKAGES, "", IMAGE_SETUP),
    # For processors alone: the lab has no GPU that computes.
    ("tensorflow-cpu", "jupyterlab"),
)
