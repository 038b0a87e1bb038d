"""The small scripts of packaging/, and what a package must never do."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGING = ROOT / "packaging"


def run(*argv: object) -> subprocess.CompletedProcess:
    return subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)


@pytest.fixture
def slurm(tmp_path: Path) -> Path:
    """A site's /etc/slurm, which names nothing of ours."""
    (tmp_path / "slurm.conf").write_text("JobSubmitPlugins=lua\n# Prolog=/opt/gpushare/libexec/gpushare-prolog\n")
    (tmp_path / "job_submit.lua").write_text('-- dofile("/etc/slurm/gpushare/job_submit.lua")\nreturn\n')
    return tmp_path


def test_nothing_of_ours_is_named(slurm: Path) -> None:
    done = run(PACKAGING / "in-use.sh", "/opt/gpushare", slurm)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("slurm.conf", "Prolog=/opt/gpushare/libexec/gpushare-prolog"),
        ("plugstack.conf", "required gpushare.so prefix=gpushare-"),
        ("job_submit.lua", 'dofile("/etc/slurm/gpushare/job_submit.lua")'),
        ("cli_filter.lua", 'dofile("/etc/slurm/gpushare/cli_filter.lua")'),
        ("prolog.d/10-site", "exec /opt/gpushare/libexec/gpushare-prolog"),
    ],
)
def test_what_names_ours_is_told_by_file(slurm: Path, name: str, line: str) -> None:
    (slurm / name).parent.mkdir(exist_ok=True)
    with open(slurm / name, "a") as stream:
        stream.write(line + "\n")
    done = run(PACKAGING / "in-use.sh", "/opt/gpushare", slurm)
    assert done.returncode == 1
    assert done.stderr.startswith(f"gpushare: {slurm / name} still names slurm-gpushare: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("number", "version"), [("0x180b05", "24.11"), ("0x1a0500", "26.05")])
def test_the_version_of_slurm_is_its_headers(tmp_path: Path, number: str, version: str) -> None:
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm/slurm_version.h").write_text(f"#define SLURM_VERSION_NUMBER {number}\n")
    assert run(PACKAGING / "slurm-version.sh", tmp_path).stdout == version + "\n"


def test_no_headers_no_version(tmp_path: Path) -> None:
    done = run(PACKAGING / "slurm-version.sh", tmp_path)
    assert done.returncode == 1 and "install libslurm-dev" in done.stderr


def test_a_prefix_with_files_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    done = run(PACKAGING / "venv.sh", "python3", "", tmp_path, "")
    assert done.returncode == 1
    assert f"PREFIX={tmp_path} holds files of others: write a folder of its own" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


@pytest.mark.parametrize("name", ["deb/postinst", "deb/prerm", "deb/postrm", "rpm/slurm-gpushare.spec"])
def test_no_package_starts_or_enables_a_unit(name: str) -> None:
    verbs = re.findall(r"systemctl ([a-z-]+)", (PACKAGING / name).read_text())
    assert set(verbs) <= {"daemon-reload", "try-restart", "disable"}


def test_every_daemon_is_started_anew_by_an_upgrade() -> None:
    daemons = {path.name for path in (ROOT / "etc/systemd").glob("*.service") if "Restart=always" in path.read_text()}
    for name in ("deb/postinst", "rpm/slurm-gpushare.spec"):
        text = (PACKAGING / name).read_text()
        assert daemons <= set(re.findall(r"gpushare-[a-z]+\.service", text)), name


def test_every_unit_is_of_a_program_that_is_installed() -> None:
    for path in (ROOT / "etc/systemd").glob("*.service"):
        program = re.search(r"^ExecStart=(\S+)", path.read_text(), re.M)[1]
        assert program in ("/opt/gpushare/bin/gpushare", "/opt/gpushare/libexec/gpushare-sweep"), path.name


def test_the_scripts_are_shell_without_errors() -> None:
    for path in [*PACKAGING.glob("*.sh"), *PACKAGING.glob("*/*.sh"), *PACKAGING.glob("deb/p*")]:
        done = run("sh", "-n", path)
        assert (done.returncode, done.stderr) == (0, ""), path
        assert path.stat().st_mode & 0o111, path
