"""The two folders and the programs of the host."""

from pathlib import Path

import pytest

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab import host


def test_folders_by_default_and_by_variable(monkeypatch) -> None:
    monkeypatch.delenv("GPUSHARE_LAB_CACHE", raising=False)
    monkeypatch.setenv("GPUSHARE_LAB_RUN", "/srv/run")
    assert host.cache_dir() == Path("/var/cache/gpushare-lab")
    assert host.run_dir() == Path("/srv/run")


@pytest.mark.parametrize("value", ["run", "/srv/a:b", "/srv/a,b"])
def test_a_folder_that_no_overlay_can_name_is_refused(monkeypatch, value: str) -> None:
    monkeypatch.setenv("GPUSHARE_LAB_RUN", value)
    with pytest.raises(LabError, match=f"GPUSHARE_LAB_RUN={value}"):
        host.run_dir()


def test_missing_programs_are_named_by_package() -> None:
    programs = {"sh": "dash", "no-such-program": "the-package", "no-other-program": "the-package"}
    assert host.missing_packages(programs) == ["the-package"]
