import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_gpushare.errors import BrokenInstallation, RefusedError
from slurm_gpushare.launch import ContainerRequest, LaunchRecord
from slurm_gpushare.node import launcher
from slurm_gpushare.node.launcher import container_of, find_program, parse_arguments
from slurm_gpushare.node.prolog import OPTION, prolog
from slurm_gpushare.node_policy import ContainerPolicy, NodePolicy

SCRIPT = Path(__file__).parents[3] / "etc/libexec/gpushare-launch"


def record(container=None):
    return LaunchRecord(7, 1001, 1001, "alice", "n1", "lab", 1.0, None, container=container)


INSIDE = "source=/opt/gpushare/libexec/inside,destination=/.gpushare,ro"
FIRST = "/.gpushare/inside"


def same(path, place=None):
    """Return the word by which the container's first program knows what is at ``path``."""
    found = os.stat(path)
    return f"{found.st_dev}:{found.st_ino}:{place or path}"


def policy():
    """The node's policy, of which the defaults of containers alone are read."""
    return NodePolicy(100, ContainerPolicy("auto", (), (), True))


def test_parse_arguments():
    argv = ["--record=/r", "--step=batch", "--container-image=/i=1", "--dataset=", "--", "cmd", "--", "-x"]
    assert parse_arguments(argv) == (
        {"record": "/r", "step": "batch", "container-image": "/i=1", "dataset": ""},
        ["cmd", "--", "-x"],
    )


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--record=/r", "--step=0"],
        ["--record=/r", "--step=0", "--"],
        ["--record=/r", "--", "cmd"],
        ["--step=0", "--", "cmd"],
        ["--record", "/r", "--step=0", "--", "cmd"],
        ["--record=/r", "--step=0", "--colour=red", "--", "cmd"],
        ["record=/r", "--step=0", "--", "cmd"],
        ["--record=/r", "--step=0", "cmd"],
    ],
)
def test_what_the_plugin_does_not_write_is_refused(argv):
    with pytest.raises(BrokenInstallation) as caught:
        parse_arguments(argv)
    assert caught.value.exit_status == 78


JOB = ContainerRequest("/job.sif", ("/a:/b",), ("digits",), "job")
TASKS = ContainerRequest("/job.sif", (), (), "tasks")


@pytest.mark.parametrize(
    "container, options, step, expected",
    [
        (None, {}, "batch", None),
        (JOB, {}, "batch", JOB),
        (JOB, {}, "0", JOB),
        (JOB, {"container-image": "/step.sif"}, "0", ContainerRequest("/step.sif", ("/a:/b",), ("digits",), "job")),
        (
            JOB,
            {"container-mounts": "/c:/d,/e:/f"},
            "0",
            ContainerRequest("/job.sif", ("/c:/d", "/e:/f"), ("digits",), "job"),
        ),
        (JOB, {"dataset": "words"}, "0", ContainerRequest("/job.sif", ("/a:/b",), ("words",), "job")),
        (TASKS, {}, "batch", None),
        (TASKS, {}, "interactive", None),
        (TASKS, {}, "0", TASKS),
        (TASKS, {"container-scope": "job"}, "batch", ContainerRequest("/job.sif", (), (), "job")),
        (None, {"container-image": "/step.sif"}, "0", ContainerRequest("/step.sif")),
        (ContainerRequest("", ("/a:/b",), (), "tasks"), {}, "batch", None),
    ],
)
def test_the_container_of_a_step(container, options, step, expected):
    assert container_of(record(container), options, step, policy) == expected


def test_without_a_record_the_options_decide():
    assert container_of(None, {"container-image": "/i"}, "0", policy) == ContainerRequest("/i")


def test_each_option_of_a_step_overrides_the_jobs():
    job = ContainerRequest("/i", workdir="/job", mount_home="no", env=("A",), writable="yes")
    assert container_of(record(job), {}, "0", policy) == job
    options = {
        "container-workdir": "/step",
        "container-mount-home": "yes",
        "container-env": "B,C",
        "container-writable": "no",
    }
    step = ContainerRequest("/i", workdir="/step", mount_home="yes", env=("B", "C"), writable="no")
    assert container_of(record(job), options, "0", policy) == step


