"""The door to nvidia-cuda-mps-control: what a program that answers, fails, hangs or is not there becomes."""

import pytest

from slurm_gpushare.backends import mps_control
from slurm_gpushare.errors import BackendError, BrokenInstallation


def program(folder, text):
    path = folder / "control"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def test_a_line_goes_in_and_the_answer_comes_out(tmp_path):
    settings = mps_control.environment("/f", "GPU-1")
    path = program(tmp_path, 'echo "$1 $CUDA_MPS_PIPE_DIRECTORY $CUDA_VISIBLE_DEVICES $(cat)"; exit 3')
    assert mps_control.run(settings, "-x", say="quit", program=path) == (3, "-x /f/pipe GPU-1 quit")


@pytest.mark.parametrize("text", ["exec sleep 60", "sleep 60"])
def test_a_program_that_hangs_is_one_line(tmp_path, monkeypatch, text):
    monkeypatch.setattr(mps_control, "PATIENCE", 0.5)
    with pytest.raises(BackendError, match="hangs"):
        mps_control.run(mps_control.environment("/f", "GPU-1"), say="ps", program=program(tmp_path, text))


def test_what_a_daemon_keeps_open_is_not_waited_for(tmp_path):
    path = program(tmp_path, "sleep 60 &\necho started")
    assert mps_control.run(mps_control.environment("/f", "GPU-1"), "-d", program=path) == (0, "started")


def test_no_program_is_one_line(tmp_path):
    with pytest.raises(BrokenInstallation, match="install"):
        mps_control.run({}, "-d", program=str(tmp_path / "none"))
