"""What a question about a waiting job is answered from, and the form of its answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from slurm_gpushare.slurm.job import Job
from slurm_gpushare.slurm.licences import Licence
from slurm_gpushare.slurm.nodes import Node


@dataclass(frozen=True)
class View:
    """What was asked of Slurm and of the pool at one moment."""

    job: Job
    nodes: Sequence[Node]
    licences: dict[str, Licence]
    now: float  # seconds since the epoch
    ahead: int | None = None  # pending jobs of its partition with a higher priority; None: not known
    limit: dict[str, int] = field(default_factory=dict)  # the limit that holds it, by TRES; empty: not known
    in_use: dict[int, dict[str, str]] = field(default_factory=dict)  # what counts towards it: job id → TRES
    pool_away: Sequence[str] = ()  # servers of the pool that do not answer, each with the reason


@dataclass
class Answer:
    """Why, in one word for programs and in lines for people."""

    kind: str
    why: list[str]
    details: list[str] = field(default_factory=list)
    sooner: list[str] = field(default_factory=list)
    expected_start: int | None = None  # seconds since the epoch: when Slurm plans it
