import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.metrics.jobs import (
    STEPD_TITLE,
    JobFolders,
    ProcessTracer,
    is_mps_server,
    job_from_cgroup,
    parse_stat,
)

from .records import launch, write

SLUID = "sEKNKTV3WPV500"


@pytest.mark.parametrize(
    ("text", "job"),
    [
        ("4:memory:/slurm/uid_1000/job_12/step_0/task_0\n", 12),
        ("4:devices:/slurm_n1/uid_1000/job_12/step_batch\n3:cpu:/\n", 12),
        ("0::/system.slice/slurmstepd.scope/job_12/step_0/user/task_0\n", 12),
        ("0::/system.slice/n1_slurmstepd.scope/job_12/step_extern/user/task_special\n", 12),
        (f"0::/system.slice/n1_slurmstepd.scope/{SLUID}/step_0/user/task_0\n", 5),
        (f"0::/other.slice/slurmstepd.scope/{SLUID}\n", 5),
        ("0::/system.slice/slurmstepd.scope/sEKNKTV3WPV501/step_0\n", None),
        ("0::/user.slice/user-1000.slice/session-1.scope\n", None),
        ("0::/user.slice/job_12/step_0\n", None),
        ("0::/user.slice/user-1000.slice/user@1000.service/slurmstepd.scope/job_12/step_0\n", None),
        (f"0::/user.slice/user-1000.slice/user@1000.service/x/n1_slurmstepd.scope/{SLUID}/step_0\n", None),
        ("1:memory:/user.slice/user@1000.service/slurm/uid_1/job_12/step_0\n0::/x\n", None),
        ("1:name=systemd:/user@1.service/slurm/uid_1/job_9/s\n0::/system.slice/slurmstepd.scope/job_12/step_0\n", 12),
        ("0::/kubepods.slice/cri.scope/system.slice/slurmstepd.scope/job_12/step_0\n", 12),
        ("0::/system.slice/slurmstepd.scope/job_12x/step_0\n", None),
        ("", None),
    ],
)
def test_cgroup_path_names_the_job(text, job):
    assert job_from_cgroup(text, {SLUID: 5}) == job


@given(st.text())
def test_any_cgroup_text_is_read(text):
    assert job_from_cgroup(text, {}) is None or "job_" in text


@pytest.mark.parametrize("name", [b"sh", b"a b", b") S 1 (", b"x) R 9 9"])
def test_stat_is_read_whatever_the_processes_name(name):
    rest = [b"S", b"77", *[b"0"] * 17, b"4242", b"0"]
    assert parse_stat(b"5 (" + name + b") " + b" ".join(rest)) == (77, 4242)


@pytest.mark.parametrize(
    ("title", "job"),
    [(b"slurmstepd: [12.batch]", b"12"), (b"slurmstepd: [12+1.0]\0", b"12"), (b"/usr/sbin/slurmstepd infinity", None)],
)
def test_title_of_slurmstepd(title, job):
    match = STEPD_TITLE.match(title)
    assert (match and match.group(1)) == job


def test_folders_are_read_and_what_is_wrong_is_told_once(tmp_path):
    lines = []
    folders = JobFolders(str(tmp_path / "n1" / "jobs"), lines.append)
    assert folders.scan() == {}
    write(tmp_path, launch(1))
    folder = write(tmp_path, launch(2))
    with open(os.path.join(folder, "launch.json"), "w") as stream:
        stream.write('{"v":99}')
    os.rename(write(tmp_path, launch(3)), tmp_path / "n1/jobs/4")
    os.makedirs(tmp_path / "n1/jobs/5/work")
    for _ in range(2):
        assert set(folders.scan()) == {1}
    assert len(lines) == 2 and "99" in lines[0] + lines[1] and "job 3" in lines[0] + lines[1]


def test_a_record_of_somebody_else_is_not_believed(tmp_path):
    lines = []
    os.chown(os.path.join(write(tmp_path, launch(1)), "launch.json"), 12345, 0)
    assert JobFolders(str(tmp_path / "n1" / "jobs"), lines.append).scan() == {}
    assert "12345" in lines[0]


def test_a_record_written_again_is_read_again(tmp_path):
    folders = JobFolders(str(tmp_path / "n1" / "jobs"))
    write(tmp_path, launch(1, started=1.0))
    assert folders.scan()[1].started == 1.0
    path = os.path.join(write(tmp_path, launch(1, started=22.25)), "launch.json")
    os.utime(path, ns=(1, 1))
    assert folders.scan()[1].started == 22.25