def test_the_policys_scope_holds_where_the_job_has_none():
    tasks = NodePolicy(100, ContainerPolicy("auto", (), (), True, scope="tasks"))
    for container, step, inside in (
        (ContainerRequest("/i"), "batch", False),
        (ContainerRequest("/i"), "0", True),
        (ContainerRequest("/i", scope="job"), "batch", True),
    ):
        assert (container_of(record(container), {}, step, lambda: tasks) is not None) is inside


def test_without_a_container_the_policy_is_not_read():
    assert container_of(record(), {"container-workdir": "/x"}, "batch", None) is None


@pytest.mark.parametrize(
    "container, options",
    [
        (None, {"dataset": "digits"}),
        (None, {"container-mounts": "/a:/b"}),
        (ContainerRequest("", (), ("digits",), "job"), {}),
        (None, {"container-image": "/i", "container-scope": "node"}),
        (None, {"container-image": "/i", "container-writable": "maybe"}),
        (None, {"container-image": "/i", "container-mount-home": ""}),
    ],
)
def test_a_container_that_makes_no_sense_is_refused(container, options):
    with pytest.raises(RefusedError, match="--container-"):
        container_of(record(container), options, "0", policy)


def test_find_program(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "prog").write_text("")
    (tmp_path / "b/prog").chmod(0o755)
    path = f"{tmp_path}/a:{tmp_path}/b"
    assert find_program("prog", path) == f"{tmp_path}/b/prog"
    assert find_program("./prog", path) == "./prog"
    assert find_program("nosuch", path) == "nosuch"
    assert find_program("sh", None) == "/usr/bin/sh"


@pytest.fixture(autouse=True)
def slurms(monkeypatch):
    """What of Slurm's this node has: nothing, whatever the machine has that tests."""
    monkeypatch.setattr(launcher, "SLURMS", ("/nosuch/munge",))


@pytest.fixture
def script(node):
    """A batch script where slurmd spools it: the user's, and in a folder of root's."""
    path = node.base / "spool/slurm_script"
    path.write_text('#!/bin/sh\necho "tmpdir=${TMPDIR-unset} in $(pwd)"\nprintf "<%s>" "$@"\nexit 3\n')
    path.chmod(0o700)
    os.chown(path, 1001, 1001)
    return str(path)


@pytest.fixture
def start_job(node, slurm, pool_job):
    """Run the prolog of a job: of the pool, of a whole GPU, or of no GPU, with container options."""

    def run(kind, **options):
        environment = {"pool": pool_job, "gpu": {**slurm, "SLURM_JOB_GPUS": "0"}, "cpu": slurm}[kind]
        prolog(
            {**environment, **{OPTION + name: text for name, text in options.items()}}, 1.0, node.run_dir, node.policy
        )

    return run


def told(node, name):
    return (node.bin / name).read_text().splitlines()


def test_a_batch_script_of_the_pool_in_a_container(node, start_job, launch, script):
    start_job("pool", container_image=node.image, container_mounts=f"{node.base}/data:/mnt:ro", dataset="digits")
    home = f"{node.base}/home"
    status, output = launch.run("batch", script, "a b", "--", environment={"TMPDIR": "/tmp/u"}, cwd=home)
    assert (status, output) == (3, f"tmpdir=/tmp/u in {home}\n<a b><-->")
    client = f"{node.bin}/bitfusion"
    work = f"{node.work}"
    assert told(node, "apptainer.argv") == [
        "--quiet",
        "exec",
        "--pid",
        "--pwd",
        home,
        "--mount",
        f"type=bind,source={node.base}/data,destination=/mnt,ro",
        "--mount",
        f"type=bind,source={node.base}/data/digits,destination=/datasets/digits,ro",
        "--mount",
        f"type=bind,source={client},destination={client},ro",
        "--mount",
        f"type=bind,source={work},destination={work}",
        "--mount",
        f"type=bind,source={script},destination={script},ro",
        "--mount",
        f"type=bind,{INSIDE}",
        node.image,
        FIRST,
        *(same(f"{node.base}/data", "/mnt"), same(f"{node.base}/data/digits", "/datasets/digits"), "--"),
        *(client, "client", "--", "env", "TMPDIR=/tmp/u"),
        *(script, "a b", "--"),
    ]
    assert told(node, "bitfusion.calls") == [
        "1001 request_gpus -n 1 -p 0.25",
        f"1001 client -- env TMPDIR=/tmp/u {script} a b --",
    ]
    seen = told(node, "apptainer.env")
    assert "TMPDIR=/tmp/u" in seen and f"APPTAINERENV_TMPDIR={work}" in seen


