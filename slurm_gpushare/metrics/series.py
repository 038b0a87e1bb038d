"""The course of a run in at most 240 points, however long it is. Pure.

Points begin a second wide. When there are too many, each two neighbours become one: the SM share is their mean, weighed
by the time for which it was known, and the memory is the larger one. So the mean over all points stays what it was.
"""

from slurm_gpushare.usage import MOST_POINTS


class Series:
    """SM share and memory over time, from the start of a run."""

    def __init__(self, every: float = 1.0, most: int = MOST_POINTS):
        self.every = every
        self._most = most
        self._used: list[float] = []  # seconds of SM time in each point ...
        self._known: list[float] = []  # ... and the seconds in which it was known
        self._memory: list[int | None] = []

    def add(self, start: float, end: float, sm: float | None, memory: int | None) -> None:
        """Add what was from ``start`` to ``end``, seconds since the run began; None is not known."""
        start = max(0.0, start)
        if not start < end:
            return
        while end > self.every * self._most:
            self._halve()
        last = min(self._most - 1, int(end / self.every))
        if last * self.every >= end:
            last -= 1  # the end is the beginning of a point that has nothing of it
        missing = max(0, last + 1 - len(self._used))
        self._used += [0.0] * missing
        self._known += [0.0] * missing
        self._memory += [None] * missing
        for number in range(min(last, int(start / self.every)), last + 1):
            seconds = min(end, (number + 1) * self.every) - max(start, number * self.every)
            if sm is not None and seconds > 0:
                self._used[number] += sm * seconds
                self._known[number] += seconds
            if memory is not None:
                self._memory[number] = max(self._memory[number] or 0, memory)

    def points(self) -> dict | None:
        """Return ``{"every": seconds, "sm": […], "memory": […]}``, None where nothing is known."""
        if not any(self._known) and all(memory is None for memory in self._memory):
            return None
        pairs = zip(self._used, self._known, strict=True)
        sm = [round(min(1.0, used / known), 4) if known > 0 else None for used, known in pairs]
        return {"every": self.every, "sm": sm, "memory": list(self._memory)}

    def sums(self) -> tuple[float, float]:
        """Return the seconds of SM time of all points, and the seconds in which it was known."""
        return sum(self._used), sum(self._known)

    def _halve(self) -> None:
        self.every *= 2
        for each in (self._used, self._known, self._memory):
            if len(each) % 2:
                each.append(None if each is self._memory else 0.0)
        self._used = [sum(pair) for pair in _pairs(self._used)]
        self._known = [sum(pair) for pair in _pairs(self._known)]
        self._memory = [max((one for one in pair if one is not None), default=None) for pair in _pairs(self._memory)]

    def state(self) -> dict:
        """Return all of it as JSON has it."""
        return {"every": self.every, "used": self._used, "known": self._known, "memory": self._memory}

    @classmethod
    def of_state(cls, state: dict) -> "Series":
        """Return the series that ``state`` was taken of."""
        series = cls(float(state["every"]))
        series._used = [float(value) for value in state["used"]]
        series._known = [float(value) for value in state["known"]]
        series._memory = list(state["memory"])
        return series


def _pairs(values: list) -> zip:
    return zip(values[::2], values[1::2], strict=True)
