"""Containers: the options, and what users try against the policy. Every attack ends in one line, and nothing runs."""

from collections.abc import Iterator

import pytest

from tests.lab.cluster import Cluster, until

SIF = "/data/images/digits.sif"
IMAGE = f"--container-image={SIF}"
POLICY = "/etc/gpushare/gpushare.yaml"


@pytest.fixture(scope="module", params=["cluster", "new_cluster"], ids=["24.11", "26.05"])
def lab(request: pytest.FixtureRequest) -> Cluster:
    """The lab, with folders of alice's below /scratch, which is allowed, and /scratch2, which is not."""
    cluster = request.getfixturevalue(request.param)
    cluster.run("sh", "-c", "rm -rf /scratch /scratch2; install -d -o alice -g alice /scratch /scratch2 /scratch2/d")
    cluster.run(
        "sh", "-c", "mkdir -p /data/images2; cp /etc/passwd /data/images2/x.sif; install -dm 700 /home/bob/secret"
    )
    cluster.run(
        "sh", "-c", "mkdir /scratch/d; ln -sfn /etc/passwd ~/link.sif; ln -sfn /scratch2/d /scratch/out", user="alice"
    )
    return cluster


def srun(lab: Cluster, *words: str, env: tuple[str, ...] = (), check: bool = False):
    """Run a step of alice's in the image; ``env`` are variables that she sets before."""
    return lab.run("env", *env, "srun", *words, user="alice", check=check)


def refused(done, status: int, said: str) -> None:
    """Check that a step ended by one line of ours and ran nothing."""
    # Slurm's client ends with 1 where the controller refuses, with 255 where the plugin does.
    assert done.returncode in ((1, 255) if status == 1 else (status,)), done
    # Of a link the user has been told at submission that it leads elsewhere.
    lines = [line for line in done.stderr.splitlines() if "gpushare: " in line and " leads to " not in line]
    assert len(lines) == 1 and said in lines[0], done.stderr
    assert "RAN" not in done.stdout and "Traceback" not in done.stderr


# What a user writes, the exit status (1 at submission), and what the one line says.
ATTACKS = {
    "image with ..": ([f"--container-image={SIF}/../../../etc/passwd"], 1, ".."),
    "image elsewhere": (["--container-image=/etc/passwd"], 1, "/etc/passwd"),
    "image of a like name": (["--container-image=/data/images2/x.sif"], 1, "/data/images2"),
    "image by a link": (["--container-image=/home/alice/link.sif"], 77, "really '/etc/passwd'"),
    "image from a registry": (["--container-image=docker://alpine"], 1, "docker://alpine"),
    "mount with ..": ([IMAGE, "--container-mounts=/scratch/../etc:/d"], 1, "must lie below"),
    "mount of a like name": ([IMAGE, "--container-mounts=/scratch2/d:/d"], 1, "must lie below"),
    "mount by a link": ([IMAGE, "--container-mounts=/scratch/out:/d"], 77, "really '/scratch2/d'"),
    "mount of what is not hers": ([IMAGE, "--container-mounts=/home/bob/secret:/d"], 77, "you may not read it"),
    "mount of the root": ([IMAGE, "--container-mounts=/:/d"], 1, "must lie below"),
    "comma": ([IMAGE, "--container-mounts=/scratch/a,b:/d"], 1, "is not a mount"),
    "colon": ([IMAGE, "--container-mounts=/scratch/a:b:/d"], 1, "is not a mount"),
    "newline": ([IMAGE, "--container-mounts=/scratch/a\nb:/d"], 1, "control character"),
    "a runtime's option": ([IMAGE, "--container-mounts=/scratch/d:/d:rw"], 1, "is not a mount"),
    "place with ..": ([IMAGE, "--container-mounts=/scratch/d:/d/../etc"], 1, "SRC:DST"),
    "dataset with a path": ([IMAGE, "--dataset=../../etc"], 1, "no such dataset"),
    "dataset elsewhere": ([IMAGE, "--dataset=digits:/a/../../etc"], 1, "NAME:DST"),
    "workdir with ..": ([IMAGE, "--container-workdir=/opt/../etc"], 1, "without .."),
    "workdir that is relative": ([IMAGE, "--container-workdir=etc"], 1, "absolute path"),
    "workdir that is not there": ([IMAGE, "--container-workdir=/scratch2"], 77, "'/scratch2' in the container"),
    "a job that starts outside": (
        [IMAGE, "--chdir=/scratch2/d"],
        77,
        "working folder '/scratch2/d' may not be mounted",
    ),
    "home by a variable": ([IMAGE, "--container-env=HOME"], 1, "the runtime's own"),
    "binds by a variable": ([IMAGE, "--container-env=APPTAINER_BIND"], 1, "the runtime's own"),
}


