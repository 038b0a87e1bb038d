"""The lab's data set, from a package that a fake of pip leaves."""

import gzip
import subprocess
import zipfile
from pathlib import Path

import pytest

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab import dataset


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Let pip leave a package; return the folders that it was called for."""
    called: list[Path] = []

    def run(argv: list[str], **options: object) -> subprocess.CompletedProcess:
        assert argv[1:4] == ["-m", "pip", "download"] and argv[-1] == dataset.PACKAGE
        folder = Path(argv[argv.index("--dest") + 1])
        called.append(folder)
        with zipfile.ZipFile(folder / "scikit_learn-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(dataset.DATA, gzip.compress(b"0,1,2\n"))
            wheel.writestr(dataset.DESCRIPTION, b"digits")
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr(dataset.subprocess, "run", run)
    return called


def test_it_is_fetched_once(tmp_path: Path, pip: list[Path]) -> None:
    folder = dataset.digits(tmp_path)
    assert dataset.digits(tmp_path) == folder
    assert (folder / "digits.csv").read_bytes() == b"0,1,2\n" and (folder / "README.rst").read_bytes() == b"digits"
    assert len(pip) == 1 and sorted(path.name for path in tmp_path.iterdir()) == ["datasets"]


def test_two_labs_at_once_share_what_the_first_fetched(
    tmp_path: Path, pip: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = dataset.os.rename

    def late(source: Path, target: Path) -> None:
        monkeypatch.setattr(dataset.os, "rename", rename)
        dataset.digits(tmp_path)
        rename(source, target)

    monkeypatch.setattr(dataset.os, "rename", late)
    assert (dataset.digits(tmp_path) / "digits.csv").exists()
    assert len(pip) == 2


def test_a_failed_download_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "x\nERROR: no network")
    monkeypatch.setattr(dataset.subprocess, "run", lambda argv, **options: failed)
    with pytest.raises(LabError, match="scikit-learn: ERROR: no network"):
        dataset.digits(tmp_path)
    assert list(tmp_path.iterdir()) == []
