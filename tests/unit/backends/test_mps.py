"""MPS on a node: folders, daemons, the first job and the last, over a control program that keeps a log."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from slurm_gpushare import paths
from slurm_gpushare.backends import mps, mps_control
from slurm_gpushare.errors import BackendError, BrokenInstallation
from slurm_gpushare.grant import Grant
from slurm_gpushare.launch import LaunchRecord
from slurm_gpushare.node import gpus as door
from slurm_gpushare.node_policy import BackendPolicy

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="what root does needs root")

UUID = "GPU-01234567-89ab-cdef-0123-456789abcdef"
NODE = "n1"
# Runs as long as its pid file is there; `quit` takes it away, as it ends the original.
CONTROL = """#!/bin/sh
pid="$CUDA_MPS_PIPE_DIRECTORY/pid"
if [ $# -gt 0 ]; then
    echo "$* $CUDA_VISIBLE_DEVICES" >>LOG
    [ -e "$pid" ] && exit 1
    touch "$pid"
    exit 0
fi
read -r line
[ -e "$pid" ] || { echo "Cannot find MPS control daemon process"; exit 1; }
case "$line" in
    get_*) echo 100.0 ;;
    quit*) echo "$line" >>LOG; rm "$pid" ;;
    set_*) echo "$line" >>LOG ;;
    *) exit 1 ;;
esac
"""


@pytest.fixture
def node(tmp_path, monkeypatch, request):
    """A node with one GPU; returns a function that reads what the control program was told."""
    log, program = tmp_path / "log", tmp_path / "control"
    run = Path(tempfile.mkdtemp())  # sockets have short paths
    request.addfinalizer(lambda: shutil.rmtree(run))
    program.write_text(CONTROL.replace("LOG", str(log)))
    program.chmod(0o755)
    run.chmod(0o755)
    gpu = door.Gpu(uuid=UUID, compute_mode=0)
    monkeypatch.setattr(door, "read_gpus", lambda: door.Gpus(driver=580, by_number={0: gpu}))
    monkeypatch.setattr(mps, "run", lambda *words, **say: mps_control.run(*words, **say, program=str(program)))
    monkeypatch.setattr(paths, "node_dir", lambda node: str(run / node))
    monkeypatch.setattr(paths, "job_dir", lambda node, job: str(run / node / "jobs" / str(job)))
    return lambda: log.read_text().splitlines() if log.exists() else []


def begin(job=1, uid=1001, number=0, memory=4 << 30, **policy):
    os.makedirs(paths.job_dir(NODE, job), exist_ok=True)
    grant = Grant("mps", 1, 0.25, 25, memory, 1, "partition mps", "gpu:0.25", "")
    record = LaunchRecord(job, uid, uid, "alice", NODE, "lab", 0.0, grant, gpus=(number,))
    return mps.begin(record, BackendPolicy(**policy), {})


def daemons():
    return sorted(os.listdir(os.path.join(paths.node_dir(NODE), "mps")))


def test_the_last_job_out_ends_the_daemon(node):
    for job in (1, 2, 2):
        options = begin(job)
    for job in (1, 1, 9):
        mps.finish(job, NODE, BackendPolicy())
        assert daemons() == [UUID]
    mps.finish(2, NODE, BackendPolicy())
    assert daemons() == []
    assert node() == [f"-d {UUID}", mps.QUIT]
    folder = os.path.join(paths.node_dir(NODE), "mps", UUID)
    assert options["binds"] == [folder + "/pipe", folder + "/log"]
    assert options["environment"] == {
        "CUDA_MPS_PIPE_DIRECTORY": folder + "/pipe",
        "CUDA_MPS_LOG_DIRECTORY": folder + "/log",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "25",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"{UUID}=4096M",
        "CUDA_VISIBLE_DEVICES": UUID,
    }
    assert options["enforces"] == mps.ENFORCES


def test_a_daemon_that_died_and_a_job_that_is_gone_are_in_nobodys_way(node):
    begin(1)
    folder = os.path.join(paths.node_dir(NODE), "mps", UUID)
    os.unlink(folder + "/pipe/pid")
    open(folder + "/pipe/control", "w").close()
    shutil.rmtree(paths.job_dir(NODE, 1))
    begin(2)
    assert node() == [f"-d {UUID}"] * 2
    assert os.listdir(folder + "/pipe") == ["pid"]
    assert os.listdir(folder + "/jobs") == ["2"]


def test_each_user_has_a_daemon_that_no_other_user_reaches(node):
    begin(1, uid=1001, users="time_sliced")
    begin(2, uid=1002, users="time_sliced")
    assert daemons() == [f"{UUID}-1001", f"{UUID}-1002"]
    for uid in (1001, 1002):
        pipe = os.path.join(paths.node_dir(NODE), "mps", f"{UUID}-1001", "pipe")
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(1001)
            os.setuid(uid)
            os._exit(0 if os.access(pipe, os.R_OK | os.X_OK) and not os.access(pipe, os.W_OK) else 1)
        reached = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert reached == (uid == 1001)


def test_one_fraction_is_the_daemons_default(node, monkeypatch):
    options = begin(fraction=0.25, gpu_memory=16 << 30, users="multiuser")
    assert node() == [
        f"-d -multiuser-server {UUID}",
        "set_default_active_thread_percentage 25",
        f"set_default_device_pinned_mem_limit {UUID} 4096M",
    ]
    assert options["enforces"] == mps.ENFORCES
    gpu = door.Gpu(uuid=UUID, compute_mode=door.EXCLUSIVE_PROCESS)
    monkeypatch.setattr(door, "read_gpus", lambda: door.Gpus(driver=580, by_number={0: gpu}))
    assert begin(fraction=0.25)["enforces"] == mps.ONE_FRACTION


def test_an_unknown_amount_of_memory_is_no_limit(node):
    options = begin(memory=None)
    assert "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT" not in options["environment"]
    assert options["enforces"]["memory"] == "none"


def test_what_cannot_be_is_one_line(node, monkeypatch):
    with pytest.raises(BrokenInstallation, match="GPU 3"):
        begin(number=3)
    monkeypatch.setattr(mps, "run", lambda *words, say="": (1, "no"))
    with pytest.raises(BackendError, match="did not start"):
        begin()


def test_a_folder_of_somebody_elses_is_not_believed(node):
    os.makedirs(os.path.join(paths.node_dir(NODE), "mps"))
    os.chown(os.path.join(paths.node_dir(NODE), "mps"), 1001, 1001)
    with pytest.raises(BrokenInstallation, match="not root's"):
        begin()


def test_nothing_to_finish_is_well(node):
    mps.finish(1, NODE, BackendPolicy())
    assert node() == []
