"""One line of the benchmarks: ours, the other's, their ratio, and the bound it is held to."""

from dataclasses import dataclass

ADDED = "added"  # ours may be so much more than the other
TIMES = "times"  # ours may be so many times the other
MOST = "most"  # ours may be so much, whatever the other


@dataclass(frozen=True)
class Bound:
    """How far ours may go; ``limit`` has the unit of the figures, or none for TIMES."""

    kind: str  # ADDED | TIMES | MOST
    limit: float

    def holds(self, ours: float, other: float) -> bool:
        """Tell whether the figures keep to the bound."""
        if self.kind == ADDED:
            return ours - other <= self.limit
        return ours <= (self.limit * other if self.kind == TIMES else self.limit)

    def text(self, unit: str) -> str:
        """Return the bound in words."""
        if self.kind == ADDED:
            return f"at most {self.limit:g} {unit} more"
        return f"at most {self.limit:g} times" if self.kind == TIMES else f"at most {self.limit:g} {unit}"


@dataclass(frozen=True)
class Result:
    """What was measured under one name; both figures come from the same run."""

    name: str
    against: str  # what the other is
    ours: float
    other: float
    unit: str
    runs: int  # measurements of each
    bound: Bound | None = None  # None: told for information

    @property
    def ratio(self) -> float | None:
        """Ours divided by the other's, None where that is nothing."""
        return self.ours / self.other if self.other else None

    @property
    def holds(self) -> bool | None:
        """Whether the bound holds, None where there is none."""
        return None if self.bound is None else self.bound.holds(self.ours, self.other)


def to_dict(result: Result, machine: str) -> dict:
    """Return the result as bench/results/latest.json has it."""
    return {
        "name": result.name,
        "ours": result.ours,
        "other": result.other,
        "unit": result.unit,
        "ratio": result.ratio,
        "bound": None if result.bound is None else result.bound.text(result.unit),
        "holds": result.holds,
        "runs": result.runs,
        "against": result.against,
        "machine": machine,
    }


def to_line(result: Result) -> str:
    """Return the result as one line of text."""
    ratio = "-" if result.ratio is None else f"{result.ratio:.2f}x"
    bound = "no bound"
    if result.bound is not None:
        bound = f"{result.bound.text(result.unit)}: {'holds' if result.holds else 'BROKEN'}"
    figures = f"{_figure(result.ours, result.unit):>10}  {_figure(result.other, result.unit):>10}"
    return f"{result.name:42} {figures}  {ratio:>7}  {bound:28} {result.runs} runs; other: {result.against}"


def _figure(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"
