"""What a study runs: its settings, and in which order which job trains which models. Pure functions.

A case is a way to have a GPU: ``whole``, one job with all of it, or shared, by so many jobs at one time. A round runs
one case once. The first rounds of each case are its burn-in, which no figure counts. Cases take turns, so that what
changes on the machine in the meantime touches all of them.
"""

import random
import re
from dataclasses import asdict, dataclass

from slurm_gpushare.errors import RequestError

ENGINES = ("slurm", "local")
MODELS = ("inception3", "resnet50", "alexnet")  # the default, as tf_cnn_benchmarks names them
OWN_MODELS = ("alexnet", "inception3", "lenet", "resnet50")  # what job_scripts/cnn_benchmark.py has
WHOLE = "whole"
SHARED = "shared"  # the one shared case, where the way has no name: Slurm's default partition
LOCAL_WAYS = ("time-slicing", "mps", "mps-open")


@dataclass(frozen=True)
class Settings:
    """Everything that decides what is run; two studies with the same settings run the same."""

    engine: str = "slurm"
    models: tuple[str, ...] = MODELS
    jobs: int = 4  # that share the GPU at one time
    repeats: int = 5
    burn_in: int = 1  # rounds of each case before those that count
    seed: int = 1
    ways: tuple[str, ...] = ("",)  # slurm: partitions, "" for the default one; local: of LOCAL_WAYS
    whole: str = ""  # slurm: the partition of the whole GPU, "" for the first of ``ways``
    command: tuple[str, ...] = ()  # what is given --model=NAME; empty: job_scripts/cnn_benchmark.py
    arguments: tuple[str, ...] = ()  # for it
    options: tuple[str, ...] = ()  # of sbatch

    def __post_init__(self) -> None:
        """Raise RequestError, one line, for a value that cannot be used."""
        if self.engine not in ENGINES:
            raise RequestError(f"--engine={self.engine}: write {' or '.join(ENGINES)}")
        for name, value, low, high in (
            ("jobs", self.jobs, 2, 100),
            ("repeat", self.repeats, 1, 1000),
            ("burn-in", self.burn_in, 0, 100),
        ):
            if not low <= value <= high:
                raise RequestError(f"--{name}={value}: write a number from {low} to {high}")
        for name, values, form in (("models", self.models, r"[\w.-]+"), ("ways", self.ways, r"[\w.-]*")):
            for value in values:
                if not re.fullmatch(form, value):
                    raise RequestError(f"--{name}: {value!r} is no name: write letters, digits, '_', '.' and '-'")
            if not values or len(set(values)) < len(values):
                raise RequestError(f"--{name}={','.join(values)}: write each name once, and at least one")
        if not self.command:
            for model in self.models:
                if model not in OWN_MODELS:
                    raise RequestError(f"--models: no model {model}: write some of {', '.join(OWN_MODELS)}")
        if WHOLE in self.ways:
            raise RequestError(f"--ways: {WHOLE} is the name of the case without sharing: name the partition otherwise")
        if self.engine == "local":
            for way in self.ways:
                if way not in LOCAL_WAYS:
                    raise RequestError(f"--ways: {way!r} with --engine=local: write some of {', '.join(LOCAL_WAYS)}")
            for name, value in (("--whole", self.whole), ("sbatch's options", self.options)):
                if value:
                    raise RequestError(f"{name}: --engine=local does not use Slurm: leave them out")
        for option in self.options:
            if not option.startswith("-"):
                raise RequestError(f"{option}: write sbatch's options in the form --name=value")

    @property
    def fraction(self) -> float:
        """The share of each job, in whole hundredths."""
        return (100 // self.jobs) / 100

    @property
    def cases(self) -> tuple[str, ...]:
        """The names of the cases, ``whole`` first."""
        return (WHOLE, *(way or SHARED for way in self.ways))

    def to_dict(self) -> dict:
        """Return the settings as JSON gives them back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Round:
    """One run of one case; ``orders`` has for each of its jobs the models in the order in which it trains them."""

    case: str
    number: int  # from 1; 0 and below: burn-in
    orders: tuple[tuple[str, ...], ...]

    @property
    def counts(self) -> bool:
        """Whether it is more than burn-in."""
        return self.number > 0

    @property
    def name(self) -> str:
        """What people and files call it."""
        return f"{self.case}-{self.number}" if self.counts else f"{self.case}-burn-in{1 - self.number}"


def rounds(settings: Settings) -> list[Round]:
    """Return the rounds of a study in their order."""
    return [
        Round(case, number, _orders(settings, case, number))
        for number in range(1 - settings.burn_in, settings.repeats + 1)
        for case in settings.cases
    ]


def _orders(settings: Settings, case: str, number: int) -> tuple[tuple[str, ...], ...]:
    if case == WHOLE:
        return (settings.models,)
    # Of text: the same on every Python, and for each round whichever others there are.
    chance = random.Random(f"{settings.seed}/{case}/{number}")
    return tuple(tuple(chance.sample(settings.models, len(settings.models))) for _ in range(settings.jobs))