@pytest.mark.parametrize(("words", "status", "said"), ATTACKS.values(), ids=ATTACKS)
def test_refused_in_one_line(lab: Cluster, words: list[str], status: int, said: str) -> None:
    lab.run(
        "sh", "-c", "mkdir -p /data/images2; cp /etc/passwd /data/images2/x.sif; install -d -m 700 /home/bob/secret"
    )
    lab.run(
        "sh", "-c", "mkdir /scratch/d; ln -sfn /etc/passwd ~/link.sif; ln -sfn /scratch2/d /scratch/out", user="alice"
    )
    refused(srun(lab, *words, "sh", "-c", "echo RAN"), status, said)


def test_any_other_name_is_a_folder_like_any(lab: Cluster) -> None:
    names = ("a b", "a'b", 'a"b', "$(id)", "-B", "a\\b", "#x", "ü")
    for name in names:
        lab.run("mkdir", "-p", f"/scratch/{name}", user="alice")
    mounts = ",".join(f"/scratch/{name}:/d/{number}" for number, name in enumerate(names))
    look = 'for i in 0 1 2 3 4 5 6 7; do touch "/d/$i/was $i"; done'
    srun(lab, IMAGE, f"--container-mounts={mounts}", "sh", "-c", look, check=True)
    for number, name in enumerate(names):
        assert lab.out("ls", f"/scratch/{name}") == f"was {number}"


def test_what_the_user_sets_for_the_runtime_adds_nothing(lab: Cluster) -> None:
    words = ("BIND", "BINDPATH", "MOUNT", "HOME", "WRITABLE_TMPFS", "OVERLAY", "PWD", "CONTAINLIBS")
    values = dict.fromkeys(words, "/scratch2") | {"BIND": "/scratch2:/d", "MOUNT": "type=bind,src=/scratch2,dst=/d"}
    env = [f"{name}_{word}={values[word]}" for name in ("APPTAINER", "SINGULARITY") for word in words]
    look = "ls -d /d /scratch2; touch /opt/x; pwd"
    done = srun(lab, IMAGE, "sh", "-c", look, env=(*env, "BASH_ENV=/scratch2/x", "ENV=/scratch2/x"))
    assert done.stdout == "/home/alice\n"
    assert done.stderr.count("cannot access") == 2 and "Read-only file system" in done.stderr


SWAP = r"""
import ctypes, os, sys, time
exchange = ctypes.CDLL(None).renameat2
os.makedirs("/scratch/race/d", exist_ok=True)
open("/scratch/race/d/good", "w").close()
os.symlink("/scratch2/d", "/scratch/race/e")
print("ready", flush=True)
while os.path.exists("/scratch/race"):
    exchange(-100, b"/scratch/race/d", -100, b"/scratch/race/e", 2)
"""


def test_a_folder_that_turns_into_a_link_between_check_and_use(lab: Cluster) -> None:
    lab.run("sh", "-c", "rm -rf /scratch/race; touch /scratch2/d/forbidden", user="alice")
    lab.run("tee", "/home/alice/swap.py", user="alice", stdin=SWAP)
    look = "ls /d; echo end"
    lines = ["python3 swap.py >swap.out &", "until grep -q ready swap.out; do sleep 0.1; done"]
    lines += [f'for i in $(seq 12); do srun --container-mounts=/scratch/race/d:/d sh -c "{look}"; echo "rc=$?"; done']
    options = (IMAGE, "--container-scope=tasks", "-o/home/alice/race.out")
    job = lab.sbatch("alice", *options, script=lab.script("alice", *lines, "rm -r /scratch/race; kill %1; exit 0"))
    lab.wait(job)
    out = lab.read("/home/alice/race.out")
    assert out.count("rc=") == 12 and "forbidden" not in out
    for line in out.splitlines():
        assert "rc=" not in line or line in ("rc=0", "rc=77", "rc=78", "rc=255"), out