def test_a_batch_script_of_the_pool_on_the_host(node, start_job, launch, script):
    start_job("pool")
    assert launch.run("batch", script, "x") == (3, "tmpdir=unset in /\n<x>")
    assert told(node, "bitfusion.calls") == [
        "1001 request_gpus -n 1 -p 0.25",
        f"1001 client -- env -u TMPDIR {script} x",
    ]


def test_steps_of_the_pool_share_one_allocation(node, start_job, launch):
    start_job("pool", container_image=node.image)
    tasks = [launch.start("0", "echo", "hello") for _ in range(4)]
    assert [launch.end(task) for task in tasks] == [(0, "hello\n")] * 4
    calls = told(node, "bitfusion.calls")
    assert calls.count("1001 request_gpus -n 1 -p 0.25") == 1
    assert calls.count("1001 client -- env -u TMPDIR echo hello") == 4
    assert len(calls) == 5


def test_with_the_batch_script_outside_its_steps_run_inside_in_its_allocation(node, start_job, launch, script):
    start_job("pool", container_image=node.image, container_scope="tasks")
    assert launch.run("batch", script)[0] == 3
    assert not (node.bin / "apptainer.argv").exists()
    assert launch.run("0", "echo", "x") == (0, "x\n")
    assert (node.bin / "apptainer.argv").exists()
    assert (node.bin / "bitfusion.calls").read_text().count("request_gpus") == 1


@pytest.fixture
def two_shares(node, pool_job, grant_text):
    """A job with an allocation for each of two tasks."""
    extra = grant_text(tasks=2, slices=50)
    prolog({**pool_job, "SLURM_JOB_EXTRA": extra, "SLURM_JOB_LICENSES": "bitfusion:50"}, 1.0, node.run_dir, node.policy)


def test_each_task_has_the_allocation_of_its_number(node, two_shares, launch, script):
    show = ("sh", "-c", f"cd {node.work} && ls -d */bitfusion*")
    task = {"SLURM_NODEID": "0", "SLURM_STEP_TASKS_PER_NODE": "2(x3)"}
    for number in ("1", "0", "1"):
        assert launch.run(number, *show, environment={**task, "SLURM_LOCALID": number})[0] == 0
    # Each step begins at 0 again, and so does the batch script, whatever it has in its environment.
    assert launch.run("batch", script, environment={"SLURM_LOCALID": "1"})[0] == 3
    assert launch.run("7", "true")[0] == 0
    assert sorted(path.parent.name for path in node.work.glob("*/bitfusion*")) == ["0", "1"]


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_LOCALID": "2"},
        {"SLURM_LOCALID": "999999999"},
        {"SLURM_LOCALID": "0", "SLURM_NODEID": "2", "SLURM_STEP_TASKS_PER_NODE": "2(x2),3"},
    ],
)
def test_a_step_with_more_tasks_than_the_job_has_allocations(node, two_shares, launch, variables):
    status, output = launch.run("0", "true", environment=variables)
    assert status == 77
    assert "on this node, but the job has 2 shares of GPUs here" in output and output.count("\n") == 1
    assert not (node.bin / "bitfusion.calls").exists()


