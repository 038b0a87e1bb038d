"""The agent of one node: samples its GPUs, divides them among the running jobs, leaves a record at each job's end.

One thread and one loop: a sample each interval, the socket on which the epilog says `end JOBID`, and the samplers of
pool jobs. Sending is another thread's. Jobs run whether or not this process does. On a server of a pool (--server) the
same loop samples the server's GPUs, and another thread asks Slurm which jobs have them.
"""

import argparse
import fcntl
import functools
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable

from slurm_gpushare.errors import BrokenInstallation, GpushareError
from slurm_gpushare.metrics.end_socket import EndSocket
from slurm_gpushare.metrics.http_door import HttpDoor
from slurm_gpushare.metrics.live_sender import LiveSender
from slurm_gpushare.metrics.lost import LostGpus, WatchedNvml
from slurm_gpushare.metrics.meter import Meter
from slurm_gpushare.metrics.sender import Sender
from slurm_gpushare.metrics.server import ServerMeter
from slurm_gpushare.metrics.server_jobs import JobWatch, fetch_jobs, find_backend
from slurm_gpushare.metrics.spool import Spool
from slurm_gpushare.node_policy import read_node_policy
from slurm_gpushare.paths import (
    NODE_POLICY,
    NODE_STATE_DIR,
    PYTHON,
    RUN_DIR,
    SPOOL_DIR,
    agent_socket,
    node_dir,
    spool_dir,
)


def log(line: str) -> None:
    """Write one event as one line to stderr, which systemd keeps with its time."""
    print("gpushare-agent: " + line.replace("\n", " "), file=sys.stderr, flush=True)


def serve(
    meter: Meter | ServerMeter,
    ends: EndSocket | None,
    selector: selectors.BaseSelector,
    interval: float,
    stopped: Callable[[], bool],
    told: Callable[[], None] = lambda: None,
) -> None:
    """Run the loop until ``stopped()``; ``told()`` is called after each sample."""
    due = time.monotonic()
    watched: set[int] = set()
    while not stopped():
        now = time.monotonic()
        if now >= due:
            meter.tick()
            told()
            if ends is not None:
                ends.sweep()
            # A late tick is not made up for: two samples at once would say nothing.
            due = max(due + interval, now)
        streams = meter.streams()
        for descriptor in watched - set(streams):
            selector.unregister(descriptor)
        for descriptor in set(streams) - watched:
            selector.register(descriptor, selectors.EVENT_READ)
        watched = set(streams)
        for key, _ in selector.select(max(0.0, due - time.monotonic())):
            if key.data is not None:
                key.data()
            elif key.fd in meter.streams():
                meter.streams()[key.fd].readable(time.monotonic())


def default_node() -> str:
    """Return Slurm's name of this node: SLURMD_NODENAME, else the host's name up to its first dot."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname().partition(".")[0]


def metrics_address(text: str) -> str:
    """Return ``text`` if it is HOST:PORT; raises ArgumentTypeError otherwise."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT: write one such as 0.0.0.0:6828")
    return text


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the agent's arguments."""
    parser = argparse.ArgumentParser(prog="gpushare agent", description="Measure what jobs use of this node's GPUs.")
    parser.add_argument("--node", default=default_node(), help="Slurm's name of this node (default: %(default)s)")
    parser.add_argument(
        "--server", help="measure the GPUs of this server of a pool instead; its name in the policy's servers"
    )
    parser.add_argument("--policy", default=NODE_POLICY, help="compiled policy (default: %(default)s)")
    parser.add_argument("--run-dir", default=RUN_DIR, help="where prolog leaves launch records (default: %(default)s)")
    parser.add_argument("--state-dir", default=NODE_STATE_DIR, help="where jobs have folders (default: %(default)s)")
    parser.add_argument("--spool-dir", default=SPOOL_DIR, help="where records wait to be sent (default: %(default)s)")
    parser.add_argument(
        "--metrics",
        type=metrics_address,
        metavar="HOST:PORT",
        help="where Prometheus finds /metrics (default: the policy's agent.metrics); on a machine with several slurmd"
        " each agent needs one of its own",
    )
    parser.add_argument("--python", default=PYTHON, help="samples in a pool's allocation (default: %(default)s)")
    return parser


def run(options: argparse.Namespace) -> int:
    """Run the agent until SIGTERM or SIGINT."""
    policy = read_node_policy(options.policy)
    # A server may be a node too, of the same name and with an agent of its own.
    name = options.node if options.server is None else f"server-{options.server}"
    backend = None if options.server is None else find_backend(options.server, policy)
    folder = node_dir(name, options.run_dir)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    lock = os.open(os.path.join(folder, "agent.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BrokenInstallation(f"{folder}: another agent runs for it: stop it first") from None
    spool = Spool(spool_dir(name, options.spool_dir))
    sender = None if policy.service is None else Sender(spool, policy.service, log)
    live = None if policy.service is None else LiveSender(policy.service, log)
    selector = selectors.DefaultSelector()
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, frame: stop.append(received))
    wake, woken = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())  # so that a signal between the check and select ends select
    selector.register(woken, selectors.EVENT_READ, lambda: woken.recv(64))
    spooled = (lambda: None) if sender is None else sender.wake
    lost = LostGpus(folder, log)
    nvml = WatchedNvml(lost, say=log, accounting=True)
    watch = ends = None
    if backend is None:
        paths = {"run_dir": options.run_dir, "state_dir": options.state_dir, "python": options.python}
        meter = Meter(options.node, policy, spool, nvml=nvml, say=log, spooled=spooled, **paths)
        measure, figures = meter.live, meter.figures
        ends = EndSocket(agent_socket(options.node, options.run_dir), selector, meter.end)
    else:
        watch = JobWatch(lambda: fetch_jobs(options.server, policy.slices_per_gpu), log)
        longest = 2 * policy.agent_interval + 10
        latest, server = lambda: watch.latest, options.server
        meter = ServerMeter(backend, spool, nvml, latest, time.time, longest, log, spooled, server)
        measure = functools.partial(meter.live, options.server)
        figures = functools.partial(meter.figures, options.server)
        watch.start()
    if sender is not None:
        sender.start()
        live.start()
    door = None
    if address := options.metrics or policy.metrics:
        door = HttpDoor(address, selector, figures, policy.metrics_series, spool.unsent, log)
        door.start()
    told = (lambda: None) if live is None else functools.partial(live.offer, measure)
    what = f"node {options.node}" if backend is None else f"server {options.server} of {backend}"
    log(f"{what}: a sample every {policy.agent_interval:g} s, records to {policy.service or 'the spool alone'}")
    try:
        serve(meter, ends, selector, policy.agent_interval, lambda: bool(stop), told)
    finally:
        meter.close()
        lost.forget()
        if door is not None:
            door.stop()
        if watch is not None:
            watch.stop()
        if sender is not None:
            sender.stop()
            live.stop()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Command line of the agent; returns its exit status."""
    try:
        return run(build_parser().parse_args(arguments))
    except (GpushareError, OSError) as error:
        print(f"gpushare: {error}", file=sys.stderr)
        return error.exit_status if isinstance(error, GpushareError) else 1


if __name__ == "__main__":
    sys.exit(main())
