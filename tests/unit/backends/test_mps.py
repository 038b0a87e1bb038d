"""MPS on a node: folders, daemons, the first job and the last, over a control program that keeps a log."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from slurm_gpushare import paths
from slurm_gpushare.backends import mps, mps_control, mps_ways
from slurm_gpushare.errors import BackendError, BrokenInstallation
from slurm_gpushare.grant import Grant
from slurm_gpushare.launch import LaunchRecord
from slurm_gpushare.node import gpus as door
from slurm_gpushare.node_policy import BackendPolicy

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="what root does needs root")

UUID = "GPU-01234567-89ab-cdef-0123-456789abcdef"
NODE = "n1"
# Runs as long as its pid file is there; `quit` and -q take it away, as they end the original. KNOWS are its options.
CONTROL = r"""#!/bin/sh
pipe="$CUDA_MPS_PIPE_DIRECTORY" pid="$CUDA_MPS_PIPE_DIRECTORY/pid"
running() { [ -e "$pid" ] || { echo "Cannot find MPS control daemon process"; exit 1; }; }
say() { echo "$*" >>LOG; }
case "$1" in
    -d)
        say "$* $CUDA_VISIBLE_DEVICES"
        for word in "$@"; do case "$word" in -p|-S) case "KNOWS" in *" $word "*) ;; *) exit 2 ;; esac ;; esac; done
        [ -e "$pid" ] && exit 1
        case "$*" in *" -p 3"*) echo 3 ;; *) echo 2 ;; esac >"$pid"
        [ "$(cat "$pid")" = 2 ] || touch "$pipe/control"
        exit 0 ;;
    -q) running; say -q; rm "$pid"; exit 0 ;;
    server|namespace)
        running; [ "$(cat "$pid")" = 3 ] || exit 1
        server="${4#--server=}"
        case "$1 $2" in
            "server list") ;;
            "server get") [ -d "$pipe/$3" ] ;;
            "server create") say "$*"; mkdir -p "$pipe/$3/default"; touch "$pipe/$3/control" ;;
            "namespace get") [ -d "$pipe/$4/$3" ] ;;
            "namespace create") say "$*"; mkdir "$pipe/$server/$3"; touch "$pipe/$server/$3/control" ;;
            "namespace set") say "$*" ;;
            "namespace list") cd "$pipe"; for n in */*/; do n="${n%/}"; echo "${n#*/},${n%/*},Ready,-,-,0,-"; done ;;
            "namespace delete") say "$*"; rm -r "$pipe/$server/$3" ;;
            *) exit 1 ;;
        esac
        exit ;;
    ?*) exit 2 ;;
esac
read -r line
running
[ "$(cat "$pid")" = 2 ] || exit 1
case "$line" in
    get_*) echo 100.0 ;;
    quit*) say "$line"; rm "$pid" ;;
    set_*) say "$line" ;;
    lspart)
        echo "GPU Partition free chunk used chunk free SM used SM clients"
        echo "GPU-01234567 - 7 3 56 24 -"
        sed "s/^/GPU-01234567 /" "$pipe/parts" 2>/dev/null || true ;;
    sm_partition\ add*) say "$line"; echo "part$(grep -c sm_partition LOG) - 1 - 8 -" >>"$pipe/parts"; echo created ;;
    *) exit 1 ;;
esac
"""


@pytest.fixture
def node(tmp_path, monkeypatch, request):
    """A node with one GPU, whose driver is R580; returns what the control program was told so far."""
    run = Path(tempfile.mkdtemp())  # sockets have short paths
    request.addfinalizer(lambda: shutil.rmtree(run))
    run.chmod(0o755)
    monkeypatch.setattr(paths, "node_dir", lambda node: str(run / node))
    monkeypatch.setattr(paths, "job_dir", lambda node, job: str(run / node / "jobs" / str(job)))
    node = Node(tmp_path, monkeypatch)
    node.has(580)
    return node


class Node:
    """What the node has, and what was said to its control program."""

    def __init__(self, folder, monkeypatch):
        self.log, self.program, self.patch = folder / "log", folder / "control", monkeypatch
        run = mps_control.run
        monkeypatch.setattr(mps_ways, "run", lambda *words, **say: run(*words, **say, program=str(self.program)))

    def __call__(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def has(self, driver, capability=8, compute_mode=0, knows="") -> None:
        """Give it another driver and another GPU of the same UUID."""
        self.program.write_text(CONTROL.replace("LOG", str(self.log)).replace("KNOWS", f" {knows} "))
        self.program.chmod(0o755)
        gpu = door.Gpu(uuid=UUID, compute_mode=compute_mode, capability=capability)
        self.patch.setattr(door, "read_gpus", lambda: door.Gpus(driver=driver, by_number={0: gpu}))


def begin(job=1, uid=1001, number=0, memory=4 << 30, **policy):
    os.makedirs(paths.job_dir(NODE, job), exist_ok=True)
    grant = Grant("mps", 1, 0.25, 25, memory, 1, "partition mps", "gpu:0.25", "")
    record = LaunchRecord(job, uid, uid, "alice", NODE, "lab", 0.0, grant, gpus=(number,))
    return mps.begin(record, BackendPolicy(**policy), {})


def daemons():
    return sorted(os.listdir(os.path.join(paths.node_dir(NODE), "mps")))


def test_the_last_job_out_ends_the_daemon(node):
    for job in (1, 2, 2):
        options = begin(job)
    for job in (1, 1, 9):
        mps.finish(job, NODE, BackendPolicy())
        assert daemons() == [UUID]
    mps.finish(2, NODE, BackendPolicy())
    assert daemons() == []
    assert node() == [f"-d {UUID}", mps_ways.QUIT]
    folder = os.path.join(paths.node_dir(NODE), "mps", UUID)
    assert options["binds"] == [folder + "/pipe", folder + "/log"]
    assert options["environment"] == {
        "CUDA_MPS_PIPE_DIRECTORY": folder + "/pipe",
        "CUDA_MPS_LOG_DIRECTORY": folder + "/log",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "25",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"{UUID}=4096M",
        "CUDA_VISIBLE_DEVICES": UUID,
    }
    assert options["enforces"] == mps.ENFORCES


def test_a_daemon_that_died_and_a_job_that_is_gone_are_in_nobodys_way(node):
    begin(1)
    folder = os.path.join(paths.node_dir(NODE), "mps", UUID)
    os.unlink(folder + "/pipe/pid")
    open(folder + "/pipe/control", "w").close()
    shutil.rmtree(paths.job_dir(NODE, 1))
    begin(2)
    assert node() == [f"-d {UUID}"] * 2
    assert os.listdir(folder + "/pipe") == ["pid"]
    assert os.listdir(folder + "/jobs") == ["2"]


def test_each_user_has_a_daemon_that_no_other_user_reaches(node):
    begin(1, uid=1001, users="time_sliced")
    begin(2, uid=1002, users="time_sliced")
    assert daemons() == [f"{UUID}-1001", f"{UUID}-1002"]
    for uid in (1001, 1002):
        pipe = os.path.join(paths.node_dir(NODE), "mps", f"{UUID}-1001", "pipe")
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(1001)
            os.setuid(uid)
            os._exit(0 if os.access(pipe, os.R_OK | os.X_OK) and not os.access(pipe, os.W_OK) else 1)
        reached = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert reached == (uid == 1001)


def test_one_fraction_is_the_daemons_default(node):
    options = begin(fraction=0.25, gpu_memory=16 << 30, users="multiuser")
    assert node() == [
        f"-d -multiuser-server {UUID}",
        "set_default_active_thread_percentage 25",
        f"set_default_device_pinned_mem_limit {UUID} 4096M",
    ]
    assert options["enforces"] == mps.ENFORCES
    node.has(580, compute_mode=door.EXCLUSIVE_PROCESS)
    assert begin(fraction=0.25)["enforces"] == mps_ways.HELD


def test_each_job_has_sms_of_its_own(node):
    node.has(590, compute_mode=door.EXCLUSIVE_PROCESS, knows="-S")
    first, second = (begin(job, fraction=0.25, gpu_memory=16 << 30) for job in (1, 2))
    assert node() == [
        f"-d -S {UUID}",
        "set_default_active_thread_percentage 25",
        f"set_default_device_pinned_mem_limit {UUID} 4096M",
        *[f"sm_partition add {UUID} 1"] * 4,
    ]
    partitions = [options["environment"]["CUDA_MPS_SM_PARTITION"] for options in (first, second)]
    assert partitions == [f"{UUID}/part1", f"{UUID}/part2"]
    assert "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE" not in first["environment"]
    assert first["enforces"] == mps_ways.HELD
    assert begin(2, fraction=0.25)["environment"]["CUDA_MPS_SM_PARTITION"] == partitions[1]
    mps.finish(1, NODE, BackendPolicy())
    assert begin(3, fraction=0.25)["environment"]["CUDA_MPS_SM_PARTITION"] == partitions[0]
    begin(4, fraction=0.25)
    begin(5, fraction=0.25)
    with pytest.raises(BackendError, match="every partition"):
        begin(6, fraction=0.25)
    for job in (2, 3, 4, 5, 6):
        mps.finish(job, NODE, BackendPolicy())
    assert daemons() == [] and node()[-1] == mps_ways.QUIT


@pytest.mark.parametrize(
    ("driver", "capability", "knows", "policy", "started"),
    [
        (590, 7, "-S", {"fraction": 0.25}, ["-d"]),  # older than Ampere
        (590, 8, "-S", {}, ["-d"]),  # any share
        (590, 8, "", {"fraction": 0.25}, ["-d -S", "-d"]),  # promised, and not there
        (590, 8, "-S", {"fraction": 0.1}, ["-d -S", "-d"]),  # a chunk is more than that
        (615, 9, "", {}, ["-d -p 3", "-d"]),
        (615, 9, "-p", {"users": "multiuser"}, ["-d -p 3 -m"]),
    ],
)
def test_where_the_newer_way_is_missing_the_older_one_serves(node, driver, capability, knows, policy, started):
    node.has(driver, capability, knows=knows)
    begin(**policy)
    assert [line.removesuffix(f" {UUID}") for line in node() if line.startswith("-d")] == started
    mps.finish(1, NODE, BackendPolicy(**policy))
    assert daemons() == []


def test_each_job_has_a_namespace_that_its_user_alone_reaches(node):
    node.has(615, compute_mode=door.EXCLUSIVE_PROCESS, knows="-p")
    first, second, _ = (begin(job, uid) for job, uid in ((1, 1001), (2, 1001), (2, 1001)))
    pipe = os.path.join(paths.node_dir(NODE), "mps", UUID, "pipe")
    assert node() == [
        f"-d -p 3 {UUID}",
        f"server create u1001 --uid=1001 --allowed-devices={UUID}",
        "namespace create j1 --server=u1001",
        "namespace set j1 --server=u1001 --active-thread-percentage=25 --pinned-memory-limit=4096M",
        "namespace create j2 --server=u1001",
        *["namespace set j2 --server=u1001 --active-thread-percentage=25 --pinned-memory-limit=4096M"] * 2,
    ]
    assert first["environment"] == {
        "CUDA_MPS_PIPE_DIRECTORY": pipe + "/u1001/j1",
        "CUDA_MPS_LOG_DIRECTORY": pipe.replace("/pipe", "/log"),
        "CUDA_VISIBLE_DEVICES": UUID,
    }
    assert second["environment"]["CUDA_MPS_PIPE_DIRECTORY"] == pipe + "/u1001/j2"
    assert first["enforces"] == mps_ways.HELD
    ways_in = ("u1001/j1/control", "control", "u1001/control", "u1001/default/control")
    reached = {uid: [path for path in ways_in if may_write(uid, f"{pipe}/{path}")] for uid in (1001, 1002)}
    assert reached == {1001: ["u1001/j1/control"], 1002: []}
    mps.finish(1, NODE, BackendPolicy())
    assert node()[-1] == "namespace delete j1 --server=u1001 --force"
    mps.finish(2, NODE, BackendPolicy())
    assert daemons() == [] and node()[-1] == "-q"


def may_write(uid, path):
    """Return whether a user may write to the file, which is what connecting to a socket takes."""
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        os._exit(0 if os.access(path, os.W_OK) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_users_that_take_turns_need_compute_mode_default(node):
    node.has(580, compute_mode=door.EXCLUSIVE_PROCESS)
    with pytest.raises(BrokenInstallation, match="nvidia-smi -i 0 -c DEFAULT"):
        begin(users="time_sliced")


def test_an_unknown_amount_of_memory_is_no_limit(node):
    options = begin(memory=None)
    assert "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT" not in options["environment"]
    assert options["enforces"]["memory"] == "none"


def test_what_cannot_be_is_one_line(node, monkeypatch):
    with pytest.raises(BrokenInstallation, match="GPU 3"):
        begin(number=3)
    monkeypatch.setattr(mps_ways, "run", lambda *words, say="": (1, "no"))
    with pytest.raises(BackendError, match=r"did not start.*: no"):
        begin()
    mps.finish(1, NODE, BackendPolicy())
    assert daemons() == []


def test_a_folder_of_somebody_elses_is_not_believed(node):
    os.makedirs(os.path.join(paths.node_dir(NODE), "mps"))
    os.chown(os.path.join(paths.node_dir(NODE), "mps"), 1001, 1001)
    with pytest.raises(BrokenInstallation, match="not root's"):
        begin()


def test_nothing_to_finish_is_well(node):
    mps.finish(1, NODE, BackendPolicy())
    assert node() == []