@pytest.mark.parametrize(
    "node_id, text, count",
    [("0", "2(x2),3", 2), ("1", "2(x2),3", 2), ("2", "2(x2),3", 3), ("3", "2(x2),3", 0), ("x", "1", 0), ("0", "", 0)],
)
def test_tasks_here(node_id, text, count):
    assert launcher.tasks_here({"SLURM_NODEID": node_id, "SLURM_STEP_TASKS_PER_NODE": text}) == count


def test_a_forged_number_leads_to_no_other_folder(node, two_shares, launch):
    for number in ("../../x", "-1", "²", "", "00000000001"):
        assert launch.run("0", "true", environment={"SLURM_LOCALID": number})[0] == 0
    names = {name for name in os.listdir(node.work) if name != "shield"}
    assert names == {"0"}


def test_a_pool_that_cannot_be_reached(node, start_job, launch):
    start_job("pool")
    (node.bin / "unreachable").touch()
    status, output = launch.run("0", "echo", "x")
    assert status == 69
    assert output.startswith(
        "gpushare: the Bitfusion pool cannot be reached (tried for 0 s): Error: none of the servers"
    )
    assert output.count("\n") == 1


def test_a_whole_gpu_in_a_container_has_the_nodes_driver(node, start_job, launch):
    start_job("gpu", container_image=node.image)
    assert launch.run("0", "echo", "x") == (0, "x\n")
    bind = ["--mount", f"type=bind,{INSIDE}"]
    assert told(node, "apptainer.argv") == [
        *("--quiet", "exec", "--pid", "--nv", "--pwd", "/", *bind, node.image, FIRST, "--", "echo", "x")
    ]


def test_a_job_without_gpus_in_a_container(node, start_job, launch):
    start_job("cpu", container_image=node.image)
    assert launch.run("0", "echo", "x") == (0, "x\n")
    bind = ["--mount", f"type=bind,{INSIDE}"]
    assert told(node, "apptainer.argv") == [
        *("--quiet", "exec", "--pid", "--pwd", "/", *bind, node.image, FIRST, "--", "echo", "x")
    ]


def test_a_step_without_a_record_may_have_a_container(node, launch):
    assert launch.run("0", "echo", "x", options=[f"--container-image={node.image}"]) == (0, "x\n")
    assert told(node, "apptainer.argv")[-5:] == [node.image, FIRST, "--", "echo", "x"]


def test_a_whole_gpu_on_the_host_is_left_as_it_is(node, start_job, launch):
    start_job("gpu")
    (node.base / "node.json").unlink()  # such a task does not read it
    assert launch.run("0", "sh", "-c", "echo $X; exit 5", environment={"X": "1"}) == (5, "1\n")


def test_what_an_outer_container_left_does_not_reach_the_next(node, start_job, launch):
    start_job("cpu", container_image=node.image)
    launch.run("0", "true", environment={"APPTAINER_BIND": "/nosuch", "SINGULARITY_NAME": "x", "APPTAINERENV_K": "v"})
    seen = told(node, "apptainer.env")
    assert "APPTAINERENV_K=v" in seen
    assert not [line for line in seen if line.startswith(("APPTAINER_", "SINGULARITY_"))]


@pytest.mark.parametrize(
    "step, options, status, text",
    [
        ("0", ["--container-image=/etc/passwd"], 77, "may not be used here"),
        ("0", ["--container-image=docker://alpine"], 77, "absolute path"),
        ("0", ["--container-mounts=/etc:/mnt"], 77, "may not be mounted here"),
        ("0", ["--dataset=nosuch"], 77, "known: digits"),
        ("0", ["--container-image=/x\ny"], 77, "'/x\\\\ny'"),
    ],
)
def test_the_policy_holds_for_a_steps_own_options(node, start_job, launch, step, options, status, text):
    start_job("cpu", container_image=node.image)
    found, output = launch.run(step, "echo", "x", options=options)
    assert found == status
    assert output.startswith("gpushare: ") and output.count("\n") == 1
    assert text.replace("\\\\", "\\") in output
    assert not (node.bin / "apptainer.argv").exists()


