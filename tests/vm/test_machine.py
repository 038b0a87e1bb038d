"""The project on a machine of its own: systemd's units, cgroups of version 2, NFS, reboots, a power cut.

The tests go on from each other, as a site's days do: installed first, removed last.
"""

import json
import re

import pytest

from tests.lab.cluster import until
from tests.lab.guide import follow
from tests.vm import site
from tests.vm.image import NODE
from tests.vm.machine import Machine

pytestmark = pytest.mark.timeout(900)  # the processor is emulated
UNITS = ("gpushare-serve", "gpushare-agent", "gpushare-sweep.timer")
IMAGE = "--container-image=/data/images/root"
DATASET = "/data/datasets/digits"
DATASETS = f"""\
datasets:
  digits: {{path: {DATASET}, target: /digits, mount_point: {DATASET}}}
  tools: {{path: /opt/tools, target: /opt/tools}}
"""
# Sent again after 2 s, and no error in the end: hard, as sites mount data.
MOUNT = f"mount -t nfs4 -o ro,hard,timeo=20,retrans=1 {site.ADDRESS}:/srv/digits {DATASET}"


def guide(machine: Machine, section: str) -> str:
    return follow(machine, section, nodes=(NODE,), timeout=300)


def srun(machine: Machine, *words: str, check: bool = True) -> str:
    """Run a quarter of a GPU as alice; returns what was printed, and said."""
    done = machine.run("srun", "--gres=gpu:0.25", *words, user="alice", check=check)
    return done.stdout + done.stderr


def load(machine: Machine, share: str, *options: str, sm: int, seconds: int) -> int:
    """Submit a job that keeps ``sm`` % of its GPU busy and holds a GiB."""
    run = f"exec /opt/tools/gpu-workload --gpu 0 --sm {sm} --memory 1G --seconds {seconds}"
    options = (f"--gres=gpu:{share}", "--no-requeue", "--output=%j.out", *options)
    return machine.sbatch("alice", *options, script=machine.script("alice", run))


def recorded(machine: Machine, job: int) -> dict:
    """Wait until what the job used is known, and return its row of the report."""

    def known() -> dict | None:
        # The service may be on its way up.
        done = machine.run("gpushare", "report", "jobs", "--format", "json", check=False)
        rows = json.loads(done.stdout) if done.returncode == 0 else []
        return next((row for row in rows if row["job_id"] == job and row["gpu_seconds_used"] is not None), None)

    return until(f"the record of job {job}", known, 120, every=1)


def healthy(machine: Machine) -> None:
    """No unit has failed, ours run, and none of them was kept from what it has to do."""
    assert machine.out("systemctl", "--failed", "--no-legend", "--plain") == ""
    assert machine.out("systemctl", "is-active", *UNITS).split() == ["active"] * len(UNITS)
    said = machine.journal("gpushare-*")
    assert not re.search(r"Traceback|denied|not permitted|Read-only|Failed", said), said


def test_the_guide_with_units_of_systemd(machine: Machine) -> None:
    for section in ("2.", "3.", "4.", "5.", "6."):
        guide(machine, section)
    site.ready(machine)
    said = guide(machine, "7.")
    assert "GPU 0" in said and re.search(r"gpu:0.25 +1 +0.25 +COMPLETED .* measured", said), said
    healthy(machine)
    checks = json.loads(machine.out("gpushare", "doctor", "--format", "json"))
    assert [check for check in checks if check["status"] == "fail"] == []
    machine.run("systemctl", "start", "gpushare-policy", "gpushare-policy.timer")
    until("the sweep's timer", lambda: "gpushare-sweep.timer" in machine.out("systemctl", "list-timers"))


def test_a_job_reaches_its_own_gpu_alone(machine: Machine) -> None:
    said = srun(machine, "sh", "-c", "cat /proc/self/cgroup; cat /dev/nvidia0; cat /dev/nvidia1; :")
    assert re.search(r"^0::/system.slice/\S*slurmstepd.scope/\S+/step_0/user/task_0$", said, re.M), said
    # There is no driver behind the device, and none of the job's behind the other.
    assert "/dev/nvidia0: No such device or address" in said
    assert "/dev/nvidia1: Operation not permitted" in said


def test_processes_of_two_jobs_on_one_gpu_are_told_apart(machine: Machine) -> None:
    machine.run("install", "-D", "-t", "/opt/tools", "/usr/bin/gpu-workload")
    machine.run("sh", "-ec", "cat >>/etc/gpushare/gpushare.yaml; gpushare policy compile", stdin=DATASETS)
    inside = load(machine, "0.25", IMAGE, "--dataset=tools", sm=20, seconds=20)
    outside = load(machine, "0.5", sm=40, seconds=20)
    for job, fraction, sm in ((inside, 0.25, 0.2), (outside, 0.5, 0.4)):
        assert machine.wait(job, 120) == "COMPLETED", machine.read(f"/home/alice/{job}.out")
        row = recorded(machine, job)
        assert (row["fraction"], row["memory_peak_bytes"]) == (fraction, 1 << 30)
        assert row["gpu_seconds_used"] == pytest.approx(20 * sm, rel=0.2)


