import os
import signal
import subprocess

import pytest

from slurm_gpushare.node.job import Job
from slurm_gpushare.node.processes import belongs, kill_left

JOB = Job(7, 1001, 1001, "alice", "n1", "lab-test-processes")
WORK = "/run/gpushare/n1/jobs/7/work"
OURS = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1", "SLURM_CLUSTER_NAME": JOB.cluster}


def environ(variables):
    return b"".join(f"{name}={value}".encode() + b"\0" for name, value in variables.items())


@pytest.mark.parametrize(
    "variables, ours",
    [
        (OURS, True),
        ({**OURS, "X": "SLURM_JOB_ID=8"}, True),
        ({**OURS, "SLURM_JOB_ID": "77"}, False),
        ({**OURS, "SLURM_JOB_ID": "07"}, False),
        ({**OURS, "SLURMD_NODENAME": "n2"}, False),
        ({**OURS, "SLURM_CLUSTER_NAME": "other"}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_CLUSTER_NAME": JOB.cluster}, False),
        ({"XSLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1", "SLURM_CLUSTER_NAME": JOB.cluster}, False),
        ({"GPUSHARE_HELPER": f"{WORK}/shield/squashfuse_ll"}, True),
        ({"GPUSHARE_HELPER": "/run/gpushare/n1/jobs/77/work/shield/squashfuse_ll"}, False),
        ({}, False),
    ],
)
def test_belongs(variables, ours):
    assert belongs(environ(variables), JOB, WORK) is ours


def test_where_slurmd_names_no_cluster_none_is_needed():
    without = {name: value for name, value in OURS.items() if name != "SLURM_CLUSTER_NAME"}
    assert belongs(environ(without), JOB._replace(cluster=""), WORK) is True


@pytest.fixture
def start():
    if os.geteuid() != 0:
        pytest.skip("needs root to start processes of another user")
    started = []

    def run(environment, uid=1001, script="echo up; sleep 600 & wait"):
        process = subprocess.Popen(
            ["/bin/sh", "-c", script],
            env={"PATH": "/usr/bin:/bin", **environment},
            user=uid,
            group=uid,
            extra_groups=[],
            cwd="/",
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout.readline() == b"up\n"
        return process

    yield run
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        process.stdout.close()


def test_only_the_jobs_own_processes_are_killed(start):
    ours = start(OURS)
    others = [
        start(OURS, uid=1002),
        start({**OURS, "SLURM_JOB_ID": "8"}),
        start({**OURS, "SLURMD_NODENAME": "n2"}),
        start({"SLURM_JOB_ID": "7"}),
    ]
    assert kill_left(JOB, WORK, 30) is True
    assert ours.wait(30) == -signal.SIGKILL
    assert ours.stdout.read() == b""  # its child, which held the pipe, is gone as well
    assert [process.poll() for process in others] == [None] * len(others)


def test_what_ignores_signals_is_killed(start):
    ours = start(OURS, script="trap '' TERM INT HUP; echo up; while :; do sleep 1; done")
    assert kill_left(JOB, WORK, 30) is True
    assert ours.wait(30) == -signal.SIGKILL


def test_roots_own_job_is_left_since_epilog_itself_looks_like_it(start):
    process = start(OURS, uid=0)
    assert kill_left(JOB._replace(uid=0), WORK, 30) is True
    assert process.poll() is None


def test_nothing_left_is_no_error():
    assert kill_left(JOB._replace(job_id=4294967295), WORK) is True
