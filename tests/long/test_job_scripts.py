"""The job scripts that come with the project are submitted as they stand, and do what they say."""

import re

import pytest

from tests.lab.cluster import Cluster, until

SCRIPTS = "/usr/src/slurm-gpushare/job_scripts"
FOLDER = "/home/alice/scripts"
# Prints the status and the body of an answer.
ASK = """import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=30)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode())"""
LONG = 600  # seconds: TensorFlow starts on what processors this machine has
pytestmark = pytest.mark.timeout(3 * LONG)  # the first one builds the image
ACCURACY = re.compile(r"^Accuracy @ 1 = (\d\.\d+)", re.MULTILINE)


@pytest.fixture(scope="module")
def lab(tensorflow_cluster: Cluster) -> Cluster:
    """The lab, with a folder of alice's that jobs are submitted in."""
    tensorflow_cluster.run("mkdir", "-p", FOLDER, user="alice")
    return tensorflow_cluster


def submit(lab: Cluster, script: str, *words: str) -> int:
    """Submit a job script without an option for sbatch, and return the job's id."""
    command = 'cd "$1" && shift && exec sbatch --parsable "$@"'
    return int(lab.out("sh", "-c", command, "-", FOLDER, f"{SCRIPTS}/{script}.sbatch", *words, user="alice"))


@pytest.mark.parametrize(("script", "given"), [("fraction", "gres/shard=25"), ("whole", "gres/gpu=1")])
def test_one_network(lab: Cluster, script: str, given: str) -> None:
    job = submit(lab, script)
    assert lab.wait(job, LONG) == "COMPLETED", lab.read(f"{FOLDER}/slurm-{job}.out")
    text = lab.read(f"{FOLDER}/slurm-{job}.out")
    assert re.search(r"^total images/sec: \d+\.\d\d$", text, re.MULTILINE)
    assert float(ACCURACY.search(text)[1]) > 0.8
    assert given in lab.sacct(job, "AllocTRES")[0]["AllocTRES"].split(",")


def test_arguments_go_to_the_benchmark(lab: Cluster) -> None:
    job = submit(lab, "whole", "--model=alexnet", "--num_batches=2", "--batch_size=2")
    assert lab.wait(job, LONG) == "COMPLETED", lab.read(f"{FOLDER}/slurm-{job}.out")
    assert "alexnet" in lab.read(f"{FOLDER}/slurm-{job}.out")


def test_three_tasks_with_a_quarter_each(lab: Cluster) -> None:
    job = submit(lab, "fractions")
    assert lab.wait(job, LONG) == "COMPLETED", lab.read(f"{FOLDER}/slurm-{job}.out")
    text = lab.read(f"{FOLDER}/slurm-{job}.out")
    assert sorted(re.findall(r"^(\d): total images/sec: ", text, re.MULTILINE)) == ["0", "1", "2"]
    sizes = dict(re.findall(r"^(\d): Batch size: +(\d+)", text, re.MULTILINE))
    assert sizes == {"0": "16", "1": "32", "2": "64"}


def test_an_array_of_four(lab: Cluster) -> None:
    folder = f"{FOLDER}/sweep"
    lab.run("mkdir", "-p", folder, user="alice")
    # As its head says.
    command = 'cd "$1" && sbatch --wait "$2" && grep Accuracy slurm-*.out'
    found = lab.out("sh", "-c", command, "-", folder, f"{SCRIPTS}/sweep.sbatch", user="alice", timeout=LONG)
    accuracies = re.findall(r"_([0-3])\.out:Accuracy @ 1 = (\d\.\d+)", found)
    assert sorted(task for task, _ in accuracies) == ["0", "1", "2", "3"]
    assert len({accuracy for _, accuracy in accuracies}) > 1  # they tried different rates


def test_jupyter_on_a_quarter(lab: Cluster) -> None:
    job = submit(lab, "jupyter")
    try:
        output = f"{FOLDER}/slurm-{job}.out"
        pattern = re.compile(r"http://127\.0\.0\.1:(\d+)/lab\?token=([0-9a-f]+)")
        port, token = until("Jupyter's token", lambda: pattern.search(lab.read(output)), LONG).groups()
        node = lab.job(job)["NodeList"]
        # What a user types on their own machine leads there.
        assert f"ssh -N -L {port}:{node}:{port} LOGIN-NODE" in lab.read(output)

        def ask(query: str) -> str:
            url = f"http://{node}:{port}/api/kernels{query}"
            return lab.out("/opt/gpushare/bin/python3", "-c", ASK, url, check=False)

        until("its answer", lambda: ask(f"?token={token}") == "200 []", 60)
        assert ask("").startswith("403 ")
    finally:
        lab.run("scancel", str(job), user="alice")
    assert lab.wait(job) == "CANCELLED"


def test_a_framework_keeps_to_its_share(lab: Cluster) -> None:
    lab.run("cp", "-R", SCRIPTS, FOLDER, user="alice")
    command = f'cd {FOLDER} && exec sbatch --parsable --container-image="$1" job_scripts/share.sbatch "$2"'
    job = int(lab.out("sh", "-c", command, "-", "/data/images/tensorflow.sif", "tensorflow", user="alice"))
    assert lab.wait(job, LONG) == "COMPLETED", lab.read(f"{FOLDER}/slurm-{job}.out")
    assert "TensorFlow: " in lab.read(f"{FOLDER}/slurm-{job}.out")
