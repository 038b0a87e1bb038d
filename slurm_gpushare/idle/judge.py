"""For how long each job has held its share without use. Pure.

Time counts only where agents measured the use in it, and what they counted meanwhile is not lost when this is started
anew or cannot ask for a while: they send sums from the job's start, not what is so just now.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from slurm_gpushare.idle.measured import Part, Source

# Where more than this of the time between two answers was not measured, the job may have used its share in it.
GAP = 60.0  # seconds
# A short use in a long time between two answers is a use all the same: the threshold is a mean over this at most.
MEAN = 60.0  # seconds
# What has not been told of for so long is forgotten.
_FORGOTTEN = 3600.0  # seconds


@dataclass
class _State:
    last: Part
    unused: float  # measured seconds since the last use


class Judge:
    """What was seen so far of each job."""

    def __init__(self):
        self._states: dict[int, dict[Source, _State]] = {}

    def step(self, seen: Mapping[int, Mapping[Source, Part]], now: float, wall: float, threshold: float) -> None:
        """Take what was measured up to one moment.

        ``now`` is of the same clock as Part.at, ``wall`` is that moment in seconds since the epoch; up to ``threshold``
        of a GPU counts as no use.
        """
        for job, measured in seen.items():
            states = self._states.setdefault(job, {})
            for source, part in measured.items():
                before = states.get(source)
                if before is None or before.last.started != part.started:
                    # Its first seconds were measured too: a job that never used its GPU is idle from its start.
                    start = min(part.at, now - max(0.0, wall - part.started))
                    before = _State(Part(start, part.started, 0.0, 0.0, part.gpus), 0.0)
                states[source] = _next(before, part, threshold)
        for job, states in list(self._states.items()):
            self._states[job] = {s: state for s, state in states.items() if now - state.last.at < _FORGOTTEN}
            if not self._states[job]:
                del self._states[job]

    def unused(self, job: int, sources: Iterable[Source]) -> float:
        """Return the measured seconds since any of ``sources`` last saw the job use a GPU; 0 where one is not known."""
        states = self._states.get(job, {})
        return min((states[each].unused if each in states else 0.0 for each in sources), default=0.0)

    def knows(self, job: int) -> bool:
        """Tell whether the job was told of lately."""
        return job in self._states

    def begin_anew(self, job: int) -> None:
        """Count the time of a job from now on, as if it had just used its share."""
        for state in self._states.get(job, {}).values():
            state.unused = 0.0


def _next(before: _State, part: Part, threshold: float) -> _State:
    elapsed = part.at - before.last.at
    if elapsed <= 0:
        return before  # the same sample once more
    measured, used = part.measured - before.last.measured, part.used - before.last.used
    if measured < 0 or used < 0:
        measured, used = part.measured, part.used  # an agent that was started anew counts from nothing
    known = elapsed - measured <= GAP
    if not known or not part.believed or used > threshold * min(elapsed, MEAN):
        return _State(part, 0.0)
    return _State(part, before.unused + min(measured, elapsed))