@pytest.fixture
def container_policy(node):
    """Change the node's policy for containers."""

    def change(**rules):
        path = node.base / "node.json"
        data = json.loads(path.read_text())
        data["container"].update(rules)
        path.write_text(json.dumps(data))

    return change


def options_of(node):
    """Return the words for the runtime before the mounts, and those for the container's first program."""
    argv = told(node, "apptainer.argv")
    return argv[2 : argv.index("--mount")], argv[argv.index(FIRST) + 1 : argv.index("--")]


@pytest.mark.parametrize(
    ("given", "runtime", "first"),
    [
        (["--container-workdir=/opt/a b"], ["--no-mount", "cwd", "--pwd", "/"], ["cd:/opt/a b"]),
        (["--container-mount-home=no"], ["--no-mount", "home", "--pwd", "/"], []),
        (["--container-writable=yes"], ["--writable-tmpfs", "--pwd", "/"], []),
        (["--container-writable=no", "--container-mount-home=yes"], ["--pwd", "/"], []),
    ],
)
def test_options_become_those_of_the_runtime(node, launch, given, runtime, first):
    assert launch.run("0", "echo", "x", options=[f"--container-image={node.image}", *given]) == (0, "x\n")
    assert options_of(node) == (["--pid", *runtime], first)


def test_the_policys_defaults_hold_where_the_job_says_nothing(node, start_job, launch, container_policy):
    defaults = {"workdir": "/opt", "mount_home": False, "env": ["X"], "writable": True, "scope": "job"}
    container_policy(defaults=defaults)
    start_job("cpu", container_image=node.image)
    assert launch.run("0", "echo", "x", environment={"X": "$1"}) == (0, "x\n")
    runtime = ["--pid", "--writable-tmpfs", "--no-mount", "home,cwd", "--pwd", "/"]
    assert options_of(node) == (runtime, ["cd:/opt"])
    assert "APPTAINERENV_X=\\$1" in told(node, "apptainer.env")
    given = ["--container-workdir=/usr", "--container-mount-home=yes", "--container-writable=no", "--container-env=Y"]
    launch.run("0", "echo", "x", options=given, environment={"X": "1"})
    assert options_of(node) == (["--pid", "--no-mount", "cwd", "--pwd", "/"], ["cd:/usr"])
    assert not [line for line in told(node, "apptainer.env") if line.startswith("APPTAINERENV_X")]


@pytest.mark.parametrize(
    ("rules", "option", "text"),
    [
        ({"writable": False}, "--container-writable=yes", "--container-writable: the policy does not allow it"),
        ({"owners": ["nosuchuser"]}, "--container-workdir=/", "belongs to root: images must belong to nosuchuser"),
        ({"runtime": "/nosuch/apptainer"}, "--container-workdir=/", "no container runtime /nosuch/apptainer"),
        ({}, "--container-workdir=../x", "--container-workdir: '../x' is no absolute path"),
        ({}, "--container-env=HOME", "--container-env: 'HOME' is the runtime's own"),
        ({}, "--dataset=digits:/a/../b", "is no place in a container"),
    ],
)
def test_what_the_policy_of_containers_forbids(node, launch, container_policy, rules, option, text):
    container_policy(**rules)
    options = [f"--container-image={node.image}", option]
    status, output = launch.run("0", "echo", "x", options=options)
    assert status in (77, 78) and output.startswith("gpushare: ") and output.count("\n") == 1 and text in output
    assert not (node.bin / "apptainer.argv").exists()


def test_a_job_that_starts_where_nobody_may_look_runs_elsewhere_alone(node, launch):
    image = f"--container-image={node.image}"
    status, output = launch.run("0", "echo", "x", options=[image], cwd="/usr")
    assert status == 77 and "working folder '/usr' may not be mounted here" in output
    assert launch.run("0", "echo", "x", options=[image, "--container-workdir=/"], cwd="/usr") == (0, "x\n")