@pytest.fixture
def process():
    """Start real processes that wait; end them afterwards."""
    started = []

    def start(argv=(sys.executable, "-c", "input()"), **options):
        child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
        started.append(child)
        # Popen returns when exec has closed its pipe, which is before the kernel shows the new program's environment.
        while not Path(f"/proc/{child.pid}/environ").read_bytes():
            time.sleep(0.001)
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()


def trace(pid, records, tracer=None, **options):
    found = (tracer or ProcessTracer("n1")).trace({pid}, {record.job_id: record for record in records}, **options)
    return found[pid][1] if pid in found else "gone"


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        (b"nvidia-cuda-mps\n", True),
        (b"nvidia-cuda\n", False),
        (b"nvidia-cuda-mp2\n", False),
        (b"", False),
        (None, False),
    ],
)
def test_servers_of_mps_are_known_by_the_name_that_the_kernel_keeps(tmp_path, name, is_one):
    if name is not None:
        (tmp_path / "7").mkdir()
        (tmp_path / "7/comm").write_bytes(name)
    assert is_mps_server(7, str(tmp_path)) is is_one


def test_environment_is_believed_for_the_records_own_user(process):
    child = process(env={"SLURM_JOB_ID": "7"})
    assert trace(child.pid, [launch(7, uid=0)]) == 7
    assert trace(child.pid, [launch(7, uid=1000)]) is None
    assert trace(child.pid, [launch(8)]) is None


def test_environment_of_another_node_of_the_same_machine_is_not_ours(process):
    child = process(env={"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n2"})
    assert trace(child.pid, [launch(7)]) is None


# A process with slurmstepd's title that starts another below itself and prints its pid.
STEPD = ("slurmstepd: [7.batch]", "-c", "/bin/sleep 600 & echo $!; wait")


def test_an_ancestor_that_is_roots_slurmstepd_comes_before_the_environment(process):
    child = process(STEPD, executable="/bin/sh", env={"SLURM_JOB_ID": "8"})
    below = int(child.stdout.readline())
    try:
        assert trace(below, [launch(7), launch(8)]) == 7
    finally:
        os.kill(below, 9)


def test_a_users_process_with_slurmstepds_title_is_not_believed(process):
    child = process(STEPD, executable="/bin/sh", env={"SLURM_JOB_ID": "8"}, user=12345, cwd="/")
    below = int(child.stdout.readline())
    try:
        assert trace(below, [launch(7, uid=12345)]) is None
        assert trace(below, [launch(7), launch(8, uid=12345)]) == 8
    finally:
        os.kill(below, 9)


def test_a_process_that_ended_keeps_its_job_for_the_readings_that_are_left(process):
    tracer = ProcessTracer("n1")
    child = process(env={"SLURM_JOB_ID": "7"})
    assert trace(child.pid, [launch(7)], tracer) == 7
    child.kill()
    child.wait()
    assert trace(child.pid, [launch(7)], tracer) == 7
    tracer.trace(set(), {})
    assert trace(child.pid, [launch(7)], tracer) == "gone"


def proc_of(folder, pid, start, job):
    entry = folder / str(pid)
    entry.mkdir(exist_ok=True)
    (entry / "stat").write_text(f"{pid} (x) S 1 " + "0 " * 17 + f"{start} 0")
    (entry / "cgroup").write_text(f"0::/system.slice/slurmstepd.scope/job_{job}/step_0\n")


def test_a_pid_used_again_is_another_process(tmp_path):
    tracer = ProcessTracer("n1", str(tmp_path))
    records = [launch(7), launch(8)]
    proc_of(tmp_path, 50, 100, 7)
    assert trace(50, records, tracer) == 7
    proc_of(tmp_path, 50, 100, 8)
    assert trace(50, records, tracer) == 7  # the same process: asked once
    proc_of(tmp_path, 50, 200, 8)
    assert trace(50, records, tracer) == 8


def test_a_partial_round_forgets_nobody(tmp_path):
    tracer = ProcessTracer("n1", str(tmp_path))
    proc_of(tmp_path, 50, 100, 7)
    assert trace(50, [launch(7)], tracer) == 7
    (tmp_path / "50/stat").unlink()
    tracer.trace(set(), {}, whole=False)
    assert trace(50, [launch(7)], tracer) == 7
