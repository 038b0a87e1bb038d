"""The lab's init: starts every daemon in order, waits until each is really ready, then reaps.

Runs inside the lab as pid 1 under the lab's own Python. Standard output takes JSON lines for ``up``:
``{"step":…,"seconds":…}``, at the end ``{"ready":true}`` or ``{"failed":step,"why":…,"log":…}``.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from slurm_gpushare.lab import local, lupine, pool, spaces, state
from slurm_gpushare.lab.params import ADDRESS, LabParams
from slurm_gpushare.lab.standins.systemd import SYSTEMCTL

DEADLINE = 60.0  # seconds for any one daemon; a ready machine needs one or two
POLL = 0.05
STANDINS = f"{state.SOURCE_INSIDE}/slurm_gpushare/lab/standins"
SYSTEMD = "/run/systemd/system"  # where this is, systemd runs: sd_booted(3)
PYTHON = "/opt/gpushare/bin/python3"
GPU_SOCKET = "/dev/nvidia-standin/socket"
SERVICE_PORT = 6827
COMMAND = "/opt/gpushare/bin/gpushare"
SWEEP = "/opt/gpushare/libexec/gpushare-sweep"

# Descriptors of each node's namespaces: they live as long as this process.
NODES: dict[str, dict[str, int]] = {}


class Failed(Exception):
    """A step failed: its name, why, and the log inside the lab."""

    def __init__(self, step: str, why: str, log: str | None):
        super().__init__(step, why, log)
        self.step, self.why, self.log = step, why, log


def log_path(name: str) -> str:
    """Return the log of daemon or command ``name``."""
    return f"{state.LOG_INSIDE}/{name}.log"


def say(message: dict) -> None:
    """Send one line to ``up``, which may be gone."""
    try:
        print(json.dumps(message), flush=True)
    except BrokenPipeError:
        pass


@contextlib.contextmanager
def step(name: str):
    """Report a step and its seconds; a failed command or system call in it becomes Failed."""
    started = time.monotonic()
    try:
        yield
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failed(name, str(error), None) from None
    say({"step": name, "seconds": round(time.monotonic() - started, 3)})


def run(name: str, argv: Sequence[str], why: str, timeout: float = 300) -> None:
    """Run a command to its end, its output in its log; raises Failed."""
    with open(log_path(name), "ab") as log:
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Failed(name, f"{why}: no end after {timeout:.0f} s", log_path(name)) from None
    if done.returncode != 0:
        raise Failed(name, f"{why}: {' '.join(argv[:4])} … ended with status {done.returncode}", log_path(name))


def start(
    name: str,
    argv: Sequence[str],
    *,
    node: str | None = None,
    user: str | None = None,
    environment: dict[str, str] | None = None,
) -> subprocess.Popen:
    """Start a daemon in the foreground, in ``node``'s namespaces, its output in its log."""
    with open(log_path(name) if not slurm_logs(name) else log_path(name + ".err"), "ab") as log:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=[] if user else None,
            env={**os.environ, **(environment or {})},
            preexec_fn=(lambda: spaces.enter(NODES[node])) if node else None,
        )


def slurm_logs(name: str) -> bool:
    """Whether the daemon writes its own log; its standard error then has a file of its own."""
    return name.startswith("slurm")


def wait(name: str, daemon: subprocess.Popen | None, ready: Callable[[], bool], what: str) -> None:
    """Poll until ``ready()``; raises Failed when ``daemon`` ends before, or after DEADLINE seconds."""
    log = log_path(name + ".err") if slurm_logs(name) else log_path(name)
    end = time.monotonic() + DEADLINE
    while not ready():
        if daemon is not None and daemon.poll() is not None:
            raise Failed(name, f"it ended with status {daemon.returncode} before {what}", log)
        if time.monotonic() > end:
            raise Failed(name, f"not {what} after {DEADLINE:.0f} s", log)
        time.sleep(POLL)


def answers(argv: Sequence[str], contains: str = "") -> bool:
    """Whether a command succeeds and prints ``contains``."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and contains in done.stdout


def listens(port: int, host: str = ADDRESS) -> bool:
    """Whether somebody accepts connections on ``port``."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def start_base() -> None:
    """munge, MariaDB and slurmdbd's database."""
    with step("munge"):
        # MariaDB's socket is in the one folder in trixie, in the other in sid.
        for path, user in (("/run/munge", "munge"), ("/run/mysqld", "mysql"), ("/run/mariadbd", "mysql")):
            Path(path).mkdir(mode=0o755)
            subprocess.run(["chown", f"{user}:{user}", path], check=True)
        munged = start("munge", ["munged", "--foreground"], user="munge")
        wait("munge", munged, lambda: answers(["munge", "-n"]), "answering")
    with step("mariadb"):
        daemon = start("mariadb", ["mariadbd", "--user=mysql"])
        client = ["mariadb", "--protocol=socket", "-e"]
        wait("mariadb", daemon, lambda: answers([*client, "select 1"]), "answering on its socket")
        sql = (
            "create database slurm_acct_db; create user slurm@localhost identified via unix_socket; "
            "grant all on slurm_acct_db.* to slurm@localhost"
        )
        run("mariadb-setup", [*client, sql], "the accounting database could not be made")


