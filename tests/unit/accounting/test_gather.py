"""Records of many requests in few transactions."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from slurm_gpushare.accounting.gather import MOST, Gather
from slurm_gpushare.errors import StoreError


class Kept:
    """A store that takes its time until the test lets it go on, and refuses what is bad."""

    def __init__(self, bad: object = None):
        self.calls, self.bad, self.begun, self.go = [], bad, threading.Event(), threading.Event()

    def __call__(self, items) -> None:
        self.begun.set()
        assert self.go.wait(30)
        self.calls.append(list(items))
        if self.bad in items:
            raise StoreError("not this one")


def run(kept: Kept, batches: list[list]) -> list:
    """Put the first batch, and the others while it is being written; return what each put came to."""

    async def main() -> list:
        with ThreadPoolExecutor(1) as pool:
            gather = Gather(kept, pool)
            tasks = [asyncio.create_task(gather.put(batches[0]))]
            await asyncio.to_thread(kept.begun.wait, 30)
            tasks += [asyncio.create_task(gather.put(batch)) for batch in batches[1:]]
            await asyncio.sleep(0)
            kept.go.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await gather.put(["after"])
            return results

    return asyncio.run(main())


def test_what_waits_is_written_together() -> None:
    kept = Kept()
    assert run(kept, [[1], [2, 3], [4], []]) == [None] * 4
    assert kept.calls == [[1], [2, 3, 4], ["after"]]


def test_a_bad_part_holds_up_no_other() -> None:
    kept = Kept(bad=3)
    results = run(kept, [[1], [2], [3], [4]])
    assert [type(result) for result in results] == [type(None), type(None), StoreError, type(None)]
    assert kept.calls == [[1], [2, 3, 4], [2], [3], [4], ["after"]]


def test_a_store_that_is_away_is_not_asked_for_each_part() -> None:
    kept = Kept(bad=3)
    results = run(kept, [[1], [3], [3, 4], [5], [6]])
    assert [type(result) for result in results] == [type(None), *[StoreError] * 4]
    assert kept.calls == [[1], [3, 3, 4, 5, 6], [3], [3, 4], ["after"]]


def test_a_transaction_has_an_end() -> None:
    kept = Kept()
    half = list(range(MOST // 2))
    assert run(kept, [[0], half, half, half, list(range(3 * MOST))]) == [None] * 5
    assert [len(call) for call in kept.calls] == [1, MOST, MOST // 2, 3 * MOST, 1]


def test_another_fault_reaches_who_asked() -> None:
    async def main() -> None:
        with ThreadPoolExecutor(1) as pool:
            gather = Gather(lambda items: 1 / 0, pool)
            with pytest.raises(ZeroDivisionError):
                await gather.put([1])

    asyncio.run(main())