def test_the_image_that_runs_is_that_of_the_jobs_beginning(lab: Cluster) -> None:
    lab.run("cp", SIF, "/home/alice/own.sif", user="alice")
    lines = ["srun true; echo rc=$?", "cp own.sif new.sif; mv new.sif own.sif", "srun echo RAN; echo rc=$?"]
    options = (
        "--container-image=/home/alice/own.sif",
        "--container-scope=tasks",
        "-o/home/alice/own.out",
        "--gres=gpu:0.25",
    )
    job = lab.sbatch(
        "alice", *options, script=lab.script("alice", *lines, "cat /run/gpushare/*/jobs/$SLURM_JOB_ID/launch.json")
    )
    assert lab.wait(job) == "COMPLETED"
    out = lab.read("/home/alice/own.out")
    assert "rc=0" in out and "rc=77" in out and "RAN" not in out and "another image than when the job began" in out
    assert '"image":{"asked":"/home/alice/own.sif","path":"/home/alice/own.sif","inode":' in out and '"mtime":' in out


@pytest.fixture
def policy(lab: Cluster) -> Iterator:
    """Put lines into the section `containers` of the policy; it is as before afterwards."""
    before = lab.read(POLICY)

    def change(old: str, new: str) -> None:
        assert before.count(old) == 1
        lab.run("tee", POLICY, stdin=before.replace(old, new))
        lab.run("gpushare", "policy", "compile")

    yield change
    lab.run("tee", POLICY, stdin=before)
    lab.run("gpushare", "policy", "compile")


def test_images_of_owners_that_the_policy_names(lab: Cluster, policy) -> None:
    policy("containers:\n", "containers:\n  owners: [root]\n  writable: false\n")
    lab.run("cp", SIF, "/home/alice/own.sif", user="alice")
    lab.run("sh", "-c", "cp /data/images/digits.sif /home/alice/roots.sif")
    refused(srun(lab, "--container-image=/home/alice/own.sif", "echo", "RAN"), 77, "belongs to alice")
    # It is root's, but she could exchange it.
    refused(srun(lab, "--container-image=/home/alice/roots.sif", "echo", "RAN"), 77, "others than root may change")
    refused(srun(lab, IMAGE, "--container-writable", "echo", "RAN"), 1, "--container-writable: is not allowed here")
    assert srun(lab, IMAGE, "echo", "RAN").stdout == "RAN\n"
    lab.run("rm", "/home/alice/roots.sif", "/home/alice/own.sif")


def test_defaults_of_the_policy_then_of_the_user_then_the_command_line(lab: Cluster, policy) -> None:
    policy("containers:\n", "containers:\n  defaults: {workdir: /opt, mount_home: false, env: [X], writable: true}\n")
    look = ("sh", "-c", "pwd; ls -d /home/alice 2>/dev/null; echo x=$X; touch /etc/x 2>/dev/null && echo writable")
    done = srun(lab, IMAGE, *look, env=("APPTAINERENV_X=2", "X=1"))
    assert done.stdout == "/opt\nx=1\nwritable\n"
    user = (f"GPUSHARE_CONTAINER_IMAGE={SIF}", "GPUSHARE_CONTAINER_WORKDIR=/usr", "GPUSHARE_CONTAINER_WRITABLE=no")
    assert srun(lab, *look, env=(*user, "GPUSHARE_CONTAINER_MOUNT_HOME=yes")).stdout == "/usr\n/home/alice\nx=\n"
    line = ("--container-workdir=/opt/digits", "--container-mount-home", "--container-writable", "--container-env=Y")
    done = srun(lab, *line, *look, env=(*user, "GPUSHARE_CONTAINER_MOUNT_HOME=no"))
    assert done.stdout == "/opt/digits\n/home/alice\nx=\nwritable\n"


