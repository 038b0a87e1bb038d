"""docs/install.md, word by word, on a cluster that has nothing of the project: from the package to a clean host."""

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.lab.cluster import GPUSHARE, Cluster, until
from tests.lab.guide import BLOCKS, do, follow

NODES = ("n1", "n2")
SOURCE = "/usr/src/slurm-gpushare"
# What a host has of files, without what packages and daemons keep for themselves.
LOOKED_AT = ("/etc", "/opt", "/usr/lib", "/usr/bin", "/usr/sbin", "/usr/local", "/usr/share")
# dpkg removes an empty /opt
NOT_OURS = r"/opt|/etc/gpushare(/gpushare\.yaml)?|/etc/apt/.*|.*\.pyc|.*/__pycache__|/etc/ld\.so\.cache"


def _bare(name: str, slurm: str) -> Iterator[Cluster]:
    name += os.environ.get("PYTEST_XDIST_WORKER", "")
    down = [GPUSHARE, "lab", "down", "--name", name]
    subprocess.run(down, capture_output=True, check=False)
    try:
        up = [GPUSHARE, "lab", "up", "--bare", "--clients", "1", "--name", name, "--slurm", slurm]
        done = subprocess.run(up, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(f"lab up --bare: {done.stdout}\n{done.stderr}", pytrace=False)
        yield Cluster(name)
    finally:
        subprocess.run(down, capture_output=True, check=False)


@pytest.fixture(scope="module")
def bare_cluster() -> Iterator[Cluster]:
    """A site with Slurm 24.11, and nothing of the project."""
    yield from _bare("testbare", "24.11")


@pytest.fixture(scope="module")
def new_bare_cluster() -> Iterator[Cluster]:
    """The same with Slurm 26.05."""
    yield from _bare("testbare26", "26.05")


def _files(lab: Cluster) -> dict[str, str]:
    """Return every file, link and folder that matters, with its mode and what is in it."""
    find = (
        f"find {' '.join(LOOKED_AT)} -printf '%p\\t%M %u:%g %l\\n'; find /etc /usr/local -type f -exec sha256sum {{}} +"
    )
    found: dict[str, str] = {}
    for line in lab.out("sh", "-c", find, timeout=120).splitlines():
        if "\t" in line:
            path, value = line.split("\t")
        else:
            value, path = line.split(maxsplit=1)
        if not re.fullmatch(NOT_OURS, path):
            found[path] = found.get(path, "") + value
    return found


def _config(lab: Cluster) -> str:
    """Return what Slurm says of its configuration, without what differs from one asking to the next."""
    shown = lab.out("scontrol", "show", "config") + lab.out("scontrol", "show", "partition")
    nodes = lab.out("sinfo", "-hN", "-o", "%N %G %T %P")
    return re.sub(r"(?m)^(Configuration data as of|BOOT_TIME|NEXT_JOB_ID|HASH_VAL|SLURMCTLD_PID).*$", "", shown) + nodes


def _submit(lab: Cluster, share: str, *lines: str) -> int:
    return lab.sbatch("alice", f"--gres=gpu:{share}", "--output=%j.out", script=lab.script("alice", *lines))


def _ready(lab: Cluster) -> None:
    def idle() -> bool:
        states = lab.out("sinfo", "-hN", "-o", "%t", check=False).split()
        return len(states) == 3 and set(states) <= {"idle", "mix", "alloc"}

    until("all nodes answer", idle)


def _recorded(lab: Cluster, job: int) -> dict:
    """Wait until the report has the job with what was measured of it."""

    def found() -> dict | None:
        rows = [row for row in lab.report() if row["job_id"] == job]
        return rows[0] if rows and rows[0]["quality"] not in (None, "unknown") else None

    return until(f"job {job} in the report", found)


# Of the package that was built, one of a later version.
LATER = r"""
cd /usr/src/slurm-gpushare/dist
init=/tmp/later/opt/gpushare/lib/python*/site-packages/slurm_gpushare/__init__.py
dpkg-deb -R slurm-gpushare_*.deb /tmp/later
rm slurm-gpushare_*.deb
sed -i 's/^Version: .*+/Version: 9.0.0+/' /tmp/later/DEBIAN/control
sed -i 's/^__version__ = .*/__version__ = "9.0.0"/' $init
dpkg-deb -Znone -b /tmp/later .
rm -r /tmp/later
"""


def _verify_units(lab: Cluster) -> None:
    """Let systemd itself read our units; what Slurm's and munge's have to say is not ours."""
    units = lab.out("sh", "-c", "ls /usr/lib/systemd/system/gpushare-*").split()
    assert len(units) >= 10
    done = lab.run("systemd-analyze", "verify", "--man=no", *units, check=False)
    assert [line for line in done.stderr.splitlines() if "gpushare" in line] == []


def _look_on(lab: Cluster) -> None:
    """Step 6: until then whole GPUs are given as before, by Slurm's own shards too, and no share is."""
    for own in ("gpu:1", "shard:25"):
        assert "0" in lab.out("srun", f"--gres={own}", "printenv", "CUDA_VISIBLE_DEVICES", user="alice")
    for ours in ("--gres=gpu:0.25", "--gpu-share=0.25"):
        no = lab.run("sbatch", ours, "--wrap=true", user="alice", check=False)
        assert no.returncode != 0 and "shares of GPUs are not given to this partition and account yet" in no.stderr
    said = follow(lab, "6.")
    # Both shares would have been given, and the shards that Slurm gave by their own name would not.
    assert re.search(r"2 +grant +partition gpu", said) and re.search(r"1 +refuse +request", said), said


@pytest.mark.parametrize("name", ["bare_cluster", "new_bare_cluster"], ids=["24.11", "26.05"])
def test_the_guide_from_the_package_to_a_clean_host(name: str, request: pytest.FixtureRequest) -> None:
    lab: Cluster = request.getfixturevalue(name)
    files, config = _files(lab), _config(lab)
    assert not any("gpushare" in path for path in files)

    for step in ("1.", "2.", "3.", "4.", "5."):
        follow(lab, step)
    _ready(lab)
    _verify_units(lab)
    assert lab.read("/usr/share/bash-completion/completions/gpushare")
    _look_on(lab)
    said = follow(lab, "7.")
    assert "GPU 0" in said
    first = max(lab.report(), key=lambda row: row["job_id"])
    assert (first["user"], first["backend"], first["fraction"]) == ("alice", "shard", 0.25)
    assert first["state"] == "COMPLETED"

    # An upgrade under a running and a pending job.
    running = _submit(lab, "0.75", 'until [ -e "$HOME/go" ]; do sleep 0.2; done')
    lab.wait_running(running)
    pending = lab.sbatch(
        "alice", "--gres=gpu:0.5", f"--dependency=afterany:{running}", script=lab.script("alice", "sleep 3")
    )
    lab.run("bash", "-e", stdin=LATER)
    follow(lab, "Upgrade")
    assert "9.0.0" in lab.out("gpushare", "--version")
    lab.run("touch", "/home/alice/go", user="alice")
    assert (lab.wait(running), lab.wait(pending)) == ("COMPLETED", "COMPLETED")
    assert (_recorded(lab, running)["fraction"], _recorded(lab, pending)["fraction"]) == (0.75, 0.5)

    # While Slurm's configuration names it, the package stays.
    refused = lab.run("apt-get", "purge", "-y", "slurm-gpushare", check=False)
    assert refused.returncode != 0 and "/etc/slurm/plugstack.conf still names slurm-gpushare" in refused.stdout
    assert lab.run("test", "-x", "/opt/gpushare/libexec/gpushare-prolog").returncode == 0

    last = _submit(lab, "0.5", "sleep 4")
    lab.wait_running(last)
    follow(lab, "Disable")
    no = lab.run("sbatch", "--gres=gpu:0.5", "--wrap=true", user="alice", check=False)
    assert no.returncode != 0 and "gpushare: gpu:0.5: shares of GPUs are not given here at present" in no.stderr
    assert lab.out("srun", "--gres=gpu:1", "printenv", "CUDA_VISIBLE_DEVICES", user="alice") in ("0", "1")
    assert lab.wait(last) == "COMPLETED"
    assert _recorded(lab, last)["fraction"] == 0.5

    follow(lab, "Remove")
    _ready(lab)
    after = _files(lab)
    assert {path for path in after if path not in files} == set()
    assert {path for path, value in files.items() if after.get(path) != value} == set()
    assert _config(lab) == config
    assert lab.out("srun", "--gres=gpu:1", "printenv", "CUDA_VISIBLE_DEVICES", user="alice") == "0"


def test_make_install_and_uninstall(bare_cluster: Cluster) -> None:
    lab = bare_cluster
    lab.run("rm", "-rf", "/etc/gpushare")
    files, config = _files(lab), _config(lab)
    install, uninstall = [block for block in BLOCKS if block.host == "on every host, by make"]
    # A site's own files stay as they are.
    lab.run("sh", "-c", "echo 'function slurm_job_submit() return 0 end' >/etc/slurm/job_submit.lua")
    do(lab, install, NODES)
    assert lab.read("/etc/slurm/job_submit.lua") == "function slurm_job_submit() return 0 end\n"
    assert lab.run("sh", "-c", "cat /etc/slurm/cli_filter.lua /etc/gpushare/gpushare.yaml", check=False).stdout == ""
    lab.run("sh", "-c", "echo 'function slurm_job_modify() return 0 end' >>/etc/slurm/job_submit.lua")
    for step in ("3.", "4.", "5."):
        follow(lab, step)
    _ready(lab)
    follow(lab, "6.")
    job = _submit(lab, "0.25", "sleep 3")
    assert lab.wait(job) == "COMPLETED"
    assert _recorded(lab, job)["fraction"] == 0.25

    refused = lab.run("make", "-C", SOURCE, "uninstall", check=False)
    assert refused.returncode != 0 and "/etc/slurm/slurm.conf still names slurm-gpushare" in refused.stderr
    do(lab, next(block for block in BLOCKS if block.section == "Remove" and block.host == "on the controller"), NODES)
    assert lab.read("/etc/slurm/job_submit.lua").count("function slurm_job_") == 2
    lab.run("rm", "/etc/slurm/job_submit.lua")
    do(lab, uninstall, NODES)
    _ready(lab)
    after = _files(lab)
    assert {path for path in {*after, *files} if after.get(path) != files.get(path)} == set()
    assert _config(lab) == config
