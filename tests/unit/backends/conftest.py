"""A Bitfusion client and its pool in a folder: allocates, runs, releases, and refuses what it does not know."""

import os

import pytest

from slurm_gpushare.backends import bitfusion_allocation
from slurm_gpushare.grant import Grant
from slurm_gpushare.node_policy import BackendPolicy

# pool/HOLDER is a living allocation; the allocation file holds nothing but that name. `says` makes a request fail with
# its text, `spin` makes it wait until the file is gone, `away` is a pool that does not answer, `silent` one whose
# request leaves no file, `stubborn` a client that bears SIGTERM.
CLIENT = """#!/bin/sh
here=$(dirname "$0")
echo "$*" >>"$here/calls"
fail() { echo "$*" >&2; exit 1; }
[ -e "$here/stubborn" ] && trap "" TERM
away() { [ ! -e "$here/away" ] || fail "Error: none of the servers responded correctly to client id claim requests."; }
case "$1" in
request_gpus)
    [ "$2" = -n ] && [ "$4" = -p ] || fail "Error: unknown option: $*"
    words=$*; shift 5
    while [ $# -gt 0 ]; do
        case "$1 $2" in
        "--server_list "*:[0-9]* | "--filter device.id="[0-9]*) shift 2 ;;
        *) fail "Error: unknown option: $words" ;;
        esac
    done
    away
    if [ -e "$here/says" ]; then cat "$here/says" >&2; exit 1; fi
    if [ -e "$here/spin" ]; then echo "[INFO] waiting" >&2; fi
    while [ -e "$here/spin" ]; do sleep 0.05; done
    if [ ! -e "$here/silent" ]; then touch "$here/pool/$$"; echo $$ >"$TMPDIR/bitfusion0$$"; fi
    [ ! -e "$here/late" ] || while :; do sleep 0.05; done
    ;;
client)
    [ "$2" = -- ] && [ $# -gt 2 ] || fail "Error: unknown option: $*"
    away
    set -- "$TMPDIR"/bitfusion* "$@"
    [ "$2" = client ] || fail "Error: which of the allocations?"
    [ -e "$1" ] && [ -e "$here/pool/$(cat "$1")" ] || fail "Error: no such allocation"
    shift 3
    exec "$@"
    ;;
release_gpus)
    [ "$2" = -f ] && [ $# -eq 3 ] || fail "Error: unknown option: $*"
    away
    rm "$here/pool/$(cat "$3")" 2>/dev/null || fail "Error: no such allocation"
    rm "$3"
    ;;
list_gpus)
    [ $# -eq 1 ] || fail "Error: unknown option: $*"
    away
    echo " - server 0 (leader)  [10.1.202.21:56001]: running 0 tasks"
    echo "   |- GPU [0]: free memory (32510 / 32510MiB) Tesla V100S-PCIE-32GB (7.0)"
    ;;
*) fail "Error: unknown command $1" ;;
esac
"""

ADDRESS = "10.1.202.21:56001"


class Pool:
    """The fake client, what it was told, and what it holds."""

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "bitfusion"
        (folder / "pool").mkdir(parents=True)
        self.path.write_text(CLIENT)
        self.path.chmod(0o755)

    def calls(self, name=""):
        path = self.folder / "calls"
        return [line for line in path.read_text().splitlines() if line.startswith(name)] if path.exists() else []

    def held(self):
        return os.listdir(self.folder / "pool")

    def be(self, name, text=""):
        (self.folder / name).write_text(text)

    def no_longer(self, name):
        (self.folder / name).unlink()

    def lose(self):
        """Release all by itself."""
        for name in self.held():
            (self.folder / "pool" / name).unlink()


@pytest.fixture
def pool(tmp_path):
    return Pool(tmp_path / "bin")


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def fast(monkeypatch):
    """No pause as long as with a pool."""
    for name, value in (("FIRST_TRY", 0.3), ("QUIET", 0.1), ("FIRST_PAUSE", 0.05), ("LONGEST_PAUSE", 0.1)):
        monkeypatch.setattr(bitfusion_allocation, name, value)


@pytest.fixture
def environment():
    return {"PATH": "/usr/bin:/bin", "TMPDIR": "/somewhere/else"}


@pytest.fixture
def grant():
    def make(fraction=0.25, gpus=1, slices=25, nodes=1, tasks=1):
        return Grant("bitfusion", gpus, fraction, slices, None, nodes, "rule", "gpu:0.25", "", tasks)

    return make


@pytest.fixture
def settings(pool):
    def make(**changes):
        return BackendPolicy(command=str(pool.path), licence="bitfusion", gres="bitfusion", **changes)

    return make