def start_accounting(params: LabParams) -> None:
    """slurmdbd, the cluster, its accounts and users."""
    with step("slurmdbd"):
        daemon = start("slurmdbd", ["slurmdbd", "-D"], user="slurm")
        wait("slurmdbd", daemon, lambda: answers(["sacctmgr", "-n", "show", "cluster"]), "answering")
    with step("accounts"):
        for words in (
            ["cluster", params.name],
            ["account", "physics,biology", f"cluster={params.name}"],
            ["user", "alice", "account=physics"],
            ["user", "bob", "account=biology"],
        ):
            run("accounts", ["sacctmgr", "-i", "add", *words], "sacctmgr refused")
        licences = [] if params.bare else pool.licence_commands(params)
        for words in licences + (lupine.licence_commands(params.name) if params.lupine else []):
            run("accounts", ["sacctmgr", "-i", *words], "sacctmgr refused")


def start_slurm(params: LabParams) -> None:
    """slurmctld and a slurmd in each node's namespaces."""
    with step("slurmctld"):
        daemon = start("slurmctld", ["slurmctld", "-D"], user="slurm")
        wait("slurmctld", daemon, lambda: answers(["scontrol", "ping"], "is UP"), "answering")
    with step(f"slurmd on {', '.join(params.all_nodes)}"):
        daemons = {}
        for node in params.all_nodes:
            Path("/var/spool/slurmd", node).mkdir(parents=True, exist_ok=True)
            daemons[node] = start(f"slurmd-{node}", ["slurmd", "-D", "-N", node], node=node)
        for node, daemon in daemons.items():
            ready = ["sinfo", "-h", "-N", "-n", node, "-o", "%t"]
            wait(f"slurmd-{node}", daemon, lambda ready=ready: answers(ready, "idle\n"), "idle in sinfo")


def start_nodes(params: LabParams) -> None:
    """Make each node's namespaces; on GPU nodes the stand-in GPUs, elsewhere no NVML library."""
    with step("nodes"):
        cover = state.NVML_FOLDER
        Path(cover).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "no-nvml", cover], check=True)
        counts = gpu_counts(params)
        capabilities = {node.name: node.capabilities for node in local.nodes(params)}
        for node in params.all_nodes:
            uncover = cover if node in counts else None
            NODES[node] = spaces.make_node(node, counts.get(node, 0), uncover, capabilities.get(node))
        for server in measured_servers(params):
            NODES[server.name] = spaces.make_node(server.name, server.gpus, cover)
        spaces.write_table(NODES)
    with step("stand-in GPUs"):
        for node in gpu_counts(params):
            # The system's Python and the source tree: of the project a bare lab has nothing.
            argv = ["/usr/bin/python3", "-m", "slurm_gpushare.lab.standins.gpu.daemon"]
            argv += ["--config", state.GPU_CONFIG.format(node=node), "--socket", GPU_SOCKET]
            in_node(node, lambda: os.mkdir(os.path.dirname(GPU_SOCKET), 0o755))
            daemon = start(f"gpu-{node}", argv, node=node, environment={"PYTHONPATH": state.SOURCE_INSIDE})
            wait(f"gpu-{node}", daemon, lambda node=node: in_node(node, lambda: os.stat(GPU_SOCKET)), "listening")


def gpu_counts(params: LabParams) -> dict[str, int]:
    """Return the nodes that have GPUs of their own and how many."""
    return dict.fromkeys(params.gpu_nodes, params.gpus) | {node.name: node.gpus for node in local.nodes(params)}


def measured_servers(params: LabParams) -> list[pool.PoolServer]:
    """Return the servers of the pool that have an agent: those whose GPUs Slurm places."""
    return [] if params.bare or params.pool_placement == "flat" else pool.servers(params)


