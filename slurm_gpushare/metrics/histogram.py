"""How long a value was how large: a histogram over time, from which percentiles are read. Pure, and small as JSON.

Shares of a GPU have a bin for each per cent, which is what NVML tells; bytes have bins 2 % wide. A percentile is the
middle of its bin: it is off by half a bin at most, by 0.5 percentage points or by 1 % of the bytes.
"""

import math

_WIDTH = math.log(1.02)  # of a bin of bytes, as a ratio


def share_bin(share: float) -> int:
    """Return the bin of a share of a GPU, 0..1."""
    return round(min(1.0, max(0.0, share)) * 100)


def share_of(bin_: int) -> float:
    """Return the share that a bin stands for."""
    return bin_ / 100


def bytes_bin(amount: float) -> int:
    """Return the bin of an amount of bytes, from 0 on."""
    return 0 if amount < 1 else 1 + math.floor(math.log(amount) / _WIDTH)


def bytes_of(bin_: int) -> int:
    """Return the bytes that a bin stands for."""
    return 0 if bin_ == 0 else round(math.exp((bin_ - 0.5) * _WIDTH))


class Histogram:
    """Seconds by bin."""

    def __init__(self, bins: dict[int, float] | None = None):
        self._bins = {} if bins is None else bins

    def add(self, bin_: int, seconds: float) -> None:
        """Say that the value was in ``bin_`` for ``seconds``."""
        self._bins[bin_] = self._bins.get(bin_, 0.0) + seconds

    def percentile(self, share: float) -> int | None:
        """Return the lowest bin at or below which the value was for ``share`` of the time; None without any time."""
        wanted, seen = share * math.fsum(self._bins.values()), 0.0
        for bin_ in sorted(self._bins):
            seen += self._bins[bin_]
            if seen >= wanted:
                return bin_
        return max(self._bins, default=None)  # rounding kept the sum below what was wanted

    def state(self) -> list[list]:
        """Return the bins as JSON has them."""
        return [[bin_, seconds] for bin_, seconds in self._bins.items()]

    @classmethod
    def of_state(cls, state: list[list]) -> "Histogram":
        """Return the histogram that ``state`` was taken of."""
        return cls({int(bin_): float(seconds) for bin_, seconds in state})
