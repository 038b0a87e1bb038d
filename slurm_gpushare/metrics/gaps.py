"""The times of a run in which its use is not known, and why. Pure."""

from slurm_gpushare.usage import MOST_GAPS

SHORTEST = 1.0  # seconds: a shorter gap is not told of, only missing from the sampled seconds

AGENT_DOWN = "agent was down"
NO_READING = "GPU gives no reading"
NOT_SAMPLED = "not sampled"

_LONGEST_WHY = 200  # characters


class Gaps:
    """What lies between the intervals of known use, from the start of a run."""

    def __init__(self) -> None:
        self._known_to = 0.0  # seconds since the run began: the end of the last interval of known use
        self._why: str | None = None
        self._found: list[list] = []  # [offset, seconds, why]

    def because(self, why: str) -> bool:
        """Say why the use is not known from now on; return whether it counts: the first reason does."""
        if self._why is not None:
            return False
        self._why = "".join(each if each.isprintable() else " " for each in why)[:_LONGEST_WHY]
        return True

    def known(self, start: float, end: float) -> None:
        """Say that the use from ``start`` to ``end`` is known, seconds since the run began."""
        self._found = self._with_open(start)
        self._known_to = max(self._known_to, end)
        self._why = None

    def until(self, end: float) -> list[list]:
        """Return the gaps of a run that lasted until ``end``, in order; of too many the longest."""
        return self._with_open(end)

    def _with_open(self, end: float) -> list[list]:
        seconds = end - self._known_to
        if seconds < SHORTEST:
            return list(self._found)
        gap = [round(self._known_to, 3), round(seconds, 3), self._why or NOT_SAMPLED]
        found = [*self._found, gap]
        if len(found) > MOST_GAPS:
            found.remove(min(found, key=lambda one: one[1]))
        return found

    def state(self) -> dict:
        """Return all of it as JSON has it."""
        return {"known_to": self._known_to, "why": self._why, "found": self._found}

    @classmethod
    def of_state(cls, state: dict) -> "Gaps":
        """Return the gaps that ``state`` was taken of."""
        gaps = cls()
        gaps._known_to, gaps._why = float(state["known_to"]), state["why"]
        gaps._found = [list(one) for one in state["found"]]
        return gaps
