"""What the service does by itself."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web

from slurm_gpushare.accounting import upkeep
from slurm_gpushare.accounting.refresh import LATE
from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.accounting.upkeep import Upkeep
from slurm_gpushare.errors import StoreError
from tests.unit.accounting.month import T, run, used

NOW = T + 40 * 86400.0


class Slurm:
    """A substitute of the refresher: remembers what it was asked."""

    def __init__(self):
        self.asked, self.warnings = [], []

    def refresh(self, selection: Selection, late: float) -> list[str]:
        self.asked.append((selection.end, late))
        return self.warnings


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/usage.sqlite", lambda: NOW)
    yield store
    store.close()


@pytest.fixture
def logged() -> list[str]:
    return []


@pytest.fixture
def work(store: Store, logged: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Run the upkeep until a condition holds, and end it."""
    slurm = Slurm()

    def work(until: Callable[[], object], now: float = NOW) -> Slurm:
        monkeypatch.setattr(upkeep, "time", SimpleNamespace(time=lambda: now))

        async def go() -> None:
            with ThreadPoolExecutor(1) as pool:
                context = Upkeep(store, slurm, pool, 30, logged.append)(web.Application())
                await anext(context)
                async with asyncio.timeout(20):
                    while not until():
                        await asyncio.sleep(0.01)
                assert await anext(context, "over") == "over"

        asyncio.run(go())
        return slurm

    work.slurm = slurm
    return work


def test_the_course_of_old_runs_is_deleted_and_the_record_is_kept(work, store: Store, logged: list[str]) -> None:
    course = {"every": 1.0, "sm": [0.5], "memory": [7]}
    old, young = used(1, 0, 10, 0.1, series=course), used(2, 20 * 86400, 20 * 86400 + 10, 0.1, series=course)
    store.add_usage([old, young])
    work(lambda: logged)
    assert logged == ["deleted the course of 1 run(s) that ended more than 30 days ago"]
    assert store.series(young) == course and len(store.usage(Selection(T, T + 30 * 86400))) == 2


def test_roll_ups_are_built(work, store: Store) -> None:
    store.add_jobs([run(1, 0, 3 * 86400)])
    # To the day after which nothing ran: a build afterwards has nothing left to do.
    work(lambda: store.rollups.covers(T, T + 3 * 86400))
    assert store.rollups.build() == 0


def test_slurm_is_asked_for_the_newest_and_once_an_hour_for_days(
    store: Store, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = Slurm()

    async def go() -> None:
        with ThreadPoolExecutor(1) as pool:
            own = Upkeep(store, slurm, pool, 30, logged.append)
            for seconds, warnings in ((0, ["away"]), (60, []), (125, []), (3655, []), (3661, []), (3721, [])):
                slurm.warnings = warnings
                monkeypatch.setattr(upkeep, "time", SimpleNamespace(time=lambda now=NOW + seconds: now))
                await own._refresh()

    asyncio.run(go())
    days = 3 * 86400
    assert [late for _, late in slurm.asked] == [days, days, LATE, LATE, days, LATE]
    assert [end - NOW for end, _ in slurm.asked] == [0, 60, 125, 3655, 3661, 3721] and logged == ["away"]


def test_a_fault_is_said_once_until_it_is_over(store: Store, logged: list[str]) -> None:
    own = Upkeep(store, Slurm(), None, 30, logged.append)
    for fault in ("away", "away", "", "away"):
        own._say("runs", fault)
    assert logged == ["away", "away"]


def test_a_database_that_is_away_ends_nothing(work, store: Store, logged: list[str], monkeypatch) -> None:
    def away(before: float) -> int:
        raise StoreError("mariadb://x: gone")

    monkeypatch.setattr(store, "forget_series", away)
    work(lambda: logged)
    assert logged == ["mariadb://x: gone"]
