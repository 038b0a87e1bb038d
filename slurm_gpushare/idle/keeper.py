"""`gpushare idle`: asks what is measured, finds jobs that do not use their share, warns their owners, then acts.

One for the whole cluster, on a host with Slurm's commands and munge: a job is idle when all its GPUs on all its nodes
are, and what jobs use in a pool only agents know. It keeps nothing on disk: agents count.
"""

import argparse
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from slurm_gpushare.accounting.client import live
from slurm_gpushare.errors import BrokenInstallation, GpushareError, StoreError
from slurm_gpushare.idle import candidate, words
from slurm_gpushare.idle.candidate import REQUEUE, WARN
from slurm_gpushare.idle.judge import Judge
from slurm_gpushare.idle.measured import Part, Source, parts
from slurm_gpushare.node_policy import IdlePolicy, NodePolicy
from slurm_gpushare.paths import NODE_POLICY
from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.status.jobs import HeldJob
from slurm_gpushare.watch.act import AGAIN, Actor
from slurm_gpushare.watch.judge import Run
from slurm_gpushare.watch.policy_file import PolicyFile

LOCK_DIR = "/run/gpushare-idle"

_LONGEST_PAUSE = 30.0  # seconds between two questions to the service
# Slurm is not asked at each of them for a job that is exempt, or not wholly measured.
_REST = 300.0  # seconds


def log(line: str) -> None:
    """Write one event as one line to stderr, which systemd keeps with its time."""
    print("gpushare-idle: " + line.replace("\n", " "), file=sys.stderr, flush=True)


def pause(policy: IdlePolicy | None) -> float:
    """Return the seconds until the service is asked again: less than what the policy's times need to be kept."""
    if policy is None:
        return 5.0
    return max(1.0, min(_LONGEST_PAUSE, policy.after / 10, policy.grace / 10 or _LONGEST_PAUSE))


@dataclass
class _Told:
    at: float  # when its owner was told
    acting: bool = False  # it is being ended


class Keeper:
    """The jobs of the cluster that the service knows of."""

    def __init__(
        self,
        policy: Callable[[], NodePolicy],
        actor: Actor,
        say: Callable[[str], None],
        ask: Callable[[str], dict] = live,
        fetch: Callable[[set[int]], dict[int, HeldJob]] = candidate.fetch,
        wall: Callable[[], float] = time.time,
    ):
        self._policy = policy
        self._actor = actor
        self._say = say
        self._ask = ask
        self._fetch = fetch
        self._wall = wall
        self._judge = Judge()
        self._told: dict[int, _Told] = {}
        self._rests: dict[int, float] = {}  # job: until when nothing is asked of it
        self._last: NodePolicy | None = None
        self._trouble = ""

    def tick(self, now: float) -> None:
        """Ask once, and do what the policy says of those that are idle by ``now``."""
        policy = self._policy()
        if policy != self._last:
            self._last = policy
            self._rests.clear()
        if policy.idle is None or policy.service is None:
            self._told.clear()
            if policy.idle is not None:
                self._tell("the policy names no service (agent.service), so that nothing is known of any job's use")
            return
        try:
            seen = parts(self._ask(policy.service), now)
            self._judge.step(seen, now, self._wall(), policy.idle.threshold)
            due = self._due(seen, now, policy.idle)
            jobs = self._fetch(due) if due else {}
        except (StoreError, SlurmError) as error:
            self._tell(f"nothing is judged meanwhile: {error}")
            return
        self._tell("")
        for number in sorted(due):
            self._rests[number] = now + _REST
            if number in jobs:
                self._decide(jobs[number], seen[number], now, policy.idle)

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._say(trouble or "jobs are judged again")

    def _due(self, seen: dict[int, dict[Source, Part]], now: float, policy: IdlePolicy) -> set[int]:
        """Return the jobs that may be idle for long enough and of which something is to be decided now."""
        least = min(policy.after, policy.interactive_after or policy.after)
        self._rests = {job: until for job, until in self._rests.items() if until > now}
        due = set()
        for job, measured in seen.items():
            kinds = {kind for kind, _, _ in measured}
            unused = max(self._judge.unused(job, [each for each in measured if each[0] == kind]) for kind in kinds)
            if unused < least:
                self._told.pop(job, None)
                continue
            told = self._told.get(job)
            waits = told is not None and (policy.action == WARN or now - told.at < policy.grace)
            if not waits and job not in self._rests:
                due.add(job)
        self._told = {job: told for job, told in self._told.items() if job in seen or self._judge.knows(job)}
        return due

    def _decide(self, job: HeldJob, measured: dict[Source, Part], now: float, policy: IdlePolicy) -> None:
        if job.state != "RUNNING":
            self._judge.begin_anew(job.job_id)  # Slurm has suspended it: it could not use its share
            return
        if not candidate.concerns(job, policy):
            return
        sources = candidate.sources(job, measured)
        if sources is None:
            self._say(f"job {job.name}: not all that it holds is measured, so it is not judged")
            return
        unused, after = self._judge.unused(job.job_id, sources), candidate.after(job, policy)
        if unused < after:
            self._rests[job.job_id] = now + min(_REST, after - unused)
            return
        del self._rests[job.job_id]
        self._act(job, unused, now, policy)

    def _act(self, job: HeldJob, unused: float, now: float, policy: IdlePolicy) -> None:
        run: Run = (job.job_id, float(job.since or 0))
        way, told = candidate.way(job, policy), self._told.get(job.job_id)
        if told is None:
            self._told[job.job_id] = _Told(now)
            text = words.warned(job, unused, way, policy.grace)
            self._say(f"warn: {text}")
            self._actor.warn(run, text, words.reason(job, unused, WARN))
            return
        text = words.acted(job, unused, way)
        if not told.acting:
            told.acting = True
            self._say(f"{way}: {text}")
        self._rests[job.job_id] = now + AGAIN  # Slurm may need so long, or refuse it
        act = self._actor.requeue if way == REQUEUE else self._actor.end
        act(run, text, words.reason(job, unused, way))


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = argparse.ArgumentParser(
        prog="gpushare idle", description="Warn, then end or requeue jobs that hold a share of a GPU without use."
    )
    parser.add_argument("--policy", default=NODE_POLICY, help="compiled policy (default: %(default)s)")
    parser.add_argument("--run-dir", default=LOCK_DIR, help="where its lock lies (default: %(default)s)")
    return parser


def run(options: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT."""
    policy = PolicyFile(options.policy, log)
    os.makedirs(options.run_dir, mode=0o755, exist_ok=True)
    path = os.path.join(options.run_dir, "idle.lock")
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BrokenInstallation(f"{path}: `gpushare idle` runs here already: stop it first") from None
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, frame: stop.set())
    # What is to be done is done at once, of jobs of which Slurm has just said that they run.
    actor = Actor(lambda one: True, log)
    keeper = Keeper(policy.read, actor, log)
    idle = policy.read().idle
    log("off by the policy" if idle is None else f"{idle.action} after {words.duration(idle.after)} without use")
    while True:
        keeper.tick(time.monotonic())
        actor.work()
        if stop.wait(pause(policy.read().idle)):
            return 0


def main(arguments: list[str] | None = None) -> int:
    """Command line of the idle policy; returns its exit status."""
    try:
        return run(build_parser().parse_args(arguments))
    except (GpushareError, OSError) as error:
        print(f"gpushare: {error}", file=sys.stderr)
        return error.exit_status if isinstance(error, GpushareError) else 1


if __name__ == "__main__":
    sys.exit(main())