def test_an_image_that_was_exchanged_since_the_job_began_is_refused(node, start_job, launch):
    image = node.base / "images/a.sif"
    image.write_bytes(b"SIF")
    start_job("cpu", container_image=str(image))
    assert launch.run("0", "echo", "x") == (0, "x\n")
    os.replace(shutil.copy(image, node.base / "images/b.sif"), image)
    status, output = launch.run("1", "echo", "x")
    assert status == 77 and "is another image than when the job began" in output
    # A step's own choice is another matter.
    assert launch.run("2", "echo", "x", options=[f"--container-image={node.image}"]) == (0, "x\n")


def test_srun_in_a_batch_script_has_what_it_needs_of_the_node(node, start_job, launch, script, monkeypatch):
    monkeypatch.setattr(launcher, "SLURMS", (f"{node.base}/data", "/nosuch"))
    fetched = node.base / "conf-cache"
    fetched.mkdir(mode=0o755)
    (node.base / "conf").symlink_to(fetched)
    monkeypatch.setattr(launcher, "FETCHED", f"{node.base}/conf")
    start_job("cpu", container_image=node.image)
    seen = f"type=bind,source={node.base}/data,destination={node.base}/data,ro"
    launch.run("batch", script)
    assert seen not in told(node, "apptainer.argv")  # this image has no srun
    (node.base / "images/box/usr/local/bin").mkdir(parents=True)
    (node.base / "images/box/usr/local/bin/srun").symlink_to("/nowhere")
    launch.run("batch", script)
    assert seen in told(node, "apptainer.argv") and "/nosuch" not in " ".join(told(node, "apptainer.argv"))
    assert f"type=bind,source={fetched},destination={fetched},ro" in told(node, "apptainer.argv")
    launch.run("0", "true")
    assert seen not in told(node, "apptainer.argv")


def test_only_the_batch_script_has_what_says_how_to_use_srun(node, start_job, launch, script):
    start_job("cpu", container_image=node.image)
    for step, command in (("batch", script), ("interactive", "true"), ("0", "true")):
        launch.run(step, command)
        assert ("APPTAINERENV_APPEND_PATH=/.gpushare" in told(node, "apptainer.env")) is (step != "0")


def test_a_refused_job_says_why_in_every_task(node, pool_job, launch):
    prolog({**pool_job, "SLURM_JOB_LICENSES": "bitfusion:1"}, 1.0, node.run_dir, node.policy)
    status, output = launch.run("batch", "true")
    assert status == 77
    assert output.startswith("gpushare: the job's grant does not agree") and output.count("\n") == 1


def test_a_grant_of_another_version_is_a_broken_installation(node, pool_job, grant_text, launch):
    prolog({**pool_job, "SLURM_JOB_EXTRA": grant_text(v=9)}, 1.0, node.run_dir, node.policy)
    status, output = launch.run("batch", "true")
    assert status == 78 and "version 9" in output


def test_the_record_of_another_user_is_not_taken(node, start_job, launch):
    start_job("pool")
    os.chmod(node.job / "launch.json", 0o444)
    status, output = launch.run("0", "echo", "x", uid=1002)
    assert status == 78 and "uid 1001" in output


def test_a_record_that_root_did_not_write_is_not_taken(node, start_job, launch):
    start_job("pool")
    os.chown(node.job / "launch.json", 1001, 1001)
    status, output = launch.run("0", "echo", "x")
    assert status == 78 and "not to root" in output


def test_a_node_without_a_policy_is_a_broken_installation(node, start_job, launch):
    start_job("pool")
    (node.base / "node.json").unlink()
    status, output = launch.run("0", "echo", "x")
    assert status == 78 and "gpushare policy compile" in output


def test_a_node_without_a_runtime_is_a_broken_installation(node, start_job, launch):
    start_job("cpu", container_image=node.image)
    (node.bin / "apptainer").unlink()
    status, output = launch.run("0", "echo", "x")
    assert status == 78 and "apptainer" in output