def test_options_by_sbatch_and_salloc(lab: Cluster) -> None:
    options = [IMAGE, "--container-workdir=/opt/digits", "--no-container-mount-home", "--dataset=digits:/mine"]
    look = "pwd; ls /mine; ls -d /home/alice; true"
    head = [f"#SBATCH {option}" for option in options]
    job = lab.sbatch("alice", "-o/scratch/batch.out", script=lab.script("alice", *head, look))
    assert lab.wait(job) == "COMPLETED"
    text = lab.run("salloc", *options, "srun", "sh", "-c", look, user="alice")
    for out in (lab.read("/scratch/batch.out"), text.stdout):
        assert [line for line in out.splitlines() if "cannot access" not in line] == [
            *("/opt/digits", "README.rst", "digits.csv")
        ], out


def test_a_step_of_its_own_mind(lab: Cluster) -> None:
    lines = [
        "srun sh -c 'pwd; ls -d /home/alice'",
        "srun --container-mount-home --container-workdir=/usr sh -c 'pwd; ls -d /home/alice'",
    ]
    options = (IMAGE, "--container-scope=tasks", "--no-container-mount-home", "-o/home/alice/mind.out")
    job = lab.sbatch("alice", *options, script=lab.script("alice", *lines))
    assert lab.wait(job) == "COMPLETED"
    out = [line for line in lab.read("/home/alice/mind.out").splitlines() if line.startswith("/")]
    assert out == ["/", "/usr", "/home/alice"]


def test_variables_arrive_as_they_are(lab: Cluster) -> None:
    value = "a $(id) `id` \\ \" ' $HOME"
    env = (f"X={value}", "PATH=/mine:/usr/bin:/bin", "LD_LIBRARY_PATH=/host")
    done = srun(
        lab, IMAGE, "--container-env=X,PATH,LD_LIBRARY_PATH", "sh", "-c", 'echo "$X|$PATH|$LD_LIBRARY_PATH"', env=env
    )
    x, path, libraries = done.stdout.strip("\n").split("|")
    assert (x, libraries.split(":")[0]) == (value, "/host") and path.startswith("/mine:")
    done = srun(lab, IMAGE, "sh", "-c", 'echo "$PATH|$LD_LIBRARY_PATH"', env=env)
    assert "/mine" not in done.stdout and "/host" not in done.stdout


def test_a_runtime_that_ignores_binds_runs_nothing(lab: Cluster) -> None:
    """It says so in a warning alone, and would run the program without its data."""
    conf = "/etc/apptainer/apptainer.conf"
    lab.run("sed", "-i", "s/^user bind control = yes/user bind control = no/", conf)
    try:
        done = srun(lab, IMAGE, "--dataset=digits", "sh", "-c", "echo RAN; ls /datasets/digits")
    finally:
        lab.run("sed", "-i", "s/^user bind control = no/user bind control = yes/", conf)
    assert done.returncode not in (0, 1) and "RAN" not in done.stdout
    assert "user bind control disabled" in done.stderr


OLD = """#!/bin/sh
[ "$1" = --version ] && exec echo singularity version 3.8.7
case "$*" in *--mount*) echo "unknown flag: --mount" >&2; exit 255 ;; esac
exec /usr/bin/apptainer "$@"
"""


def test_a_runtime_without_mount_by_its_path(lab: Cluster, policy) -> None:
    """Apptainer in the place of Singularity 3.8: its words are those that Apptainer understands, too."""
    lab.run("sh", "-c", "cat >/opt/singularity && chmod 755 /opt/singularity", stdin=OLD)
    policy("  runtime: auto\n", "  runtime: /opt/singularity\n")
    lab.run("sh", "-c", "mkdir -p '/scratch/a,b'; ln -sfn 'a,b' /scratch/ab", user="alice")
    look = ("sh", "-c", "ls /datasets/digits; touch /d/x && echo $X")
    words = ("--dataset=digits", "--container-mounts=/scratch/d:/d", "--container-env=X", "--gres=gpu:0.25")
    done = srun(lab, IMAGE, *words, *look, env=("X=1",), check=True)
    assert done.stdout == "README.rst\ndigits.csv\n1\n"
    done = srun(lab, IMAGE, "--container-mounts=/scratch/ab:/d", "echo", "RAN")
    refused(done, 77, "'/scratch/a,b' cannot be mounted by this node's singularity")


