"""Many requests, one transaction: what arrives while the store writes is written together next.

A transaction costs the same for one record as for hundreds, since it waits for the disk; and of several writers at once
SQLite lets one through and the others wait and poll. So when many jobs end together their records share transactions.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from slurm_gpushare.errors import StoreError

MOST = 1000  # records in one transaction, unless one request alone has more


class Gather:
    """Calls ``keep`` in ``pool``, one call at a time, with the items of all ``put`` that wait by then."""

    def __init__(self, keep: Callable[[Sequence], None], pool: Executor):
        self._keep = keep
        self._pool = pool
        self._waiting: deque[tuple[Sequence, asyncio.Future]] = deque()
        self._task: asyncio.Task | None = None

    async def put(self, items: Sequence) -> None:
        """Return when ``items`` are kept; raises StoreError when they cannot be."""
        if not items:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((items, future))
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        await future

    async def _work(self) -> None:
        try:
            while self._waiting:
                parts = [self._waiting.popleft()]
                count = len(parts[0][0])
                while self._waiting and count + len(self._waiting[0][0]) <= MOST:
                    parts.append(self._waiting.popleft())
                    count += len(parts[-1][0])
                if not await self._write(parts, alone=len(parts) == 1):
                    await self._one_by_one(parts)
        finally:
            self._task = None

    async def _one_by_one(self, parts: list[tuple[Sequence, asyncio.Future]]) -> None:
        """Write each part by itself: what the store does not take of one request must not hold up the others.

        Where two in a row fail it is the store that is away, and the others need not wait for that one by one.
        """
        failed: list[BaseException] = []
        for part in parts:
            if len(failed) == 2:
                _fail(part[1], failed[1])
                continue
            await self._write([part], alone=True)
            error = None if part[1].cancelled() else part[1].exception()
            failed = [*failed, error] if error is not None else []

    async def _write(self, parts: list[tuple[Sequence, asyncio.Future]], alone: bool) -> bool:
        items = [item for each, _ in parts for item in each]
        try:
            await asyncio.get_running_loop().run_in_executor(self._pool, self._keep, items)
        except Exception as error:
            if not alone and isinstance(error, StoreError):
                return False
            for _, future in parts:
                _fail(future, error)
            return True
        for _, future in parts:
            if not future.done():
                future.set_result(None)
        return True


def _fail(future: asyncio.Future, error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
