"""The pool's token: found where the client reads it, and nowhere that a job, Slurm or gpushare writes."""

import re
from collections.abc import Iterator

import pytest

from tests.lab.cluster import Cluster, until

SITE = "/etc/bitfusion/client.yaml"
POOL = ("-pbitfusion", "--gres=gpu:0.25")
IMAGE = "--container-image=/data/images/debian-python"
# Everything that is written in a lab: configuration, logs, spools, stores, homes, the runtime folders.
FOLDERS = ("/etc", "/var", "/run", "/home", "/root", "/tmp", "/dev/shm", "/opt/gpushare")
# The client's own files: the site's, and the copy with its id in it that it makes for each user. And the servers'.
OWN = re.compile(rf"{SITE}|/(home/\w+|root)/\.bitfusion/client\.yaml[.\w]*|/etc/lab/.+")
LOOK = "echo ready; exec gpu-workload --gpu 0 --sm 5 --memory 1G --seconds 600"


@pytest.fixture(scope="module")
def token(cluster: Cluster) -> str:
    """The token of the lab's pool."""
    return re.search(r"token: (\w{16,})", cluster.read(SITE))[1]


@pytest.fixture
def jobs(cluster: Cluster) -> Iterator[dict[int, str]]:
    """A batch script and a step, each on the host and in a container, all running; job → its output."""
    running = {}
    for place in ((), (IMAGE,)):
        job = cluster.sbatch("alice", *POOL, *place, "-o/home/alice/token-%j", script=cluster.script("alice", LOOK))
        running[job] = f"/home/alice/token-{job}"
        task = f"exec srun sh -c '{LOOK}'"
        scope = (*place, "--container-scope=tasks") if place else ()
        job = cluster.sbatch("bob", *POOL, *scope, "-o/home/bob/token-%j", script=cluster.script("bob", task))
        running[job] = f"/home/bob/token-{job}"
    for job, output in running.items():
        until(f"job {job}", lambda path=output: "ready" in cluster.read(path), 60)
    yield running
    cluster.run("scancel", *map(str, running))
    for job in running:
        cluster.wait(job)


def with_text(cluster: Cluster, text: str, paths: str, node: str | None = None) -> list[str]:
    """Return the files of the lab in which ``text`` stands; it goes in by stdin, so the search has it in no argv."""
    # The lab has a second /proc below /run.
    command = f"LC_ALL=C exec grep -rlsF -D skip --exclude-dir=proc -f - {paths}"
    return cluster.run("sh", "-c", command, node=node, check=False, stdin=text + "\n").stdout.split()


PROCESSES = "/proc/[0-9]*/cmdline /proc/[0-9]*/environ"


def test_the_token_is_in_no_process_and_in_no_file_but_the_clients(
    cluster: Cluster, jobs: dict[int, str], token: str
) -> None:
    for job in jobs:
        # The same search finds what is there.
        seen = with_text(cluster, f"SLURM_JOB_ID={job}", PROCESSES)
        assert any(path.endswith("/environ") for path in seen)
    assert with_text(cluster, "gpu-workload", PROCESSES)
    assert with_text(cluster, token, PROCESSES) == []
    found = with_text(cluster, token, " ".join(FOLDERS))
    assert SITE in found
    assert [path for path in found if not OWN.fullmatch(path)] == []
    for node in {cluster.job(job)["BatchHost"] for job in jobs}:
        assert [path for path in with_text(cluster, token, "/run /dev/shm /tmp", node) if not OWN.fullmatch(path)] == []
    for path in found:
        mode = int(cluster.out("stat", "-c", "%a", path), 8)
        assert mode & 0o027 == 0, f"{path}: {mode:o}"


def test_the_token_is_in_nothing_that_slurm_tells(cluster: Cluster, jobs: dict[int, str], token: str) -> None:
    job = str(next(iter(jobs)))
    told = cluster.out("scontrol", "-o", "show", "job", job) + cluster.out("scontrol", "show", "step", job)
    told += cluster.out("scontrol", "write", "batch_script", job, "-")
    told += cluster.out("sacct", "-P", "-j", job, "-o", "ALL")
    assert "gpu-workload" in told and f"JobId={job}" in told
    assert token not in told


def test_nothing_of_it_is_left_when_the_jobs_have_ended(cluster: Cluster, token: str) -> None:
    script = cluster.script("alice", "gpu-workload --gpu 0 --sm 20 --memory 1G --seconds 3")
    job = cluster.sbatch("alice", *POOL, IMAGE, "-o/home/alice/token-%j", script=script)
    assert cluster.wait(job) == "COMPLETED"
    # Its record has reached the store of the service, and its end the database of Slurm.
    until("its record", lambda: [line for line in cluster.report() if line["job_id"] == job])
    found = with_text(cluster, token, " ".join(FOLDERS))
    assert SITE in found
    assert [path for path in found if not OWN.fullmatch(path)] == []


def test_the_sites_token_is_the_groups(cluster: Cluster, token: str) -> None:
    assert cluster.out("stat", "-c", "%a %U:%G", SITE) == "640 root:bitfusion"
    nobody = ("setpriv", "--reuid=1002", "--regid=1002", "--clear-groups", "cat", SITE)
    refused = cluster.run(*nobody, check=False)
    assert refused.returncode != 0 and "Permission denied" in refused.stderr


@pytest.fixture
def without_site_token(cluster: Cluster) -> Iterator[None]:
    """A site that gives each user a token: nobody may read the common one, and bob has none yet."""
    cluster.run("chmod", "600", SITE)
    cluster.run("chgrp", "root", SITE)
    cluster.run("rm", "-rf", "/home/bob/.bitfusion")
    yield
    cluster.run("chgrp", "bitfusion", SITE)
    cluster.run("chmod", "640", SITE)
    cluster.run("rm", "-rf", "/home/bob/.bitfusion")


@pytest.mark.parametrize("place", [(), (IMAGE,)])
def test_a_token_by_user_serves_on_the_host_and_in_a_container(
    cluster: Cluster, without_site_token: None, token: str, place: tuple[str, ...]
) -> None:
    load = ("srun", *POOL, *place, "gpu-workload", "--gpu", "0", "--sm", "5", "--memory", "1G", "--seconds", "1")
    refused = cluster.run(*load, user="bob", check=False, timeout=120)
    assert refused.returncode == 77
    assert f"gpushare: you may not use the Bitfusion pool: {SITE}" in refused.stderr
    own = "/home/bob/.bitfusion/client.yaml"
    cluster.run("install", "-d", "-o", "bob", "-g", "bob", "-m", "700", "/home/bob/.bitfusion")
    cluster.run("install", "-o", "bob", "-g", "bob", "-m", "600", SITE, own)
    cluster.run(*load, user="bob", timeout=120)
    assert cluster.out("stat", "-c", "%a %U", own) == "600 bob"