@pytest.mark.parametrize("command", ["srun", "sbatch", "salloc"])
def test_an_image_that_does_not_exist_fails_before_anything_is_allocated(lab: Cluster, command: str) -> None:
    before = lab.out("squeue", "-ho%A", "-tall")
    words = ["--wrap=true"] if command == "sbatch" else ["true"]
    done = lab.run(command, "--container-image=/data/images/nosuch.sif", *words, user="alice", check=False)
    assert (done.returncode, done.stderr) == (
        1,
        f"{command}: error: gpushare: --container-image: there is no such image: /data/images/nosuch.sif\n",
    )
    assert lab.out("squeue", "-ho%A", "-tall") == before


@pytest.fixture
def leading_outside(lab: Cluster) -> Iterator[tuple[str, str]]:
    """A link to an image and one to a folder, both where the policy allows such, that lead to where it does not."""
    image, folder = "/data/images/outside.sif", "/scratch/outside"
    lab.run("sh", "-c", f"cp {SIF} /opt/outside.sif; ln -s /opt/outside.sif {image}; ln -s /opt {folder}")
    yield image, folder
    lab.run("rm", image, folder, "/opt/outside.sif")


@pytest.mark.parametrize("command", ["sbatch", "srun", "salloc"])
def test_where_links_lead_is_said_at_submission_and_refused_by_the_node(
    lab: Cluster, leading_outside: tuple[str, str], command: str
) -> None:
    image, folder = leading_outside
    words = {"sbatch": ["--wait", "-o/dev/null", "--wrap=true"], "srun": ["true"], "salloc": ["srun", "true"]}[command]
    for options, line in (
        ([f"--container-image={image}"], f"--container-image={image} leads to /opt/outside.sif on this host"),
        ([IMAGE, f"--container-mounts={folder}:/x"], f"--container-mounts={folder}:/x leads to /opt on this host"),
    ):
        done = lab.run(command, *options, *words, user="alice", check=False)
        assert done.returncode == 77 and f"gpushare: {line}, which is not below " in done.stderr, done.stderr
    done = lab.run("srun", IMAGE, "--container-mounts=/scratch:/x", "true", user="alice")
    assert "leads to" not in done.stderr


def test_of_a_heterogeneous_job_it_is_said_of_the_component_whose_link_it_is(
    lab: Cluster, leading_outside: tuple[str, str]
) -> None:
    link = f"--container-image={leading_outside[0]}"
    for first, second, said in ((link, IMAGE, 0), (IMAGE, link, 1)):
        done = lab.run("sbatch", "--hold", "-o/dev/null", first, ":", second, "--wrap=true", user="alice")
        (line,) = [line for line in done.stderr.splitlines() if " leads to " in line]
        assert line.startswith(f"sbatch: {said}: gpushare: {link} leads to /opt/outside.sif")
        lab.run("scancel", done.stdout.split()[-1])


def test_an_image_that_vanished_meanwhile_fails_the_task_and_not_the_node(lab: Cluster) -> None:
    lab.run("cp", SIF, "/home/alice/gone.sif", user="alice")
    job = lab.sbatch(
        "alice",
        "--hold",
        "--container-image=/home/alice/gone.sif",
        "-o/home/alice/gone.out",
        script=lab.script("", "echo RAN"),
    )
    lab.run("rm", "/home/alice/gone.sif", user="alice")
    lab.run("scontrol", "release", str(job), user="alice")
    assert lab.wait(job) == "FAILED"
    assert lab.sacct(job, "ExitCode")[0]["ExitCode"] == "77:0"
    assert "gpushare: --container-image: '/home/alice/gone.sif': No such file" in lab.read("/home/alice/gone.out")
    assert lab.out("sinfo", "-hR") == ""


def test_datasets_of_the_caller(lab: Cluster, policy) -> None:
    policy("datasets:\n", "datasets:\n  staff: {path: /data, target: /staff, groups: [bob]}\n")
    for user, names in (("alice", "digits"), ("bob", "digits,staff")):
        table = lab.out("gpushare", "datasets", "--format", "csv", user=user).splitlines()
        assert ",".join(line.split(",")[0] for line in table[1:]) == names
    refused(srun(lab, IMAGE, "--dataset=staff", "echo", "RAN"), 1, "is not open to you: known are digits")