def in_node(node: str, act: Callable[[], object]) -> bool:
    """Do ``act`` in the mount namespace of ``node``; returns whether it raised nothing."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            spaces.enter(NODES[node])
            act()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def install(params: LabParams) -> None:
    """Install the stand-ins, and the project as an administrator would."""
    parts = ["bitfusion", *(name for name in ("lupine", "mps", "hami") if getattr(params, name))]
    for part in ["gpu", *([] if params.bare else parts)]:
        with step(f"stand-in {part}: build"):
            argv = ["make", "-C", f"{STANDINS}/{part}", "install"]
            run(f"install-{part}", argv, "the stand-in could not be installed")
    if params.bare:
        # In its own place, which apt knows alone.
        os.rename("/usr/bin/systemctl", SYSTEMCTL)
        shutil.copy(f"{STANDINS}/systemd/systemctl.sh", "/usr/bin/systemctl")
        os.chmod("/usr/bin/systemctl", 0o755)
        Path(SYSTEMD).mkdir(parents=True)
        return
    with step("slurm-gpushare: make install"):
        # The lab has no network: what the build needs is in its virtual environment.
        argv = ["make", "-C", state.SOURCE_INSIDE, "install"]
        run("install", argv, "the project could not be installed")


def start_pool(params: LabParams) -> None:
    """The servers of the GPU pool."""
    with step("GPU pool"):
        daemons = {}
        for server in pool.servers(params):
            argv = [PYTHON, "-m", "slurm_gpushare.lab.standins.bitfusion.server", "--config", server.config]
            daemons[server] = start(server.daemon, argv)
        for server, daemon in daemons.items():
            ready = f"[{server.address}]: ok"
            wait(server.daemon, daemon, lambda ready=ready: answers(["bitfusion", "health"], ready), "healthy")
        for server in measured_servers(params):
            # The server is started in the view of all; only its own host has its devices.
            link = os.path.dirname(GPU_SOCKET)
            if not in_node(server.name, lambda server=server, link=link: os.symlink(server.devices, link)):
                raise Failed("GPU pool", f"{server.name} could not be given its devices", None)


def start_lupine() -> None:
    """The LUPINE server."""
    with step("LUPINE server"):
        argv = [PYTHON, "-m", "slurm_gpushare.lab.standins.lupine.server", "--config", lupine.CONFIG]
        daemon = start("lupine", argv, environment={"LUPINE_PORT": str(lupine.PORT)})
        wait("lupine", daemon, lambda: listens(lupine.PORT), f"listening on port {lupine.PORT}")


def start_project(params: LabParams) -> None:
    """gpushare serve on the controller's side, gpushare agent on every node."""
    with step("gpushare serve"):
        daemon = start("serve", [COMMAND, "serve"])
        wait("serve", daemon, lambda: listens(SERVICE_PORT), f"listening on port {SERVICE_PORT}")
    with step("gpushare agent on every node"):
        agents = {}
        for node in params.all_nodes:
            agents[node] = start(f"agent-{node}", [COMMAND, "agent", "--node", node], node=node)
        for node, daemon in agents.items():
            there = f"/run/gpushare/{node}/agent.sock"
            wait(f"agent-{node}", daemon, lambda there=there: os.path.exists(there), f"listening on {there}")
        for server in measured_servers(params):
            start(f"agent-{server.name}", [COMMAND, "agent", "--server", server.name], node=server.name)
    for node in params.all_nodes:  # what gpushare-sweep.timer does where there is systemd
        start(f"sweep-{node}", ["sh", "-c", f"while sleep 20; do {SWEEP} {node}; done"], node=node)


def come_up(params: LabParams) -> None:
    """Start everything; raises Failed."""
    for path in (state.RUN_INSIDE, "/run/lab/proc", "/run/lab/dev", "/run/lock"):
        Path(path).mkdir(parents=True, exist_ok=True)
    os.chmod("/run/lab", 0o700)
    # bubblewrap masks parts of its /proc; without a whole one the kernel lets no user namespace mount its own.
    subprocess.run(["mount", "-t", "proc", "proc", "/run/lab/proc"], check=True)
    install(params)
    start_base()
    start_accounting(params)
    start_nodes(params)
    if not params.bare:
        start_pool(params)
        if params.lupine:
            start_lupine()
    start_slurm(params)
    if not params.bare:
        start_project(params)
    Path(state.READY_INSIDE).touch()


def main(argument: str) -> int:
    """Bring the lab up, then reap whatever ends, for ever."""
    os.umask(0o022)
    del os.environ["PYTHONPATH"]  # every other program runs what was installed
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    try:
        come_up(LabParams(**json.loads(argument)))
    except Failed as error:
        say({"failed": error.step, "why": error.why, "log": error.log})
        return 1
    say({"ready": True})
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            signal.pause()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
