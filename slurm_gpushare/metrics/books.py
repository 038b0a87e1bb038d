"""What an agent adds up, and how it outlives the agent: the runs, the GPU's hours, records that nobody took yet.

All changes go through here into the checkpoint, so that the next agent goes on where this one ended: with the sums of
jobs that still run, and with the records of those that ended meanwhile.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from slurm_gpushare.errors import GrantError
from slurm_gpushare.launch import LaunchRecord, record_from_json, record_to_json
from slurm_gpushare.metrics.accumulate import Accumulator
from slurm_gpushare.metrics.checkpoint import Checkpoint
from slurm_gpushare.metrics.gaps import AGENT_DOWN
from slurm_gpushare.metrics.gpu_hours import GpuHours
from slurm_gpushare.metrics.spool import Outbox, of_line, to_line
from slurm_gpushare.usage import UsageRecord

VERSION = 1

Key = tuple[int, float]  # job id, when it started: tells two runs of a requeued job apart

_BOOT = "/proc/sys/kernel/random/boot_id"


class Run(Protocol):
    """One run of a job while it is measured."""

    record: LaunchRecord

    def sums(self) -> dict[int, Accumulator]:
        """Return its sums, by a number that stays the same."""

    def memo(self) -> list:
        """Return what else must be known to go on with it, as JSON has it."""


def key_of(record: LaunchRecord) -> Key:
    """Return what names the run."""
    return record.job_id, record.started


class Books:
    """The runs that are measured, those that ended, and the GPU's hours."""

    def __init__(self, checkpoint: Checkpoint, outbox: Outbox, hours: GpuHours, say: Callable[[str], None]):
        self.runs: dict[Key, Run] = {}
        self.ended: set[Key] = set()  # recorded, and not to be counted again
        self.hours = hours
        self.powers: dict[str, Sequence[float | None]] = {}  # by GPU: Track.powers
        self._cluster: str | None = None
        self._checkpoint = checkpoint
        self._outbox = outbox
        self._say = say
        self._begun: list[Key] = []
        self._gone: list[Key] = []
        self._boot = _boot_id()

    def load(self, make: Callable[[LaunchRecord, list, bool], Run]) -> None:
        """Take up what an earlier agent left.

        ``make`` returns a run with sums of nothing yet, of its launch record, its memo, and whether the machine is
        still the same boot; it raises TypeError or ValueError where the memo is none.
        """
        lines = self._checkpoint.load()
        if lines and lines[0].get("v") != VERSION:
            self._say(f"what was measured of running jobs is of version {lines[0].get('v')!r}, and is not taken up")
            lines = []
        left: dict[Key, dict] = {}
        for line in lines:
            try:
                self._read(line, left)
            except (KeyError, TypeError, ValueError, AttributeError, GrantError) as error:
                self._say(f"what was measured of running jobs is taken up in part: {type(error).__name__} {error}")
                break
        same_boot = bool(lines) and lines[0].get("boot") == self._boot
        for key, item in left.items():
            try:
                run = make(record_from_json(item["record"]), item["memo"], same_boot)
                for number, sums in run.sums().items():
                    sums.restore(item["sums"][str(number)])
                    sums.replay(item["news"].get(str(number), []))
                    sums.because(AGENT_DOWN)
                self.runs[key] = run
            except (KeyError, TypeError, ValueError, AttributeError, GrantError) as error:
                self._say(f"job {key[0]}: what was measured of it is not taken up: {type(error).__name__} {error}")
        if self.runs:
            self._say("taken up again: " + ", ".join(f"job {job_id}" for job_id, _ in sorted(self.runs)))

    def begin(self, run: Run) -> None:
        """Take up a run."""
        key = key_of(run.record)
        self.runs[key] = run
        self._begun.append(key)
        self._cluster = run.record.cluster

    def finish(self, key: Key, records: Sequence[UsageRecord]) -> bool:
        """Close a run; return whether all that there is to write is on disk."""
        del self.runs[key]
        self._gone.append(key)
        written = self.write(records)
        self.save(sync=True)
        return written

    def write(self, records: Sequence[UsageRecord] = ()) -> bool:
        """Write ``records`` and what could not be written before; return whether nothing is left."""
        if self._outbox.write(records):
            return True
        self._checkpoint.close()  # what is left has its place in a snapshot alone
        return False

    def close_hours(self, now: float, open_too: bool = False) -> None:
        """Write the GPU's hours that are over at ``now`` (seconds since the epoch); ``open_too``: all."""
        self.write(self.hours.records(self._cluster, now, open_too))

    def save(self, sync: bool = False) -> None:
        """Leave all that changed for the next agent; ``sync``: on disk when this returns."""
        begun = [self._run(self.runs[key]) for key in self._begun if key in self.runs]
        # Of those that begin here the sums have all, the news too.
        news = {key: (run.memo(), _news(run)) for key, run in self.runs.items()}
        gone, hours = self._gone, self.hours.news()
        fresh, self._begun, self._gone = set(self._begun), [], []
        if self._checkpoint.due:
            self._checkpoint.replace(self._snapshot())
            return
        entry = {
            "begun": begun,
            "runs": [[*key, memo, changed] for key, (memo, changed) in news.items() if key not in fresh],
            "gone": [list(key) for key in gone],
            "ended": sorted(self.ended),
            "hours": hours,
        }
        entry = {name: value for name, value in entry.items() if value or name == "ended"}
        self._checkpoint.append(entry, sync)

    def close(self) -> None:
        """Leave all for the next agent, and end."""
        self._checkpoint.close()
        self.save()
        self._checkpoint.close()

    def _snapshot(self) -> dict:
        return {
            "v": VERSION,
            "boot": self._boot,
            "cluster": self._cluster,
            "begun": [self._run(run) for run in self.runs.values()],
            "ended": sorted(self.ended),
            "hours": self.hours.state(),
            "powers": self.powers,
            "waiting": [to_line(record) for record in self._outbox.waiting],
        }

    @staticmethod
    def _run(run: Run) -> dict:
        sums = {str(number): each.state() for number, each in run.sums().items()}
        return {"record": record_to_json(run.record), "memo": run.memo(), "sums": sums}

    def _read(self, line: dict, left: dict[Key, dict]) -> None:
        """Take one line of the checkpoint; ``left``: what is known of the runs so far."""
        for item in line.get("begun", ()):
            record = record_from_json(item["record"])
            left[key_of(record)] = {**item, "news": {}}
            self._cluster = record.cluster
        for job_id, started, memo, changed in line.get("runs", ()):
            item = left[int(job_id), float(started)]
            item["memo"] = memo
            for number, news in changed.items():
                item["news"].setdefault(number, []).extend(news)
        for job_id, started in line.get("gone", ()):
            left.pop((int(job_id), float(started)), None)
        self.ended = {(int(job_id), float(started)) for job_id, started in line["ended"]}
        self.hours.restore(line.get("hours", ()))
        self.powers |= {gpu: (least, least_idle) for gpu, (least, least_idle) in line.get("powers", {}).items()}
        self._cluster = line.get("cluster") or self._cluster
        self._outbox.waiting += [of_line(text) for text in line.get("waiting", ())]


def _news(run: Run) -> dict[str, list]:
    found = {str(number): each.news() for number, each in run.sums().items()}
    return {number: news for number, news in found.items() if news}


def _boot_id() -> str | None:
    try:
        with open(_BOOT, encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return None
