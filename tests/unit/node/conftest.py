"""A node in a folder: runtime folder, policy, image, data, and programs that stand for Apptainer and Bitfusion."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from slurm_gpushare import paths
from slurm_gpushare.container import runtime
from slurm_gpushare.node import launcher

USER = 1001  # in no passwd file: nothing may depend on that

# It runs the command on the host, with the environment that the container would have, and keeps what it was told.
APPTAINER = """#!/bin/sh
here=$(dirname "$0")
printf '%s\\n' "$@" >"$here/apptainer.argv"
env >"$here/apptainer.env"
[ "$1" = --quiet ] && [ "$2" = exec ] || { echo "unknown command" >&2; exit 255; }
shift 2
while :; do
    case $1 in
    --pid | --nv | --writable-tmpfs) shift ;;
    --pwd) cd "$2" || exit 255; shift 2 ;;
    --mount | --env-file | --no-mount) shift 2 ;;
    -*) echo "Error for command exec: unknown flag: $1" >&2; exit 255 ;;
    *) break ;;
    esac
done
[ -e "$1" ] || exit 255
[ "$2" = /.gpushare/inside ] || { echo "the first program is $2" >&2; exit 255; }
while [ "$1" != -- ]; do shift; done
shift
if [ -n "${APPTAINERENV_TMPDIR+set}" ]; then TMPDIR=$APPTAINERENV_TMPDIR; export TMPDIR; unset APPTAINERENV_TMPDIR; fi
exec "$@"
"""

BITFUSION = """#!/bin/sh
here=$(dirname "$0")
echo "$(id -u) $*" >>"$here/bitfusion.calls"
if [ -e "$here/unreachable" ]; then
    echo "Error: none of the servers responded correctly to client id claim requests." >&2
    exit 1
fi
case $1 in
request_gpus)
    [ "$2" = -n ] && [ "$4" = -p ] || { echo "Error: unknown option $2" >&2; exit 1; }
    echo lease >"$TMPDIR/bitfusion$$" || exit 1
    ;;
client)
    [ "$2" = -- ] || { echo "Error: no --" >&2; exit 1; }
    ls "$TMPDIR"/bitfusion* >/dev/null || exit 1
    shift 2
    exec "$@"
    ;;
release_gpus)
    [ "$2" = -f ] && [ $# -eq 3 ] || { echo "Error: unknown option $2" >&2; exit 1; }
    [ -e "$here/hang" ] && exec sleep 600
    rm "$3"
    ;;
*) echo "Error: unknown command $1" >&2; exit 1 ;;
esac
"""


def grant_text(**changes) -> str:
    """Return a grant as job_submit.lua writes it."""
    grant = {
        "v": 1,
        "backend": "bitfusion",
        "gpus": 1,
        "fraction": 0.25,
        "slices": 25,
        "memory": None,
        "nodes": 1,
        "rule": "pool",
        "request": "gpu:0.25",
        "extra": "",
    }
    return json.dumps({**grant, **changes}, separators=(",", ":"))


@pytest.fixture
def node(monkeypatch):
    """A node that the user can look into, unlike pytest's own folders."""
    if os.geteuid() != 0:
        pytest.skip("prolog and epilog are root's")
    base = Path(tempfile.mkdtemp(prefix="gpushare-node-"))
    base.chmod(0o755)
    for name in ("bin", "data/digits", "images/box", "home", "spool"):
        (base / name).mkdir(parents=True)
    (base / "bin").chmod(0o1777)
    (base / "home").chmod(0o777)
    (base / "data/digits/digits.csv").touch()
    for name, text in (("apptainer", APPTAINER), ("bitfusion", BITFUSION)):
        (base / "bin" / name).write_text(text)
        (base / "bin" / name).chmod(0o755)
    policy = {
        "v": 1,
        "slices_per_gpu": 100,
        "container": {
            "runtime": "auto",
            "images": [f"{base}/images"],
            "mounts": [f"{base}/data"],
            "pid_namespace": True,
        },
        "datasets": {"digits": {"path": f"{base}/data/digits", "target": "/datasets/digits", "mode": "ro"}},
        "backends": {
            "bitfusion": {
                "command": f"{base}/bin/bitfusion",
                "licence": "bitfusion",
                "gres": "bitfusion",
                "gpu_memory": 16 << 30,
            },
            "shard": {},
        },
        "agent": {"interval": 1.0, "service": None},
    }
    (base / "node.json").write_text(json.dumps(policy))
    monkeypatch.setattr(paths, "NODE_STATE_DIR", str(base / "state"))
    yield SimpleNamespace(
        base=base,
        bin=base / "bin",
        image=f"{base}/images/box",
        run_dir=str(base / "run"),
        policy=str(base / "node.json"),
        jobs=base / "run/n1/jobs",
        job=base / "run/n1/jobs/7",
        held=base / "state/n1/jobs",
        work=base / "state/n1/jobs/7/work",
    )
    shutil.rmtree(base)


@pytest.fixture
def slurm():
    """What slurmd gives prolog and epilog of a job that asks for nothing of ours."""
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_UID": str(USER),
        "SLURM_JOB_GID": str(USER),
        "SLURM_JOB_USER": "alice",
        "SLURMD_NODENAME": "n1",
        "SLURM_CLUSTER_NAME": "lab",
    }


@pytest.fixture
def pool_job(slurm):
    """What slurmd gives prolog of a job with a quarter of a GPU of the pool."""
    return {**slurm, "SLURM_JOB_EXTRA": grant_text(), "SLURM_JOB_LICENSES": "bitfusion:25"}


def start_as_user(node, arguments, environment=(), cwd="/", uid=USER) -> tuple[int, Path]:
    """Start the launcher as the user in a child; return its pid and the path of its output."""
    number = len(list(node.base.glob("output*")))
    output = node.base / f"output{number}"
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT, 0o644), 1)
            os.dup2(1, 2)
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.chdir(cwd)
            # A user cannot read pytest's environment again, and it is not the task's.
            launcher.own_environment = lambda: {"PATH": "/usr/bin:/bin", **dict(environment)}
            find = runtime.find_runtime
            runtime.find_runtime = lambda wanted: find(wanted, (str(node.bin),))
            runtime.find_shield = lambda work: None
            sys.argv = ["gpushare-launch", *arguments]
            launcher.main(node.policy)
        finally:
            os._exit(99)
    return child, output


def end(started) -> tuple[int, str]:
    """Wait for what start_as_user started; return its exit status and output."""
    child, output = started
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), output.read_text()


@pytest.fixture
def launch(node):
    """Start the launcher for a step of job 7; ``launch.run`` returns its exit status and output."""

    def start(step, *command, options=(), environment=(), cwd="/", uid=USER):
        arguments = [f"--record={node.job}/launch.json", f"--step={step}", *options, "--", *command]
        return start_as_user(node, arguments, environment, cwd, uid)

    return SimpleNamespace(start=start, end=end, run=lambda *a, **k: end(start(*a, **k)))


@pytest.fixture(name="grant_text")
def grant_text_fixture():
    """The builder of grants."""
    return grant_text
