"""The door to Slurm's commands, over small programs of that name."""

from pathlib import Path

import pytest

from slurm_gpushare.slurm.command import SlurmError, run_slurm


@pytest.fixture
def program(tmp_path: Path):
    def make(body: str) -> list[str]:
        path = tmp_path / "sacct"
        path.write_text("#!/bin/sh\n" + body)
        path.chmod(0o755)
        return [str(path)]

    return make


def test_environment_is_made_here(program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACCT_FORMAT", "JobID")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("SLURM_CONF", "/x/slurm.conf")
    told = run_slurm([*program('echo "$TZ|$SLURM_TIME_FORMAT|$LC_ALL|$SACCT_FORMAT|$SLURM_CONF|$1"'), "a b;c"], 10)
    assert told == "UTC|%s|C||/x/slurm.conf|a b;c\n"


def test_failures_are_one_line(program) -> None:
    with pytest.raises(SlurmError, match="status 3: slurmdbd is away"):
        run_slurm(program("echo first >&2; echo slurmdbd is away >&2; exit 3"), 10)
    with pytest.raises(SlurmError, match=r"no answer within 0\.2 s"):
        run_slurm(program("exec sleep 60"), 0.2)
    with pytest.raises(SlurmError, match="no-such-program: not found"):
        run_slurm(["no-such-program"], 10)
