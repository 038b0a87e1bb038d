"""What example jobs need: a data set, and the images built from job_scripts/*.def on base images of the lab's own."""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from slurm_gpushare.lab import dataset, host, inside, recipe, rootfs, source, state
from slurm_gpushare.lab.progress import Progress, StepFailed

BASE = "/data/images/debian-python"  # the `base` argument of job_scripts/digits.def
DATASET = "/data/datasets/digits"
# The load that the examples declare to the lab's GPUs needs this program beside the user's own.
WORKLOAD = "usr/bin/gpu-workload"
BUILDER = 1001  # alice


@dataclass(frozen=True)
class Image:
    """One image: job_scripts/NAME.def and the program that it takes along, on ``base``, built from ``recipe``."""

    name: str
    program: str
    base: str
    recipe: recipe.Recipe
    keep: bool = False  # in the cache, as it takes long to build

    @property
    def path(self) -> str:
        """Where labs have it."""
        return f"/data/images/{self.name}.sif"


DIGITS = Image("digits", "digits.py", BASE, recipe.IMAGE)
TENSORFLOW = Image("tensorflow", "cnn_benchmark.py", "/data/images/debian-tensorflow", recipe.TENSORFLOW, keep=True)


def put_samples(name: str, progress: Progress, image: Image = DIGITS) -> None:
    """Put the data set and one image into lab ``name``; nothing is done twice. Raises LabError."""
    root = Path(f"/proc/{state.require_up(host.run_dir(), name).init}/root")
    if not (root / DATASET.lstrip("/")).exists():
        with progress.step("data set: handwritten digits"):
            _copy(dataset.digits(host.cache_dir()), root / DATASET.lstrip("/"))
    target = root / image.path.lstrip("/")
    if target.exists():
        return
    kept = host.cache_dir() / "images" / f"{image.name}-{_key(image, root)}.sif"
    if not kept.exists():
        made = _build(name, root, image, progress)
        if not image.keep:
            _move(made, target)
            return
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        for old in kept.parent.glob(f"{image.name}-*.sif"):
            old.unlink()
        _move(made, kept)
    _move(kept, target, copy=True)


def _key(image: Image, root: Path) -> str:
    """Return what a built image goes by: a digest of all that is in it."""
    scripts = source.source_root() / "job_scripts"
    digest = hashlib.sha256(image.recipe.key().encode())
    for path in (scripts / f"{image.name}.def", scripts / image.program, root / WORKLOAD):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _build(name: str, root: Path, image: Image, progress: Progress) -> Path:
    """Build the image in lab ``name``, as an ordinary user there, and return where it lies."""
    base = rootfs.ensure(host.cache_dir(), image.recipe, progress)
    with progress.step(f"image: apptainer build job_scripts/{image.name}.def"):
        copied = root / image.base.lstrip("/")
        _copy(base, copied)
        shutil.copy2(root / WORKLOAD, copied / WORKLOAD)
        # Apptainer builds with one id mapped, the user's: it could give no other's files their owner.
        subprocess.run(["chown", "-Rh", f"{BUILDER}:{BUILDER}", str(copied)], check=True)
        folder = f"/var/tmp/{image.name}"
        build = root / folder.lstrip("/")
        build.mkdir(mode=0o755, exist_ok=True)
        for file in (f"{image.name}.def", image.program):
            shutil.copy2(source.source_root() / "job_scripts" / file, build / file)
        os.chown(build, BUILDER, BUILDER)
        log = host.run_dir() / name / "log" / f"image-{image.name}.log"
        # zstd: a fifth of the time that gzip takes, and less work for each job that reads it.
        squash = ["--mksquashfs-args", "-comp zstd -Xcompression-level 1"]
        argv = ["apptainer", "build", "--force", *squash, f"{folder}/{image.name}.sif", f"{image.name}.def"]
        if inside.run_logged(name, argv, user="alice", cwd=folder, log=log):
            raise StepFailed("image", f"{' '.join(argv)} did not succeed", log)
        if image.keep:
            shutil.rmtree(copied)
        return build / f"{image.name}.sif"


def _move(made: Path, target: Path, copy: bool = False) -> None:
    """Put an image in its place, root's, at once or not at all; what it was built in goes, unless ``copy``."""
    new = target.with_suffix(".new")
    shutil.copy2(made, new)
    os.chown(new, 0, 0)
    os.replace(new, target)
    if not copy:
        shutil.rmtree(made.parent)


def _copy(source_folder: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--no-target-directory", str(source_folder), str(target)], check=True)