@pytest.fixture
def dead(lab: Cluster) -> Iterator[str]:
    """A file system on n1 whose server was killed, for one of NFS: not every kernel has that (tests/vm/ tries it)."""
    path = "/data/dead"
    pack = "mksquashfs /data/datasets/digits /tmp/dead.sqfs -noappend -quiet -no-progress"
    lab.run(
        "sh",
        "-c",
        f"umount -lq {path}; mkdir -p {path} && {pack} && squashfuse -o allow_other /tmp/dead.sqfs {path} && ls {path}",
        node="n1",
    )
    lab.run("sh", "-c", "kill -9 $(pidof squashfuse)", node="n1")
    until("its death", lambda: lab.run("ls", path, node="n1", check=False).returncode)
    yield path
    lab.run("umount", "-l", path, node="n1")


def test_a_dataset_whose_file_system_is_dead_or_away(lab: Cluster, policy, dead: str) -> None:
    lines = (
        "  away: {path: /data/away, target: /away}\n  unmounted: {path: /data, target: /x, mount_point: /data/away}\n"
    )
    lines += f"  dead: {{path: {dead}, target: /dead}}\n  point: {{path: {dead}, target: /dead, mount_point: {dead}}}\n"
    policy("datasets:\n", "datasets:\n" + lines)
    lab.run("mkdir", "-p", "/data/away", node="n1")
    for name, said in (
        ("away", "'/data/away' is empty on this node"),
        ("unmounted", "nothing is mounted at '/data/away'"),
        ("dead", "'/data/dead': Transport endpoint is not connected on this node"),
        ("point", "'/data/dead': Transport endpoint is not connected on this node"),
    ):
        refused(srun(lab, "-wn1", IMAGE, f"--dataset={name}", "echo", "RAN"), 77, said)


def ends(lab: Cluster) -> list[str]:
    """Return the exit codes of batch scripts in the image that end by signals."""
    scripts = [lab.script("", f"kill -{name} $$") for name in ("TERM", "KILL", "SEGV")]
    jobs = [lab.sbatch("alice", IMAGE, "-o/dev/null", script=script) for script in scripts]
    for job in jobs:
        lab.wait(job)
    return [lab.sacct(job, "ExitCode")[0]["ExitCode"] for job in jobs]


def test_the_programs_end_is_the_jobs(lab: Cluster, policy) -> None:
    for words, status in ((("sh", "-c", "exit 255"), 255), (("nosuch",), 127), (("/etc/passwd",), 126)):
        assert srun(lab, IMAGE, *words).returncode == status
    # The first process of a namespace cannot die by a signal: it ends with 128 more, which sacct 24.11 takes off.
    assert ends(lab) in (["15:0", "9:0", "11:0"], ["143:0", "137:0", "139:0"])
    policy("  pid_namespace: true\n", "  pid_namespace: false\n")
    assert ends(lab) == ["0:15", "0:9", "0:11"]


def test_srun_within_an_image_without_slurm_says_what_to_do(lab: Cluster) -> None:
    job = lab.sbatch("alice", IMAGE, "-o/home/alice/within.out", script=lab.script("", "srun -n1 true"))
    lab.wait(job)
    (line,) = lab.read("/home/alice/within.out").splitlines()
    assert line.startswith("gpushare: 'srun': this image has no Slurm: submit with --container-scope=tasks")
    assert lab.sacct(job, "ExitCode")[0]["ExitCode"] == "127:0"


def test_arrays_and_terminals(lab: Cluster) -> None:
    job = lab.sbatch(
        "alice", "--array=0-1", IMAGE, "-o/home/alice/array-%a.out", script=lab.script("", "ls -d /opt/digits")
    )
    until("the array's end", lambda: not lab.out("squeue", "-hj", str(job), check=False), 60)
    assert [lab.read(f"/home/alice/array-{index}.out") for index in (0, 1)] == ["/opt/digits\n"] * 2
    # A terminal on this side: script(1) is not everywhere.
    code = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    shell = ("srun", "--pty", IMAGE, "sh", "-c", "tty; ls -d /opt/digits; exit 6")
    done = lab.run("python3", "-c", code, *shell, user="alice", check=False)
    assert done.returncode == 6 and "/dev/pts/" in done.stdout and "/opt/digits" in done.stdout