@pytest.mark.parametrize(
    "name, text, mode, status, said",
    [
        ("nosuch", None, 0, 127, "no such program on this node"),
        ("plain", "echo", 0o644, 126, "Permission denied"),
        ("script", "#!/no/such/interpreter\n", 0o755, 127, "interpreter"),
        ("binary", "\0\1\2", 0o755, 126, "Exec format error"),
    ],
)
def test_a_command_that_cannot_be_executed(node, start_job, launch, name, text, mode, status, said):
    start_job("gpu")
    path = node.base / "home" / name
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    found, output = launch.run("0", str(path))
    assert found == status
    assert output.startswith("gpushare: ") and said in output and output.count("\n") == 1


def installed(node, *command, environment=()):
    """Run the installed script itself, as root with a record of root's."""
    argv = [sys.executable, "-I", str(SCRIPT), f"--record={node.job}/launch.json", "--step=0", "--", *command]
    return subprocess.run(argv, env=dict(environment), capture_output=True, cwd="/", check=False)


@pytest.fixture
def root_job(node, slurm):
    prolog({**slurm, "SLURM_JOB_UID": "0", "SLURM_JOB_GID": "0", "SLURM_JOB_GPUS": "0"}, 1.0, node.run_dir, node.policy)


def test_the_script_passes_the_environment_on_byte_by_byte(node, root_job):
    environment = {b"A": b"x\xff\n=y", b"PATH": b"/usr/bin:/bin"}
    result = installed(node, "env", "-0", environment=environment)
    # In a C locale Python sets LC_CTYPE for itself.
    assert dict(item.split(b"=", 1) for item in result.stdout.split(b"\0") if item) == environment


def test_the_script_leaves_signals_and_files_as_they_were(node, root_job):
    result = installed(node, "sh", "-c", "grep SigIgn /proc/self/status; ls /proc/self/fd | wc -l")
    ignored, files = result.stdout.split()[1:]
    assert int(ignored, 16) & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1) | 1 << (signal.SIGINT - 1)) == 0
    assert int(files) == 4  # 0, 1, 2 and the one that ls reads


def test_the_script_reports_in_one_line(node, root_job):
    result = installed(node, "no such\nprogram")
    assert (result.returncode, result.stdout) == (127, b"")
    assert result.stderr == b"gpushare: 'no such\\nprogram': no such program on this node\n"


@pytest.mark.parametrize(
    ("prefix", "text", "line"),
    [
        ("", "--dataset: no", "--dataset: no"),
        ("gs-", "--dataset=x: no, --no-container-mount-home", "--gs-dataset=x: no, --gs-no-container-mount-home"),
        ("gs-", "'--gpu-mem': write --container-image=PATH", "'--gpu-mem': write --gs-container-image=PATH"),
    ],
)
def test_options_are_named_as_users_write_them(prefix, text, line):
    assert launcher.spelled(text, prefix) == line


def test_the_script_names_options_with_the_prefix_that_it_is_told(tmp_path):
    words = ["--step=0", "--prefix=gs-", "--dataset=digits", "--", "true"]
    done = subprocess.run([sys.executable, SCRIPT, f"--record={tmp_path}/none", *words], capture_output=True, text=True)
    assert done.returncode == 77
    assert done.stderr == (
        "gpushare: --gs-container-mounts and --gs-dataset mount into a container: add --gs-container-image=PATH\n"
    )


def test_the_launcher_imports_little():
    # Without site, whose own imports depend on what else is installed.
    code = f"import sys; sys.path.insert(0, {str(SCRIPT.parents[2])!r}); import slurm_gpushare.node.launcher"
    argv = [sys.executable, "-I", "-S", "-c", code + "; print(*sys.modules)"]
    names = set(subprocess.run(argv, capture_output=True, check=True, text=True).stdout.split())
    assert not names & {"dataclasses", "inspect", "pathlib", "subprocess", "socket", "logging", "argparse", "ctypes"}
    # Each of these costs a task some milliseconds.
    assert not names & {"typing", "collections", "enum", "re", "functools", "json", "signal", "site"}
    assert not [name for name in names if name.startswith("slurm_gpushare.container.")]