def test_datasets_of_a_server_of_nfs(machine: Machine) -> None:
    read = (IMAGE, "--dataset=digits", "cat", "/digits/a")
    machine.run("mkdir", "-p", DATASET, "/srv/digits")
    machine.put("/srv/digits/a", "one\n")
    machine.put("/etc/exports", "/srv/digits *(ro,fsid=1,no_subtree_check)\n")
    machine.run("systemctl", "restart", "nfs-server")
    assert f"nothing is mounted at '{DATASET}'" in srun(machine, *read, check=False)
    machine.run("sh", "-c", MOUNT)
    assert srun(machine, *read).startswith("one\n")

    # A server that is away: the task says so and goes on when it is back.
    machine.run("sh", "-c", "systemctl stop nfs-server; echo 3 >/proc/sys/vm/drop_caches")
    job = machine.sbatch("alice", "--gres=gpu:0.25", "--output=%j.out", *read[:2], script="#!/bin/sh\ncat /digits/a\n")
    waits = f"'{DATASET}' has not answered on {NODE} for 20 s: waiting for its file server"
    until("the task's line", lambda: waits in machine.read(f"/home/alice/{job}.out"), 90, every=1)
    machine.run("systemctl", "start", "nfs-server")
    assert machine.wait(job, 120) == "COMPLETED"
    assert machine.read(f"/home/alice/{job}.out").endswith("\none\n")

    # One whose folder is another: the handle is stale.
    another = "exportfs -u '*:/srv/digits'; mv /srv/digits /srv/old; mkdir /srv/digits; exportfs -ra; exportfs -f"
    machine.run("sh", "-c", f"{another}; echo 3 >/proc/sys/vm/drop_caches")
    assert f"'{DATASET}': Stale file handle on this node" in srun(machine, *read, check=False)
    machine.run("umount", "-f", DATASET)


def test_an_agent_that_dies_is_started_anew_and_counts_on(machine: Machine) -> None:
    job = load(machine, "0.25", sm=20, seconds=30)
    machine.wait_running(job, 60)
    until("a sample", lambda: "20%" in machine.out("gpushare", "status"), 60, every=1)
    machine.run("systemctl", "kill", "--signal=KILL", "gpushare-agent")
    assert machine.wait(job, 120) == "COMPLETED"
    assert recorded(machine, job)["gpu_seconds_used"] == pytest.approx(30 * 0.2, rel=0.35)
    assert f"taken up again: job {job}" in machine.journal("gpushare-agent")


@pytest.mark.parametrize("way", ["reboot", "power_cut"])
def test_what_a_job_used_outlives_its_node(machine: Machine, way: str) -> None:
    job = load(machine, "0.5", sm=40, seconds=300)
    machine.wait_running(job, 60)
    until("a sample", lambda: "40%" in machine.out("gpushare", "status"), 60, every=1)
    until("some use", lambda: live(machine, job) > 1, 60, every=1)
    getattr(machine, way)()
    row = recorded(machine, job)
    assert row["gpu_seconds_used"] > 1
    healthy(machine)
    # What the job had left was given back before slurmd was there to take another.
    assert machine.out("ls", f"/var/lib/gpushare-node/{NODE}/jobs") == ""
    assert when(machine, "gpushare-sweep", f"job {job}: what it had left is given back") < when(machine, "slurmd")
    # slurmctld, which was away as well, looks for the job when slurmd registers again.
    machine.run("sh", "-c", "sleep 12; systemctl restart slurmd")
    assert machine.wait(job, 120) == "NODE_FAIL"
    site.ready(machine)
    srun(machine, "true")


def when(machine: Machine, unit: str, text: str = "") -> int:
    """Return when a unit first said a line with ``text``, in microseconds of this boot."""
    lines = machine.out("journalctl", "--boot", "--output=json", "--unit", unit).splitlines()
    return next(int(line["__MONOTONIC_TIMESTAMP"]) for line in map(json.loads, lines) if text in line["MESSAGE"])


def live(machine: Machine, job: int) -> float:
    """Return the GPU-seconds that a running job has used so far."""
    found = re.search(r"so far ([0-9.]+) GPU-s", machine.out("gpushare", "report", "job", str(job), check=False))
    return float(found[1]) if found else 0.0


def test_disabled_and_removed(machine: Machine) -> None:
    job = load(machine, "0.5", sm=40, seconds=20)
    machine.wait_running(job, 60)
    guide(machine, "Upgrade")  # the same package: dpkg exchanges all files under the job
    guide(machine, "Disable")
    refused = srun(machine, "true", check=False)
    assert "shares of GPUs are not given here at present" in refused
    assert machine.wait(job, 120) == "COMPLETED"
    assert recorded(machine, job)["fraction"] == 0.5
    guide(machine, "Remove")
    site.ready(machine)
    assert machine.out("systemctl", "list-unit-files", "--no-legend", "gpushare*", check=False) == ""
    assert machine.out("systemctl", "--failed", "--no-legend", "--plain") == ""
    assert machine.out("pgrep", "-fa", "/opt/gpushare", check=False) == ""
    assert machine.out("srun", "--gres=gpu:1", "printenv", "CUDA_VISIBLE_DEVICES", user="alice") == "0"
