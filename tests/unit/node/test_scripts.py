"""The files in etc/ that slurmd, the plugin and the container runtime start."""

import os
import subprocess
from pathlib import Path

import pytest

from slurm_gpushare import paths
from slurm_gpushare.container.runtime import SHIELD, SHIELDED

ETC = Path(__file__).parents[3] / "etc"

PYTHON = "#!/bin/sh\necho python $*\nexit 4\n"


@pytest.fixture
def run(tmp_path):
    """Run prolog or epilog with another Python and another runtime folder in it."""
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)

    def start(name, environment):
        text = (ETC / "slurm" / name).read_text()
        assert paths.PYTHON in text and paths.RUN_DIR in text
        text = text.replace(paths.PYTHON, str(tmp_path / "python")).replace(paths.RUN_DIR, str(tmp_path / "run"))
        result = subprocess.run(
            ["/bin/sh", "-c", text, name],
            env={"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1", **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.stderr == ""
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
    assert run("prolog", environment) == (0, "")


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
    assert run("prolog", environment) == (4, "python -I -m slurm_gpushare.node.prolog\n")


def test_what_an_earlier_run_left_is_seen_to(run, tmp_path):
    (tmp_path / "run/n1/jobs/7").mkdir(parents=True)
    assert run("prolog", {}) == (4, "python -I -m slurm_gpushare.node.prolog\n")
    assert run("prolog", {"SLURM_JOB_ID": "77"}) == (0, "")
    assert run("prolog", {"SLURMD_NODENAME": "n2"}) == (0, "")


def test_the_end_of_a_job_without_a_folder_costs_no_python(run, tmp_path):
    assert run("epilog", {"SLURM_JOB_GPUS": "0"}) == (0, "")
    (tmp_path / "run/n1/jobs/7").mkdir(parents=True)
    assert run("epilog", {}) == (4, "python -I -m slurm_gpushare.node.epilog\n")


def test_the_plugin_is_required_and_finds_the_launcher():
    (line,) = [line for line in (ETC / "slurm/plugstack.conf").read_text().splitlines() if line[:1] not in ("", "#")]
    assert line.split() == ["required", "gpushare.so", f"launcher={paths.LAUNCHER}", f"run_dir={paths.RUN_DIR}"]


def test_the_launchers_first_line_is_the_installed_python():
    lines = (ETC / "libexec/gpushare-launch").read_text().splitlines()
    assert lines[0] == f"#!{paths.PYTHON} -IS"
    assert Path(SHIELD).parent == Path(paths.LAUNCHER).parent


@pytest.mark.parametrize(
    "name", ["slurm/prolog", "slurm/epilog", "libexec/gpushare-launch", "libexec/shield/squashfuse_ll"]
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
