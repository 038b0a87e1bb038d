"""The lab's own daemons: found among all processes, killed and started again, as a test or a fault would."""

from slurm_gpushare.lab.supervisor import SERVICE_PORT
from tests.lab.cluster import Cluster, until

_POOL = "slurm_gpushare.lab.standins.bitfusion.server --config /etc/lab/pool.json"
_POOL2 = _POOL.replace("pool.json", "pool2.json")

_GPU = "slurm_gpushare.lab.standins.gpu.daemon --config /etc/lab/gpu-{}.json --socket /dev/nvidia-standin/socket"


def _agent(node: str) -> tuple[str, str, str, str]:
    return f"slurm_gpushare.metrics.agent --node {node}", "root", node, f"exec gpushare agent --node {node}"


def _gpus(node: str) -> tuple[str, str, str, str]:
    return _GPU.format(node), "root", node, f"exec /opt/gpushare/bin/python3 -m {_GPU.format(node)}"


# What ends the argv of one, as whom and on which node it is started, and how.
DAEMONS = {
    **{f"agent {node}": _agent(node) for node in ("n1", "n2", "c1", "m1", "g1", "h1")},
    "serve": ("bin/gpushare serve", "root", None, "ulimit -Sn 256; exec gpushare serve"),
    "slurmctld": ("slurmctld -D", "root", None, "exec runuser -u slurm -- slurmctld -D"),
    "slurmdbd": ("slurmdbd -D", "root", None, "exec runuser -u slurm -- slurmdbd -D"),
    **{f"slurmd {node}": (f" -N {node}", "root", node, f"exec slurmd -D -N {node}") for node in ("c1", "n1")},
    **{f"gpu-{node}": _gpus(node) for node in ("m1", "g1")},
    "pool": (_POOL, "root", None, f"exec /opt/gpushare/bin/python3 -m {_POOL}"),
    "pool2": (_POOL2, "root", None, f"exec /opt/gpushare/bin/python3 -m {_POOL2}"),
}


def pids(cluster: Cluster, daemon: str) -> list[str]:
    """Return the processes of a daemon."""
    lines = cluster.out("ps", "-eo", "pid=,args=").splitlines()
    found = (line.split(maxsplit=1) for line in lines)
    ours = ("runuser", "sh -c", "setsid")
    return [pid for pid, argv in found if argv.endswith(DAEMONS[daemon][0]) and not argv.startswith(ours)]


def kill(cluster: Cluster, daemon: str, signal: str = "KILL") -> None:
    """Send a daemon a signal; wait for its end unless it is to stop or to go on."""
    (pid,) = pids(cluster, daemon)
    cluster.run("kill", f"-{signal}", pid)
    if signal not in ("STOP", "CONT"):
        until(f"the end of {daemon}", lambda: not pids(cluster, daemon))


def start(cluster: Cluster, daemon: str) -> None:
    """Start a daemon again; the service is back when it listens, a pool server when it answers."""
    _, user, node, command = DAEMONS[daemon]
    log = "/var/log/lab/again-" + daemon.replace(" ", "-")
    cluster.run("sh", "-c", f"setsid sh -c '{command}' </dev/null >>{log} 2>&1 &", user=user, node=node)
    until(f"{daemon} again", lambda: pids(cluster, daemon))
    if daemon == "serve":
        until("serve listens", lambda: cluster.out("ss", "-Hltn", f"sport = :{SERVICE_PORT}"))
    if daemon in ("pool", "pool2"):
        until(f"an answer of {daemon}", lambda: cluster.inspect_pool(daemon).returncode == 0)


def start_those_that_are_down(cluster: Cluster, names: list[str]) -> None:
    """Start what a test has ended and not started again."""
    for name in names:
        if not pids(cluster, name):
            start(cluster, name)
