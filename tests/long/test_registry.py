"""Images out of a registry, by docker:// and oras://: a real one, Debian's docker-registry, on the lab's loopback."""

import json
from collections.abc import Iterator

import pytest

from tests.lab.cluster import Cluster, until
from tests.lab.up import lab_up
from tests.long.registry import GUARDED, HOST, LOGIN, Registry

SIF = "/data/images/digits.sif"
POLICY = "/etc/gpushare/gpushare.yaml"
ALLOWED = (
    *(f"{scheme}://{host}/group" for scheme in ("docker", "oras") for host in (HOST, GUARDED)),
    f"docker://{HOST}/tools/one:*",
)
TINY = f"docker://{HOST}/group/tiny:1"
DIGITS = f"oras://{HOST}/group/digits:1"
# Apptainer finds out by itself that a registry at localhost speaks plain HTTP for oras://. For docker:// the site says
# so, in the file that all tools for such registries read.
INSECURE = f'[[registry]]\nlocation = "{HOST}"\ninsecure = true\n'
REGISTRIES = "/etc/containers/registries.conf"
LOGGED_IN = tuple(f"APPTAINER_DOCKER_{name}={word}" for name, word in zip(("USERNAME", "PASSWORD"), LOGIN, strict=True))


@pytest.fixture(scope="module")
def registry_cluster() -> Iterator[Cluster]:
    """A lab of its own, whose policy allows some of a registry's images."""
    yield from lab_up("testregistry")


@pytest.fixture(scope="module")
def registry(registry_cluster: Cluster) -> Iterator[Registry]:
    """The registry, with one image for each kind of source."""
    lab = registry_cluster
    before = lab.read(POLICY)
    assert before.count("    - /data/images\n") == 1
    lines = "".join(f"    - {source}\n" for source in ALLOWED)
    lab.run("tee", POLICY, stdin=before.replace("    - /data/images\n", "    - /data/images\n" + lines))
    lab.run("gpushare", "policy", "compile")
    lab.run("sh", "-c", f"mkdir -p $(dirname {REGISTRIES}) && cat >{REGISTRIES}", stdin=INSECURE)
    found = Registry(lab)
    try:
        found.trust(True)
        found.start()
        for name in ("group/tiny", "other/tiny", "tools/one", "tools/one-more"):
            found.push_tiny(name, "1", name)
        found.push_sif(SIF, f"{HOST}/group/digits:1")
        found.push_sif(SIF, f"{GUARDED}/group/digits:1", *LOGGED_IN)
        yield found
    finally:
        found.stop()
        lab.run("rm", "-f", REGISTRIES)
        lab.run("tee", POLICY, stdin=before)
        lab.run("gpushare", "policy", "compile")


@pytest.fixture
def lab(registry_cluster: Cluster, registry: Registry) -> Cluster:
    """The lab; alice has fetched nothing yet."""
    registry_cluster.run("rm", "-rf", "/home/alice/.apptainer", user="alice")
    return registry_cluster


def srun(lab: Cluster, image: str, *words: str, env: tuple[str, ...] = ()):
    """Run a step of alice's in ``image``; ``env`` are variables that she sets before."""
    return lab.run("env", *env, "srun", f"--container-image={image}", *words, user="alice", check=False, timeout=120)


@pytest.mark.parametrize(
    ("image", "look", "seen"),
    [
        (TINY, "cat /etc/mark; echo $FROM_IMAGE", "group/tiny\nyes\n"),
        (f"docker://{HOST}/tools/one:1", "cat /etc/mark", "tools/one\n"),
        (DIGITS, "ls /opt", "digits\n"),
    ],
)
def test_an_image_of_a_registry_runs(lab: Cluster, image: str, look: str, seen: str) -> None:
    done = srun(lab, image, "sh", "-c", look)
    assert (done.returncode, done.stdout) == (0, seen), done.stderr


@pytest.mark.parametrize("image", [TINY, DIGITS])
def test_tasks_that_fetch_it_at_once(lab: Cluster, image: str) -> None:
    done = srun(lab, image, "-N2", "-n4", "--overcommit", "sh", "-c", "echo RAN")
    assert (done.returncode, done.stdout) == (0, "RAN\n" * 4), done.stderr


def test_a_batch_job_with_a_share_and_what_its_records_say_of_the_image(lab: Cluster) -> None:
    """The source as it was asked for, and no path or inode that were not looked at."""
    script = lab.script("alice", "cat /etc/mark", "while ! test -e go; do :; done")
    lab.run("rm", "-f", "/home/alice/go", user="alice")
    options = ("--gres=gpu:0.25", f"--container-image={TINY}", "-D/home/alice", "-o/home/alice/batch.out")
    job = lab.sbatch("alice", *options, script=script)
    until("the job's first line", lambda: lab.read("/home/alice/batch.out"), 60)
    node = lab.job(job)["NodeList"]
    record = json.loads(lab.out("cat", f"/run/gpushare/{node}/jobs/{job}/launch.json", node=node))
    assert record["container"]["image"] == TINY and "image" not in record["options"]
    lab.run("touch", "/home/alice/go", user="alice")
    assert lab.wait(job) == "COMPLETED"
    assert lab.read("/home/alice/batch.out") == "group/tiny\n"
    (row,) = until("its record", lambda: [row for row in lab.report() if row["job_id"] == job and row["image"]])
    assert row["image"] == TINY


