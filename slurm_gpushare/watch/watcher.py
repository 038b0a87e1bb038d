"""The memory watcher of one node: samples its GPUs, and warns or ends jobs that hold more memory than their share.

A process of its own beside the agent: metrics may fail without this, and this without metrics. It leaves nothing on
the node and keeps nothing: started anew, it counts anew.
"""

import argparse
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from slurm_gpushare.errors import BrokenInstallation, GpushareError
from slurm_gpushare.metrics.agent import default_node
from slurm_gpushare.metrics.jobs import JobFolders, ProcessTracer
from slurm_gpushare.metrics.nvml import Nvml
from slurm_gpushare.node_policy import NodePolicy
from slurm_gpushare.paths import NODE_POLICY, RUN_DIR, node_dir
from slurm_gpushare.watch.act import Actor
from slurm_gpushare.watch.judge import Judge, Run, holdings, run_of
from slurm_gpushare.watch.limits import Limits
from slurm_gpushare.watch.policy_file import PolicyFile
from slurm_gpushare.watch.words import reason, told

INTERVAL = 1.0  # seconds between two samples


def log(line: str) -> None:
    """Write one event as one line to stderr, which systemd keeps with its time."""
    print("gpushare-watch: " + line.replace("\n", " "), file=sys.stderr, flush=True)


class Watcher:
    """The jobs of one node whose policy says that they are watched."""

    def __init__(
        self,
        node: str,
        policy: Callable[[], NodePolicy],
        folders: JobFolders,
        nvml: Nvml,
        tracer: ProcessTracer,
        actor: Actor,
        say: Callable[[str], None],
        judge: Judge | None = None,
        limits: Limits | None = None,
    ):
        self._node = node
        self._policy = policy
        self._folders = folders
        self._nvml = nvml
        self._tracer = tracer
        self._actor = actor
        self._say = say
        self._judge = judge or Judge()
        self._limits = limits or Limits(nvml.limit_memory, say)

    def tick(self, now: float) -> None:
        """Sample the GPUs of watched jobs once, and do what the policy says of those that are over by ``now``."""
        backends = self._policy().backends
        records = self._folders.scan()
        watched = {
            run_of(record): (record, backends[record.grant.backend].over_memory)
            for record in records.values()
            if record.grant is not None
            and record.grant.backend in backends
            and backends[record.grant.backend].over_memory != "off"
        }
        numbers = {number for record, _ in watched.values() for number in record.gpus}
        readings = [each for each in self._nvml.read(numbers) if each.fault is None] if numbers else []
        pids = {each.pid for reading in readings for each in reading.processes or ()}
        # Of all jobs, so that a process of one that is not watched is no other's.
        owners = {pid: job for pid, (_, job) in self._tracer.trace(pids, records).items()}
        held = holdings((record for record, _ in watched.values()), readings, owners)
        self._limits.hold(
            (record for record, way in watched.values() if way == "kill"),
            {(each.run, each.gpu): each.share for each in held},
        )
        for over in self._judge.step(now, held):
            holding = over.holding
            kill = watched[holding.run][1] == "kill"
            text = told(holding, self._node, kill)
            if over.first:
                self._say(f"{'kill' if kill else 'warn'}: {text}")
            if kill:
                self._actor.end(holding.run, text, reason(holding, self._node))
            elif over.first:
                self._actor.warn(holding.run, text)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the watcher's arguments."""
    parser = argparse.ArgumentParser(
        prog="gpushare watch",
        description="Warn or end jobs that hold more GPU memory than their share.",
    )
    parser.add_argument("--node", default=default_node(), help="Slurm's name of this node (default: %(default)s)")
    parser.add_argument("--policy", default=NODE_POLICY, help="compiled policy (default: %(default)s)")
    parser.add_argument("--run-dir", default=RUN_DIR, help="where prolog leaves launch records (default: %(default)s)")
    return parser


def run(options: argparse.Namespace) -> int:
    """Run the watcher until SIGTERM or SIGINT."""
    policy = PolicyFile(options.policy, log)
    folder = node_dir(options.node, options.run_dir)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    lock = os.open(os.path.join(folder, "watch.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BrokenInstallation(f"{folder}: another watcher runs for it: stop it first") from None
    jobs = os.path.join(folder, "jobs")

    def runs(one: Run) -> bool:
        record = JobFolders(jobs).scan().get(one[0])
        return record is not None and run_of(record) == one

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, frame: stop.set())
    nvml = Nvml(say=log)
    actor = Actor(runs, log)
    watcher = Watcher(options.node, policy.read, JobFolders(jobs, log), nvml, ProcessTracer(options.node), actor, log)
    actor.start()
    ways = {name: backend.over_memory for name, backend in sorted(policy.read().backends.items())}
    log(f"node {options.node}: " + (", ".join(f"{name}: {way}" for name, way in ways.items()) or "no backends"))
    try:
        while not stop.wait(INTERVAL):
            watcher.tick(time.monotonic())
    finally:
        actor.stop()
        nvml.close()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Command line of the watcher; returns its exit status."""
    try:
        return run(build_parser().parse_args(arguments))
    except (GpushareError, OSError) as error:
        print(f"gpushare: {error}", file=sys.stderr)
        return error.exit_status if isinstance(error, GpushareError) else 1


if __name__ == "__main__":
    sys.exit(main())
