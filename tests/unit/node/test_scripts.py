"""The files in etc/ that slurmd, the plugin and the container runtime start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_gpushare import paths
from slurm_gpushare.container.runtime import SHIELD, SHIELDED

ETC = Path(__file__).parents[3] / "etc"

HOOK = f"{paths.PREFIX}/libexec/gpushare-hook"

PYTHON = "#!/bin/sh\necho python $*\nexit 4\n"


@pytest.fixture
def run(tmp_path):
    """Run a script of etc/ with another Python and other folders in it."""
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)

    def start(name, environment, *arguments):
        text = (ETC / name).read_text()
        assert paths.PYTHON in text and paths.RUN_DIR in text and paths.NODE_STATE_DIR in text
        text = text.replace(paths.PYTHON, str(tmp_path / "python")).replace(paths.RUN_DIR, str(tmp_path / "run"))
        text = text.replace(paths.NODE_STATE_DIR, str(tmp_path / "state"))
        result = subprocess.run(
            ["/bin/sh", "-c", text, name, *arguments],
            env={"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1", "PATH": "/nosuch", **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.stderr in ("", "Killed\n", "Killed\nKilled\n")  # the shell's own word on a child
        return result.returncode, result.stdout

    return start


OPTION = "SPANK__SLURM_SPANK_OPTION_gpushare_"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_JOB_EXTRA": "the user's own; $(words) `id`"},
        {"SLURM_JOB_EXTRA": ' {"v":1}'},
        {"SLURM_JOB_GPUS": ""},
        {OPTION + "container_scope": "job"},
    ],
)
def test_a_job_that_asks_for_nothing_costs_no_python(run, environment):
    assert run("slurm/prolog", environment) == (0, "")


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_JOB_EXTRA": '{"v":1,"backend":"bitfusion"}'},
        {"SLURM_JOB_GPUS": "0"},
        {OPTION + "container_image": "/i/$(id) 'a\n*.sif"},
        {OPTION + "container_mounts": "/a:/b"},
        {OPTION + "dataset": "digits"},
    ],
)
def test_any_other_job_does(run, environment):
    assert run("slurm/prolog", environment) == (4, f"python -IS {HOOK} prolog\n")


def test_what_an_earlier_run_left_is_seen_to(run, tmp_path):
    (tmp_path / "run/n1/jobs/7").mkdir(parents=True)
    assert run("slurm/prolog", {}) == (4, f"python -IS {HOOK} prolog\n")
    assert run("slurm/prolog", {"SLURM_JOB_ID": "77"}) == (0, "")
    assert run("slurm/prolog", {"SLURMD_NODENAME": "n2"}) == (0, "")


def test_the_end_of_a_job_without_a_folder_costs_no_python(run, tmp_path):
    assert run("slurm/epilog", {"SLURM_JOB_GPUS": "0"}) == (0, "")
    (tmp_path / "run/n1/jobs/7").mkdir(parents=True)
    assert run("slurm/epilog", {}) == (4, f"python -IS {HOOK} epilog\n")
    assert os.listdir(tmp_path / "run/n1/jobs/7") == ["ended"]


@pytest.mark.parametrize("name", ["prolog", "epilog"])
def test_what_a_reboot_left_on_disk_is_seen_to(run, tmp_path, name):
    (tmp_path / "state/n1/jobs/7").mkdir(parents=True)
    assert run(f"slurm/{name}", {}) == (4, f"python -IS {HOOK} {name}\n")
    assert run(f"slurm/{name}", {"SLURM_JOB_ID": "77"}) == (0, "")


def test_an_epilog_that_is_killed_is_run_once_more_and_does_not_drain_the_node(run, tmp_path):
    (tmp_path / "run/n1/jobs/7").mkdir(parents=True)
    (tmp_path / "python").write_text(
        f"#!/bin/sh\necho again\n[ -e {tmp_path}/second ] && exit 0\n/usr/bin/touch {tmp_path}/second; kill -9 $$\n"
    )
    assert run("slurm/epilog", {}) == (0, "again\nagain\n")
    (tmp_path / "python").write_text("#!/bin/sh\necho again\nkill -9 $$\n")
    assert run("slurm/epilog", {}) == (0, "again\nagain\n")
    (tmp_path / "python").write_text("#!/bin/sh\nexit 1\n")
    assert run("slurm/epilog", {}) == (1, "")


def test_the_sweep_starts_python_only_where_something_is_left(run, tmp_path):
    assert run("libexec/gpushare-sweep", {}) == (0, "")
    (tmp_path / "state/n1/jobs/7").mkdir(parents=True)
    (tmp_path / "run/n1/jobs/7").mkdir(parents=True)
    (tmp_path / "run/n1/jobs/7/launch.json").touch()
    assert run("libexec/gpushare-sweep", {}) == run("libexec/gpushare-sweep", {}, "n1") == (0, "")
    (tmp_path / "run/n1/jobs/7/ended").touch()
    assert run("libexec/gpushare-sweep", {}) == (4, "python -I -m slurm_gpushare.node.sweep\n")
    assert run("libexec/gpushare-sweep", {}, "n1") == (4, "python -I -m slurm_gpushare.node.sweep n1\n")
    assert run("libexec/gpushare-sweep", {}, "n2") == (0, "")
    (tmp_path / "run/n1/jobs/7/ended").unlink()
    (tmp_path / "state/n1/jobs/6.left.1").mkdir()
    assert run("libexec/gpushare-sweep", {}, "n1") == (4, "python -I -m slurm_gpushare.node.sweep n1\n")


def test_the_sweep_comes_before_slurmd():
    unit = (ETC / "systemd/gpushare-sweep.service").read_text().splitlines()
    assert "Before=slurmd.service" in unit
    assert f"ExecStart={Path(paths.LAUNCHER).parent}/gpushare-sweep" in unit


def test_the_plugin_is_required_and_finds_the_launcher():
    (line,) = [line for line in (ETC / "slurm/plugstack.conf").read_text().splitlines() if line[:1] not in ("", "#")]
    assert line.split() == ["required", "gpushare.so", f"launcher={paths.LAUNCHER}", f"run_dir={paths.RUN_DIR}"]


@pytest.mark.parametrize("name", ["prolog", "epilog"])
def test_prolog_and_epilog_import_little(name):
    code = (
        f"import sys; sys.path.insert(0, {str(ETC.parent)!r}); import slurm_gpushare.node.{name}\n"
        "from slurm_gpushare import launch\n"
        "launch.record_to_json(launch.LaunchRecord(7, 1001, 1001, 'alice', 'n1', 'lab', 1.0, None))\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, check=True, text=True)
    # Each of these costs every job some milliseconds.
    costly = {"collections", "enum", "functools", "json", "re", "selectors", "signal", "socket", "subprocess", "typing"}
    assert not costly & set(done.stdout.split())


@pytest.mark.parametrize("name", ["gpushare-launch", "gpushare-hook"])
def test_the_first_line_is_the_installed_python(name):
    lines = (ETC / "libexec" / name).read_text().splitlines()
    assert lines[0] == f"#!{paths.PYTHON} -IS"
    assert Path(SHIELD).parent == Path(paths.LAUNCHER).parent


@pytest.mark.parametrize(
    "name",
    [
        "slurm/prolog",
        "slurm/epilog",
        "libexec/gpushare-launch",
        "libexec/gpushare-hook",
        "libexec/gpushare-sweep",
        "libexec/shield/squashfuse_ll",
    ],
)
def test_programs_can_be_executed(name):
    assert os.access(ETC / name, os.X_OK)


def test_the_shield_bears_sigterm_and_says_whose_it_is(tmp_path):
    helper = tmp_path / "real"
    helper.write_text('#!/bin/sh\nkill -TERM $$\necho "alive $GPUSHARE_HELPER $*"\n')
    helper.chmod(0o755)
    text = (ETC / "libexec/shield/squashfuse_ll").read_text()
    assert SHIELDED in text
    shield = tmp_path / "squashfuse_ll"
    shield.write_text(text.replace(SHIELDED, str(helper)))
    shield.chmod(0o755)
    link = tmp_path / "work/shield/squashfuse_ll"
    link.parent.mkdir(parents=True)
    link.symlink_to(shield)
    result = subprocess.run([str(link), "-f", "a b"], capture_output=True, text=True, check=True)
    assert result.stdout == f"alive {link} -f a b\n"
