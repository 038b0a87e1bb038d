"""What `gpushare serve` does by itself: it asks Slurm for the newest runs, builds roll-ups, forgets old courses."""

import asyncio
import functools
import math
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor

from aiohttp import web

from slurm_gpushare.accounting.refresh import LATE, Refresher
from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.errors import StoreError

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0  # seconds
_VERY_LATE = 3 * _DAY  # how much of the past is asked for again each hour: slurmdbd may have been away for so long
_PAUSE = 0.2  # seconds between two days that are rolled up: agents and reports come first


class Upkeep:
    """The service's own work, as a context of its application."""

    def __init__(self, store: Store, refresher: Refresher, slurm: Executor, series_days: int, log: Callable):
        """``slurm`` is the thread in which Slurm is asked; courses are kept for ``series_days``."""
        self._store = store
        self._refresher = refresher
        self._slurm = slurm
        self._series_days = series_days
        self._log = log
        self._said: dict[str, str] = {}
        self._long_since = -math.inf  # when the last days were asked for again, seconds since the epoch

    async def __call__(self, app: web.Application) -> AsyncIterator[None]:
        """Work from the application's start until its end."""
        works = ((self._refresh, _MINUTE), (self._roll_up, _MINUTE), (self._forget, _DAY))
        tasks = [asyncio.create_task(self._repeat(*work)) for work in works]
        yield
        self._store.rollups.stop()
        for task in tasks:
            task.cancel()

    async def _repeat(self, work: Callable, seconds: float) -> None:
        while True:
            try:
                await work()
                self._say(work.__name__, "")
            except StoreError as error:
                self._say(work.__name__, str(error))
            await asyncio.sleep(seconds)

    def _say(self, work: str, fault: str) -> None:
        """Log a fault once, not each minute."""
        if fault and self._said.get(work) != fault:
            self._log(fault)
        self._said[work] = fault

    async def _refresh(self) -> None:
        now = time.time()
        is_long = not 0 <= now - self._long_since < _HOUR
        late = _VERY_LATE if is_long else LATE
        refresh = functools.partial(self._refresher.refresh, Selection(now - _MINUTE, now), late)
        warnings = await asyncio.get_running_loop().run_in_executor(self._slurm, refresh)
        if is_long and not warnings:
            self._long_since = now
        self._say("runs", "; ".join(warnings))

    async def _roll_up(self) -> None:
        await asyncio.to_thread(self._store.rollups.build, pause=_PAUSE)

    async def _forget(self) -> None:
        days = self._series_days
        if count := await asyncio.to_thread(self._store.forget_series, time.time() - days * _DAY):
            self._log(f"deleted the course of {count} run(s) that ended more than {days} days ago")
