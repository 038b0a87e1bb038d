"""systemd's own check of the units that ship."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from slurm_gpushare.reference.roff import manuals

FOLDER = Path(__file__).resolve().parents[2] / "etc" / "systemd"
UNITS = sorted(path for path in FOLDER.iterdir() if path.suffix != ".tmpfiles")


def test_there_is_a_unit_for_each_that_runs_always():
    services = {unit.name for unit in UNITS}
    assert {f"gpushare-{name}.service" for name in ("agent", "serve", "watch", "idle")} <= services


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_nothing_to_say(unit, tmp_path):
    for each in UNITS:
        # It asks for the programs, which are not installed here.
        text = re.sub(r"(?m)^(ExecStart=)/opt/gpushare/\S+", r"\1/bin/true", each.read_text())
        (tmp_path / each.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", tmp_path / unit.name],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.suffix == ".service"], ids=lambda unit: unit.name)
def test_a_service_starts_what_make_install_installs(unit):
    (command,) = re.findall(r"(?m)^ExecStart=(\S+)", unit.read_text())
    assert command in ("/opt/gpushare/bin/gpushare", "/opt/gpushare/libexec/gpushare-sweep")


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.suffix == ".service"], ids=lambda unit: unit.name)
def test_systemctl_status_names_a_manual_page_that_there_is(unit):
    ((name, section),) = re.findall(r"(?m)^Documentation=man:(\S+)\((\d)\)$", unit.read_text())
    assert f"{name}.{section}" in manuals()