# PMI-1 over the socket of Slurm's pmi2, as MPI libraries speak it: each rank says where it is and reads it of all.
PMI = """
import os, socket
link = socket.socket(fileno=int(os.environ["PMI_FD"])).makefile("rw")
def ask(text):
    link.write(f"cmd={text}\\n")
    link.flush()
    return dict(word.split("=", 1) for word in link.readline().split())
rank, size = int(os.environ["PMI_RANK"]), int(os.environ["PMI_SIZE"])
assert ask("init pmi_version=1 pmi_subversion=1")["rc"] == "0"
space = ask("get_my_kvsname")["kvsname"]
assert ask(f"put kvsname={space} key=k{rank} value={os.environ['SLURMD_NODENAME']}")["rc"] == "0"
assert ask("barrier_in")["cmd"] == "barrier_out"
told = [ask(f"get kvsname={space} key=k{other}")["value"] for other in range(size)]
ask("finalize")
print(os.path.isdir("/opt/digits"), *told)
"""

PMIX = """
import ctypes
class Process(ctypes.Structure):
    _fields_ = [("nspace", ctypes.c_char * 256), ("rank", ctypes.c_uint32)]
pmix, me = ctypes.CDLL("libpmix.so.2"), Process()
print(pmix.PMIx_Init(ctypes.byref(me), None, 0), pmix.PMIx_Fence(None, 0, None, 0), pmix.PMIx_Finalize(None, 0))
"""


def test_mpi_by_pmi2_over_two_nodes(lab: Cluster) -> None:
    lab.run("tee", "/home/alice/pmi.py", user="alice", stdin=PMI)
    done = srun(lab, "-N2", "-n4", "--mpi=pmi2", IMAGE, "python3", "/home/alice/pmi.py", check=True)
    assert done.stdout.splitlines() == ["True n1 n1 n1 n2"] * 4 or done.stdout.splitlines() == ["True n1 n1 n2 n2"] * 4


@pytest.fixture
def slurms_image(lab: Cluster) -> Iterator[str]:
    """An image with this Slurm and its PMIx: each node's own root file system, at a place where images may lie."""
    path = "/data/images/host"
    for node in ("n1", "n2"):
        lab.run("sh", "-c", f"mkdir -p {path}; mount --bind / {path}; mount --make-private {path}", node=node)
    yield path
    for node in ("n1", "n2"):
        lab.run("umount", path, node=node)


def test_mpi_by_pmix_over_two_nodes(lab: Cluster, slurms_image: str) -> None:
    types = lab.run("srun", "--mpi=list")
    if "pmix" not in types.stdout + types.stderr:
        assert not lab.run("sh", "-c", "ls /usr/lib/*/libpmix.so.2", check=False).stdout
        return  # this Slurm's package has the plugin without the library
    lab.run("tee", "/home/alice/pmix.py", user="alice", stdin=PMIX)
    # The two nodes are one host here, on which the servers' segments of shared memory would have one name.
    env = ("PMIX_MCA_gds=hash",)
    words = ("-N2", "-n2", "--mpi=pmix", f"--container-image={slurms_image}", "python3", "/home/alice/pmix.py")
    assert srun(lab, *words, env=env, check=True).stdout == "0 0 0\n" * 2
    # An image of its own sees the server's folder, too. The nodes have one /tmp here, where the first whose task ends
    # removes Slurm's folder for this step from under the other: so each waits until both have looked.
    lab.run("sh", "-c", "rm -f /home/alice/looked.*", user="alice")
    wait = "until [ -e ~/looked.$((1 - SLURM_PROCID)) ]; do sleep 0.1; done"
    look = ("sh", "-c", f'stat -c %U "$PMIX_SERVER_TMPDIR"; touch ~/looked.$SLURM_PROCID; {wait}')
    assert srun(lab, "-N2", "-n2", "--mpi=pmix", IMAGE, *look, env=env, check=True).stdout == "alice\n" * 2


def test_srun_within_an_image_of_the_same_slurm(lab: Cluster, slurms_image: str) -> None:
    options = (f"--container-image={slurms_image}", "-n2", "-o/home/alice/same.out")
    lines = ("ls -d /.gpushare", "srun -n2 ls -d /.gpushare")
    job = lab.sbatch("alice", *options, script=lab.script("", *lines))
    lab.wait(job)
    assert lab.read("/home/alice/same.out") == "/.gpushare\n" * 3