@pytest.mark.parametrize(
    "image",
    [
        f"docker://{HOST}/other/tiny:1",
        f"docker://{HOST}/tools/one-more:1",
        f"docker://{HOST}/group/../other/tiny:1",
        f"oras://{HOST}/other/tiny:1",
        f"docker://{GUARDED}/tools/one:1",
        f"library://{HOST}/group/tiny:1",
    ],
)
def test_outside_the_policy_nothing_is_fetched(lab: Cluster, image: str) -> None:
    """Neither at submission nor, for a step, which job_submit never sees, on the node."""
    done = srun(lab, image, "echo", "RAN")
    lines = [line for line in done.stderr.splitlines() if "gpushare: " in line]
    assert done.returncode == 1 and len(lines) == 1 and image in lines[0] and "RAN" not in done.stdout
    step = f"srun --container-image={image} echo RAN"
    done = lab.run("salloc", "-n1", "sh", "-c", step, user="alice", check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("gpushare: ")]
    assert done.returncode == 77 and len(lines) == 1 and image in lines[0] and "RAN" not in done.stdout
    assert lab.run("ls", "/home/alice/.apptainer/cache", check=False).returncode != 0


@pytest.mark.parametrize("image", [TINY, DIGITS])
@pytest.mark.parametrize("other", ["none:1", "tiny:none"])
def test_a_name_that_the_registry_does_not_have(lab: Cluster, image: str, other: str) -> None:
    image = image.rpartition("/")[0] + "/" + other
    done = srun(lab, image, "echo", "RAN")
    lines = [line for line in done.stderr.splitlines() if not line.startswith("srun: ")]
    assert done.returncode == 255 and "RAN" not in done.stdout, done
    assert len(lines) == 1 and lines[0].startswith("FATAL:") and image in lines[0] and "manifest unknown" in lines[0]


def test_no_variable_of_the_users_makes_a_registry_be_asked_without_tls(lab: Cluster) -> None:
    """Whether one may be is the site's word."""
    lab.run("mv", REGISTRIES, REGISTRIES + ".off")
    try:
        done = srun(lab, TINY, "echo", "RAN", env=("APPTAINER_NOHTTPS=1", "SINGULARITY_NOHTTPS=1"))
    finally:
        lab.run("mv", REGISTRIES + ".off", REGISTRIES)
    assert done.returncode == 255 and "RAN" not in done.stdout and "HTTPS client" in done.stderr


def test_a_tag_may_become_another_image_and_a_digest_may_not(lab: Cluster, registry: Registry) -> None:
    first = registry.push_tiny("group/moving", "1", "first")
    tag, pinned = f"docker://{HOST}/group/moving:1", f"docker://{HOST}/group/moving@{first}"
    assert srun(lab, tag, "cat", "/etc/mark").stdout == "first\n"
    registry.push_tiny("group/moving", "1", "second")
    assert srun(lab, tag, "cat", "/etc/mark").stdout == "second\n"
    assert srun(lab, pinned, "cat", "/etc/mark").stdout == "first\n"


@pytest.mark.parametrize(
    ("image", "look", "seen", "why"),
    [
        (f"docker://{GUARDED}/group/tiny:1", "cat /etc/mark", "group/tiny", "authentication required"),
        (f"oras://{GUARDED}/group/digits:1", "ls /opt", "digits", "unauthorized"),
    ],
)
def test_a_registry_that_asks_for_a_login(lab: Cluster, image: str, look: str, seen: str, why: str) -> None:
    done = srun(lab, image, "sh", "-c", f"{look}; echo ${{APPTAINER_DOCKER_PASSWORD-none}}", env=LOGGED_IN)
    assert (done.returncode, done.stdout) == (0, f"{seen}\nnone\n"), done
    lab.run("rm", "-rf", "/home/alice/.apptainer", user="alice")
    for env in ((), (LOGGED_IN[0], LOGGED_IN[1] + "x")):
        done = srun(lab, image, "echo", "RAN", env=env)
        assert done.returncode == 255 and "RAN" not in done.stdout, done
        assert why in done.stderr.lower() and "secret" not in done.stderr


@pytest.mark.parametrize("image", [f"docker://{GUARDED}/group/tiny:1", f"oras://{GUARDED}/group/digits:1"])
def test_a_certificate_that_the_hosts_do_not_know(lab: Cluster, registry: Registry, image: str) -> None:
    registry.trust(False)
    try:
        done = srun(lab, image, "echo", "RAN")
    finally:
        registry.trust(True)
    assert done.returncode == 255 and "RAN" not in done.stdout, done
    assert "certificate signed by unknown authority" in done.stderr


@pytest.mark.parametrize("image", [TINY, DIGITS])
def test_a_batch_script_hears_of_its_end(lab: Cluster, image: str) -> None:
    """What was fetched is an image file, under which the end's signal must not take its file system away."""
    lines = ["trap 'cat /bin/sh >/dev/null && echo trapped; exit 9' TERM", "echo ready"]
    script = lab.script("alice", *lines, "while :; do :; done")
    options = (f"--container-image={image}", "-D/home/alice", "-o/home/alice/trap.out")
    lab.run("rm", "-f", "/home/alice/trap.out", user="alice")
    job = lab.sbatch("alice", *options, script=script)
    until("the job's first line", lambda: "ready" in lab.read("/home/alice/trap.out"), 60)
    lab.run("scancel", str(job), user="alice")
    lab.wait(job)
    assert "trapped" in lab.read("/home/alice/trap.out").splitlines()
