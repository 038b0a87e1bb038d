"""What reserved GPU-hours cost, by the policy's rates, in exact decimal arithmetic. Pure functions.

A line is what one user of an account reserved in one month by one backend on one model. Its hours are rounded to
millionths, its amount to hundredths, each half up: anybody can check ``amount = round(hours x rate, 2)`` in a
spreadsheet, and the total is the sum of the lines.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fnmatch import fnmatchcase

from slurm_gpushare.accounting.usage_report import Sums

BY = ("account", "user", "backend", "gpu", "month")  # what usage is summed by
HOURS = Decimal("0.000001")
CENTS = Decimal("0.01")
_MOST_TOLD = 8  # kinds of GPU-hours without a rate that are told one by one
_DIGITS = 60  # significant ones: enough for every product of what a double holds


@dataclass(frozen=True)
class Rate:
    """The price of one GPU-hour for what fits; None fits all. ``gpu`` is a model, with * for any text."""

    rate: Decimal
    backend: str | None = None
    gpu: str | None = None
    account: str | None = None

    def fits(self, account: str | None, backend: str | None, gpu: str | None) -> bool:
        """Tell whether it holds for them. What is not known fits no criterion."""
        return (
            self.account in (None, account)
            and self.backend in (None, backend)
            and (self.gpu is None or (gpu is not None and fnmatchcase(gpu.casefold(), self.gpu.casefold())))
        )


@dataclass(frozen=True)
class Prices:
    """The policy's rates, the first that fits holds, and the currency of all of them."""

    rates: tuple[Rate, ...] = ()
    currency: str = "credits"

    def rate(self, account: str | None, backend: str | None, gpu: str | None) -> Decimal | None:
        """Return the price of one GPU-hour, None where no rate fits."""
        return next((one.rate for one in self.rates if one.fits(account, backend, gpu)), None)


@dataclass(frozen=True)
class Charge:
    """One line. ``gpu_hours`` is None where not known, ``rate`` where no rate fits, ``amount`` where one of both is."""

    period: str  # the month: 2026-11
    period_start: str  # of the month what was asked for: ISO 8601, the day alone where it begins at midnight
    period_end: str  # likewise; the moment after it
    account: str | None
    user: str | None
    backend: str | None
    gpu: str | None  # the model
    gpu_hours: Decimal | None
    rate: Decimal | None
    amount: Decimal | None
    currency: str


def charge(lines: Iterable[Sums], prices: Prices, start: float, end: float, zone: tzinfo | None = None) -> list[Charge]:
    """Return what the sums ``lines``, by BY, of [``start``, ``end``] cost, by month, account and user."""
    charges = [_charge(line, prices, start, end, zone) for line in lines]
    return sorted(charges, key=lambda one: [getattr(one, name) or "" for name in ("period", *BY[:4])])


def total(charges: Iterable[Charge]) -> Decimal:
    """Return the sum of all amounts that are known."""
    with localcontext(prec=_DIGITS):
        return sum((one.amount for one in charges if one.amount is not None), Decimal(0)).quantize(CENTS)


def warnings(charges: Sequence[Charge], prices: Prices) -> list[str]:
    """Return what the amounts leave out, one line for each reason."""
    without: dict[tuple, Decimal] = defaultdict(Decimal)
    for one in charges:
        if one.rate is None and one.gpu_hours:
            without[one.account or "unknown", one.backend or "unknown", one.gpu or "unknown"] += one.gpu_hours
    if without and not prices.rates:
        told = ["nothing has a price: service.rates in the policy of `gpushare serve` is empty"]
    else:
        told = [
            f"no rate for {hours} GPU-hours of account {account}, backend {backend}, GPU {gpu}: "
            "add one to service.rates in the policy"
            for (account, backend, gpu), hours in sorted(without.items(), key=lambda item: (-item[1], item[0]))
        ]
        if len(told) > _MOST_TOLD:
            rest = len(told) - _MOST_TOLD
            told[_MOST_TOLD:] = [f"no rate for {rest} more kinds of GPU-hours, with fewer hours than these"]
    if unknown := sum(one.gpu_hours is None for one in charges):
        told.append(f"{unknown} line{'s' * (unknown != 1)} without GPU-hours: what these jobs were given is not known")
    return told


def _charge(line: Sums, prices: Prices, start: float, end: float, zone: tzinfo | None) -> Charge:
    group = line.group
    year, month = map(int, group["month"].split("-"))
    first = datetime(year, month, 1, tzinfo=zone).timestamp()
    following = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=zone).timestamp()
    names = {name: group[name] for name in ("account", "user", "backend", "gpu")}
    rate = prices.rate(names["account"], names["backend"], names["gpu"])
    hours = amount = None
    with localcontext(prec=_DIGITS):
        if line.gpu_seconds_reserved is not None:
            hours = (Decimal(str(line.gpu_seconds_reserved)) / 3600).quantize(HOURS, ROUND_HALF_UP)
        if hours is not None and rate is not None:
            amount = (hours * rate).quantize(CENTS, ROUND_HALF_UP)
    return Charge(
        period=group["month"],
        period_start=_iso(max(start, first), zone),
        period_end=_iso(min(end, following), zone),
        **names,
        gpu_hours=hours,
        rate=rate,
        amount=amount,
        currency=prices.currency,
    )


def _iso(moment: float, zone: tzinfo | None) -> str:
    local = datetime.fromtimestamp(round(moment), zone).astimezone(zone)
    at_midnight = (local.hour, local.minute, local.second) == (0, 0, 0)
    return f"{local:%Y-%m-%d}" if at_midnight else local.isoformat()
