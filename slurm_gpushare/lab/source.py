"""Copy the source tree into a lab, so that the lab builds and installs what lies here now."""

import os
import shutil
import subprocess
from pathlib import Path

from slurm_gpushare.errors import LabError

SKIPPED = {".git", ".venv", "__pycache__"}


def source_root() -> Path:
    """Return the tree that this package was imported from; raises LabError when it is not a source tree."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "pyproject.toml").is_file():
        raise LabError(f"{root} is not a source tree of slurm-gpushare (no pyproject.toml): run gpushare from a clone")
    return root


def listed_files(root: Path) -> list[str]:
    """Return the files to copy, relative to ``root``: what git tracks or would track, else everything but caches."""
    if (root / ".git").exists() and shutil.which("git"):
        argv = ["git", "-C", str(root), "-c", f"safe.directory={root}", "ls-files", "-z"]
        argv += ["--cached", "--others", "--exclude-standard"]
        done = subprocess.run(argv, capture_output=True)
        if done.returncode == 0:
            return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED]
        found += [os.path.relpath(os.path.join(folder, name), root) for name in files]
    return found


def copy_source(root: Path, target: Path) -> None:
    """Copy the listed files of ``root`` to ``target``; a file that is gone meanwhile is left out."""
    for name in listed_files(root):
        destination = target / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy2(root / name, destination, follow_symlinks=False)
        except (FileNotFoundError, IsADirectoryError):
            continue
