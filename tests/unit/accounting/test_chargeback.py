"""What GPU-hours cost, in figures that can be checked with pencil and paper."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.accounting.chargeback import BY, Charge, Prices, Rate, charge, total, warnings
from slurm_gpushare.accounting.reports import REPORTS, chargeback
from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.accounting.usage_report import Sums, pieces, summarise
from tests.unit.accounting import month
from tests.unit.accounting.month import T, run, used

NOVEMBER = (datetime(2026, 11, 1, tzinfo=UTC).timestamp(), datetime(2026, 12, 1, tzinfo=UTC).timestamp())
TWO = Prices((Rate(Decimal("0.45"), backend="shard"), Rate(Decimal(2))), "EUR")


def sums(found: list, start: float, end: float, zone: object = UTC) -> list[Sums]:
    return summarise(found, BY, start, end, zone)


def charged(prices: Prices, *hours: float, start: float = NOVEMBER[0], end: float = NOVEMBER[1]) -> list[Charge]:
    """Charge one run of a whole GPU of a shard backend for each of ``hours``, one after the other."""
    records = [
        used(number, 0, 3600 * each, 1.0, fraction=1.0, user=f"u{number}") for number, each in enumerate(hours, 1)
    ]
    return charge(sums(pieces([], records, T + 10**6), start, end), prices, start, end, UTC)


def test_the_first_rate_that_fits_holds() -> None:
    prices = Prices(
        (
            Rate(Decimal(0), account="course"),
            Rate(Decimal(3), backend="gpu", gpu="*a100*"),
            Rate(Decimal(2), gpu="NVIDIA A100-SXM4-40GB"),
            Rate(Decimal(1), backend="shard"),
        )
    )
    a100 = "NVIDIA A100-SXM4-40GB"
    assert prices.rate("course", "gpu", a100) == 0
    assert prices.rate("physics", "gpu", a100) == 3
    assert prices.rate("physics", "shard", a100) == 2
    assert prices.rate("physics", "shard", "Tesla T4") == 1
    assert prices.rate("physics", "shard", None) == 1
    assert prices.rate("physics", "gpu", None) is None  # a model that is not known fits no rate of a model
    assert prices.rate(None, None, None) is None
    assert Prices((Rate(Decimal(5)),)).rate(None, None, None) == 5


def test_amounts_are_hours_times_rate_half_up() -> None:
    (one,) = charged(Prices((Rate(Decimal("0.01")),), "EUR"), 0.5)
    assert (one.gpu_hours, one.rate, one.amount) == (Decimal("0.500000"), Decimal("0.01"), Decimal("0.01"))
    (one,) = charged(Prices((Rate(Decimal("1.005")),), "EUR"), 1)  # 1.00 where it is reckoned in binary
    assert one.amount == Decimal("1.01")
    (one,) = charged(TWO, 1 / 3)
    assert (str(one.gpu_hours), str(one.amount)) == ("0.333333", "0.15")


def test_the_month_of_the_lines() -> None:
    (one,) = charged(TWO, 10)
    assert (one.period, one.period_start, one.period_end) == ("2026-11", "2026-11-01", "2026-12-01")
    noon = NOVEMBER[0] + 12 * 3600
    (one,) = charged(TWO, 10, start=noon, end=T + 3600)
    assert (one.period_start, one.period_end) == ("2026-11-01T12:00:00+00:00", "2026-11-22T16:06:40+00:00")
    assert one.gpu_hours == 1


def test_a_run_over_the_end_of_a_month_is_in_both_and_months_are_those_of_the_zone() -> None:
    zone = ZoneInfo("Europe/Berlin")
    first = datetime(2026, 12, 1, tzinfo=zone).timestamp()
    record = replace(used(1, 0, 4 * 3600, 1.0, fraction=1.0), started=first - 3600, ended=first + 3 * 3600)
    period = (first - 86400, first + 86400)
    one, two = charge(sums(pieces([], [record], first), *period, zone), TWO, *period, zone)
    assert [(each.period, each.gpu_hours, each.amount) for each in (one, two)] == [
        ("2026-11", 1, Decimal("0.45")),
        ("2026-12", 3, Decimal("1.35")),
    ]
    assert (one.period_start, one.period_end, two.period_start, two.period_end) == (
        *("2026-11-30", "2026-12-01"),
        *("2026-12-01", "2026-12-02"),
    )


def test_what_has_no_rate_or_no_hours_says_so() -> None:
    prices = Prices((Rate(Decimal(1), backend="gpu"),), "EUR")
    (one,) = charged(prices, 2)
    assert (one.rate, one.amount, one.gpu_hours) == (None, None, 2) and total([one]) == 0
    assert warnings([one], prices) == [
        "no rate for 2.000000 GPU-hours of account unknown, backend shard, GPU Tesla: "
        "add one to service.rates in the policy"
    ]
    assert warnings([one], Prices()) == [
        "nothing has a price: service.rates in the policy of `gpushare serve` is empty"
    ]
    unknown = run(1, 0, 100, extra="")  # shards of which nobody knows how large they are
    (one,) = charge(sums(pieces([unknown], [], T), *NOVEMBER), TWO, *NOVEMBER, UTC)
    assert (one.gpu_hours, one.amount) == (None, None)
    assert warnings([one], TWO) == ["1 line without GPU-hours: what these jobs were given is not known"]


def test_many_kinds_without_a_rate_are_not_told_one_by_one() -> None:
    records = [used(number, 0, 3600 * number, 1.0, gpu_name=f"GPU {number}") for number in range(1, 21)]
    prices = Prices((Rate(Decimal(1), account="x"),))
    told = warnings(charge(sums(pieces([], records, T), *NOVEMBER), prices, *NOVEMBER, UTC), prices)
    assert len(told) == 9 and "GPU 20:" in told[0] and "12 more" in told[-1]


amounts = st.floats(0.001, 2000)
rates = st.decimals(0, 1000, places=6)


@given(st.lists(amounts, min_size=1, max_size=30), rates)
def test_the_total_is_the_sum_of_the_lines_and_no_hour_is_lost(hours: list[float], rate: Decimal) -> None:
    lines = charged(Prices((Rate(rate),), "EUR"), *hours, end=NOVEMBER[0] + 10**8)
    assert total(lines) == sum(line.amount for line in lines)
    exact = sum((Decimal(str(each)) for each in hours), Decimal(0))
    # Each line is off by half of a millionth of an hour, and by what seconds are rounded to.
    assert abs(sum(line.gpu_hours for line in lines) - exact) <= len(lines) * Decimal("0.000001")
    assert abs(total(lines) - exact * rate) <= len(lines) * (Decimal("0.006") + rate * Decimal("0.000001"))
    for line in lines:
        assert line.amount == (line.gpu_hours * rate).quantize(Decimal("0.01"), "ROUND_HALF_UP")


@given(st.lists(st.tuples(st.integers(0, 90 * 86400), st.integers(1, 40 * 86400)), max_size=12), st.integers(1, 89))
def test_two_parts_of_a_period_cost_what_the_whole_does(spans: list[tuple[int, int]], day: int) -> None:
    records = [used(number, start, start + length, 0.1) for number, (start, length) in enumerate(spans, 1)]
    found = pieces([], records, T)
    cut, end = T + day * 86400, T + 200 * 86400

    def lines(low: float, high: float) -> list[Charge]:
        return charge(sums(found, low, high), TWO, low, high, UTC)

    whole, parts = lines(T, end), [*lines(T, cut), *lines(cut, end)]
    slack = Decimal("0.000001") * (len(whole) + len(parts))
    assert abs(sum(one.gpu_hours for one in whole) - sum(one.gpu_hours for one in parts)) <= slack
    assert abs(total(whole) - total(parts)) <= Decimal("0.01") * (len(whole) + len(parts))


# From the store


@pytest.fixture
def store() -> Store:
    store = Store("sqlite://")
    store.add_jobs(month.RUNS)
    store.add_usage(month.RECORDS)
    return store


def test_the_history_has_its_price(store: Store) -> None:
    answer = chargeback(TWO).answer(store, Selection(T, T + 2000), {})
    found = {(one["account"], one["user"], one["backend"], one["gpu"]): one for one in answer["lines"]}
    # By hand: of shards physics 25+50+25+25+200 s, and 25 s of job 7 which nobody measured; biology 25 s; whole 120 s.
    measured = found["physics", "alice", "shard", "Tesla"]
    assert (measured["gpu_hours"], measured["rate"], measured["amount"]) == ("0.090278", "0.45", "0.04")
    assert found["biology", "bob", "shard", "Tesla"]["gpu_hours"] == "0.006944"
    assert (found["physics", "alice", "gpu", None]["gpu_hours"], found["physics", "alice", "gpu", None]["amount"]) == (
        "0.033333",
        "0.07",
    )
    assert (answer["total"], answer["currency"], answer["warnings"]) == ("0.11", "EUR", [])
    assert list(answer["lines"][0]) == list(Charge.__dataclass_fields__)


def test_without_rates_it_says_so(store: Store) -> None:
    answer = REPORTS["chargeback"].answer(store, Selection(T, T + 2000), {})
    assert answer["total"] == "0.00" and answer["warnings"][0].startswith("nothing has a price")
