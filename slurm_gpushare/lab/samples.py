"""What the example jobs need: the data set, the base image and the image built from job_scripts/digits.def."""

import os
import shutil
import subprocess
from pathlib import Path

from slurm_gpushare.lab import dataset, host, inside, rootfs, source, state
from slurm_gpushare.lab.progress import Progress, StepFailed

IMAGE = "/data/images/digits.sif"
BASE = "/data/images/debian-python"  # the `base` argument of job_scripts/digits.def
DATASET = "/data/datasets/digits"
BUILD = "/var/tmp/digits"


def put_samples(name: str, progress: Progress) -> None:
    """Put the data set and the image into lab ``name``; nothing is done twice. Raises LabError."""
    current = state.require_up(host.run_dir(), name)
    root = Path(f"/proc/{current.init}/root")
    if (root / IMAGE.lstrip("/")).exists():
        return
    with progress.step("data set: handwritten digits"):
        _copy(dataset.digits(host.cache_dir()), root / DATASET.lstrip("/"))
    base = rootfs.ensure_image(host.cache_dir(), progress)
    with progress.step("image: apptainer build job_scripts/digits.def"):
        _copy(base, root / BASE.lstrip("/"))
        # The load that the example declares to the lab's GPUs needs this program beside the user's own.
        shutil.copy2(root / "usr/bin/gpu-workload", root / BASE.lstrip("/") / "usr/bin/gpu-workload")
        # Apptainer builds with one id mapped, the user's: it could give no other's files their owner.
        subprocess.run(["chown", "-Rh", "1001:1001", str(root / BASE.lstrip("/"))], check=True)
        build = root / BUILD.lstrip("/")
        build.mkdir(mode=0o755, exist_ok=True)
        for file in ("digits.def", "digits.py"):
            shutil.copy2(source.source_root() / "job_scripts" / file, build / file)
        os.chown(build, 1001, 1001)
        log = host.run_dir() / name / "log" / "image.log"
        # zstd: a fifth of the time that gzip takes, and less work for each job that reads it.
        squash = ["--mksquashfs-args", "-comp zstd -Xcompression-level 1"]
        argv = ["apptainer", "build", "--force", *squash, f"{BUILD}/digits.sif", "digits.def"]
        if inside.run_logged(name, argv, user="alice", cwd=BUILD, log=log):
            raise StepFailed("image", f"{' '.join(argv)} did not succeed", log)
        made = root / IMAGE.lstrip("/")
        shutil.copy2(build / "digits.sif", made)
        os.chown(made, 0, 0)
        shutil.rmtree(build)


def _copy(source_folder: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--no-target-directory", str(source_folder), str(target)], check=True)
