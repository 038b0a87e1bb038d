"""The pool's client within the image, and the image within the client: the program sees its share, and ends alike."""

from collections.abc import Iterator

import pytest

from tests.lab.cluster import Cluster, until

IMAGE = "/data/images/digits.sif"
FOLDER = "/data/images/debian-python"
POLICY = "/etc/gpushare/gpushare.yaml"
POOL = ("-pbitfusion", "--gres=gpu:0.25")
LOAD = "gpu-workload --gpu 0 --sm 20 --memory {}G --seconds {}"
WITHIN = 'test -n "$APPTAINER_CONTAINER" || { echo "on the host"; exit 99; }'


@pytest.fixture(scope="module", params=["inside", "outside"])
def order(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[str]:
    """The policy with each order in force, and as it was afterwards."""
    before = cluster.read(POLICY)
    line = "    licence: bitfusion\n"
    assert before.count(line) == 1
    cluster.run("tee", POLICY, stdin=before.replace(line, f"{line}    client: {request.param}\n"))
    cluster.run("gpushare", "policy", "compile")
    yield request.param
    cluster.run("tee", POLICY, stdin=before)
    cluster.run("gpushare", "policy", "compile")


@pytest.fixture
def batch(cluster: Cluster, order: str):
    """Submit alice's script in a container with a quarter of a GPU; return the job and a reader of its output."""

    def submit(*lines: str, image: str = IMAGE, options: tuple[str, ...] = ()):
        script = cluster.script("alice", WITHIN, *lines)
        job = cluster.sbatch(
            "alice", *POOL, *options, f"--container-image={image}", "-o/home/alice/order-%j.out", script=script
        )
        return job, lambda: cluster.read(f"/home/alice/order-{job}.out")

    return submit


def ended(cluster: Cluster, job: int) -> str:
    """Return the exit code of a job at its end, of which the pool must be free."""
    cluster.wait(job)
    assert not cluster.allocations()
    return cluster.sacct(job, "ExitCode")[0]["ExitCode"]


@pytest.mark.parametrize("image", [IMAGE, FOLDER])
def test_a_batch_script_sees_its_share_and_ends_with_its_own_status(cluster: Cluster, batch, image: str) -> None:
    job, output = batch(LOAD.format(2, 4), "echo load $?", "echo TMPDIR=$TMPDIR", "exit 7", image=image)
    assert ended(cluster, job) == "7:0", output()
    assert "load 0\nTMPDIR=/tmp\n" in output()
    assert "ERROR" not in output() and "WARNING" not in output()
    line = next(line for line in cluster.report() if line["job_id"] == job)
    assert (line["quality"], line["memory_peak_bytes"]) == ("measured", 2 * 1024**3)
    assert 0 < line["gpu_seconds_used"] <= 0.2 * 6


def test_the_order_is_the_policys(cluster: Cluster, order: str, batch) -> None:
    job, output = batch("echo ready", "exec sleep 600")
    until("the script", lambda: "ready" in output())
    words = [argv.split() for _, argv in cluster.processes(job).values()]
    client = next(argv for argv in words if argv[0] == "/usr/bin/bitfusion")
    # In the first order the runtime's own process has become the image's first, which starts the client.
    assert any(word.endswith("apptainer") for word in client) == (order == "outside")
    cluster.run("scancel", str(job))
    cluster.wait(job)


def test_of_what_the_client_sets_all_is_in_the_container_and_of_the_host_nothing(cluster: Cluster, order: str) -> None:
    told = cluster.run(
        "env",
        "LD_LIBRARY_PATH=/host/lib",
        "APPTAINERENV_MINE=1",
        *("srun", *POOL, f"--container-image={IMAGE}", "env"),
        user="alice",
    )
    seen = dict(line.split("=", 1) for line in told.stdout.splitlines() if "=" in line)
    libraries = seen["LD_LIBRARY_PATH"].split(":")
    assert libraries[0].endswith("/bitfusion//lib/nvml") and "" not in libraries
    assert "/host/lib" not in libraries
    assert seen["BF_ADAPTOR_RDMA"] == "1" and seen["MINE"] == "1"
    assert "ERROR" not in told.stderr and "WARNING" not in told.stderr


@pytest.mark.parametrize("command, status", [("exit 5", 5), ("kill -TERM $$", 143), ("kill -KILL $$", 137)])
def test_srun_ends_as_its_program_does(cluster: Cluster, order: str, command: str, status: int) -> None:
    load = f"{WITHIN}; {LOAD.format(2, 1)} || exit 98; {command}"
    done = cluster.run(
        "srun", *POOL, f"--container-image={IMAGE}", "sh", "-c", load, user="alice", check=False, timeout=120
    )
    assert done.returncode == status, done.stderr


def test_a_signal_reaches_the_batch_script(cluster: Cluster, batch) -> None:
    # A signal to the batch script alone is one to its first process, which passes it on.
    job, output = batch("trap 'echo caught; exit 3' USR1", "echo ready", "while :; do sleep 0.2; done")
    until("the script", lambda: "ready" in output())
    cluster.run("scancel", "-b", "-s", "USR1", str(job))
    assert ended(cluster, job) == "3:0", output()
    assert "caught" in output()


def test_a_script_may_clean_up_at_scancel(cluster: Cluster, batch) -> None:
    # Its image is a file: it must stay readable until the script has ended.
    trap = "trap 'date >/dev/null && echo trapped; exit 9' TERM"
    job, output = batch(trap, "echo ready", "while :; do sleep 0.2; done")
    until("the script", lambda: "ready" in output())
    cluster.run("scancel", str(job))
    ended(cluster, job)
    assert "trapped" in output() and "Bus error" not in output()
    assert not cluster.processes(job)


def test_tasks_of_a_job_share_its_allocation(cluster: Cluster, order: str) -> None:
    before = cluster.granted()
    options = (*POOL, "-n2", f"--container-image={IMAGE}", "--container-scope=tasks")
    # Both in a quarter of 16 GiB, each in a container of its own.
    script = cluster.script("alice", f"exec srun -n2 sh -c '{WITHIN.replace(chr(39), chr(34))}; {LOAD.format(1, 1)}'")
    job = cluster.sbatch("alice", *options, "-o/home/alice/order-%j.out", script=script)
    assert ended(cluster, job) == "0:0", cluster.read(f"/home/alice/order-{job}.out")
    assert cluster.granted() == before + 1
