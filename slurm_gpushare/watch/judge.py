"""Which jobs hold more memory of a GPU than their share, and have done so for long enough. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from slurm_gpushare.launch import LaunchRecord
from slurm_gpushare.metrics.readings import GpuReading, slurm_number

Run = tuple[int, float]  # a job and when its prolog ran, which tells two runs of a requeued job apart

# One sample kills nobody: a framework that loads a model, or NVML in the moment of a process's end, may show a peak.
LONG = 5.0  # seconds over the share ...
SAMPLES = 3  # ... and so many samples, each of them over it
# It is told again only after it was this much below.
WELL_BELOW = 0.9


@dataclass(frozen=True)
class Holding:
    """What one job holds of one GPU, in bytes; ``held`` None where NVML did not say."""

    run: Run
    gpu: int  # Slurm's number
    held: int | None
    share: int


@dataclass(frozen=True)
class Over:
    """A job that has held more than its share for long enough."""

    holding: Holding
    first: bool  # not said since it was well below its share


def run_of(record: LaunchRecord) -> Run:
    """Return what tells this run from every other."""
    return record.job_id, record.started


def holdings(
    records: Iterable[LaunchRecord], readings: Iterable[GpuReading], owners: Mapping[int, int | None]
) -> list[Holding]:
    """Return what each job holds of each GPU of its own, all its processes together.

    ``owners`` is the job of each pid. A job without a grant has its GPUs to itself and is left out, as is one whose
    share in bytes is not known: neither the grant has it nor NVML the size of the GPU. A process whose memory NVML does
    not say counts as nothing beside others; where none is known, the sum is not.
    """
    by_number = {slurm_number(reading): reading for reading in readings if not reading.part}
    found = []
    for record in records:
        for number in record.gpus if record.grant is not None else ():
            reading = by_number.get(number)
            share = record.grant.memory
            if share is None and reading is not None and reading.memory_total is not None:
                share = int(record.grant.fraction * reading.memory_total)
            if share is None:
                continue
            held = None
            if reading is not None and reading.processes is not None:
                own = [each.memory for each in reading.processes if owners.get(each.pid) == record.job_id]
                known = [memory for memory in own if memory is not None]
                held = sum(known) if known or not own else None
            found.append(Holding(run_of(record), number, held, share))
    return found


@dataclass
class _State:
    since: float | None = None  # when the first of the samples over the share was
    samples: int = 0
    told: bool = False


class Judge:
    """What was seen so far of each job on each GPU."""

    def __init__(self, long: float = LONG, samples: int = SAMPLES):
        self._long = long
        self._samples = samples
        self._states: dict[tuple[Run, int], _State] = {}

    def step(self, now: float, seen: Iterable[Holding]) -> list[Over]:
        """Take the holdings of one moment (seconds of any clock that only grows); return all that are over by now.

        One that is not among ``seen`` any more is forgotten. One that is not known begins anew.
        """
        before, self._states = self._states, {}
        over = []
        for each in seen:
            state = self._states[each.run, each.gpu] = before.get((each.run, each.gpu), _State())
            if each.held is None or each.held <= each.share:
                state.since, state.samples = None, 0
                if each.held is not None and each.held <= WELL_BELOW * each.share:
                    state.told = False
                continue
            state.since = now if state.since is None else state.since
            state.samples += 1
            if state.samples >= self._samples and now - state.since >= self._long:
                over.append(Over(each, not state.told))
                state.told = True
        return over
