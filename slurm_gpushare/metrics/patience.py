"""Calls that may hang, made in a thread of their own: who waits for them waits so long and no longer.

A call into a driver cannot be broken off. One that outlasts the wait keeps its thread until it returns, and what
comes after it goes on in another.
"""

import threading
from collections.abc import Callable, Hashable, Mapping
from queue import SimpleQueue


class _Batch:
    """Calls that one thread makes one after the other."""

    def __init__(self, calls: list[tuple[Hashable, Callable[[], object]]]):
        self.calls = calls
        self.outcomes: list[object] = []
        self.over = threading.Event()  # nothing of it runs any more
        self._lock = threading.Lock()
        self._given_up = self._finished = False

    def run(self) -> bool:
        """Make the calls; return whether somebody still waits for them."""
        for _, call in self.calls:
            with self._lock:
                if self._given_up:
                    break
            try:
                outcome = call()
            except Exception as error:  # it belongs to the one who waits
                outcome = error
            with self._lock:
                if not self._given_up:
                    self.outcomes.append(outcome)
        with self._lock:
            self._finished = not self._given_up
        self.over.set()
        return self._finished

    def give_up(self) -> bool:
        """Begin no further call, and drop what the running one says; return whether there was anything to give up."""
        with self._lock:
            self._given_up = not self._finished
            return self._given_up


class Patience:
    """Makes calls, each known by a key, and waits at most ``seconds`` (to twice that) for each."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._queue: SimpleQueue | None = None  # of the thread that is free
        self._hanging: dict[Hashable, _Batch] = {}

    def hangs(self, key: Hashable) -> bool:
        """Tell whether a call of that key, which nobody waits for any more, has not returned yet."""
        batch = self._hanging.get(key)
        if batch is not None and batch.over.is_set():
            del self._hanging[key]
            return False
        return batch is not None

    def any_hangs(self) -> bool:
        """Tell whether any call has not returned yet."""
        return any(self.hangs(key) for key in list(self._hanging))

    def call(self, calls: Mapping[Hashable, Callable[[], object]]) -> dict[Hashable, object]:
        """Make the calls in their order; return what each gave or raised, TimeoutError where it did neither in time.

        No call is made whose key has one that hangs: TimeoutError at once.
        """
        outcomes: dict[Hashable, object] = {key: TimeoutError() for key in calls if self.hangs(key)}
        left = [(key, call) for key, call in calls.items() if key not in outcomes]
        while left:
            batch = _Batch(left)
            self._start(batch)
            seen = 0
            while not batch.over.wait(self._seconds) and len(batch.outcomes) > seen:
                seen = len(batch.outcomes)
            if batch.give_up():
                self._queue = None  # its thread ends
            done = len(batch.outcomes)
            outcomes.update(zip([key for key, _ in left], batch.outcomes, strict=False))
            if done < len(left):
                self._hanging[left[done][0]] = batch
                outcomes[left[done][0]] = TimeoutError()
            left = left[done + 1 :]
        return {key: outcomes[key] for key in calls}

    def _start(self, batch: _Batch) -> None:
        if self._queue is None:
            self._queue = SimpleQueue()
            # Nobody can end a thread that hangs in a driver: it must not keep the process.
            threading.Thread(target=_serve, args=(self._queue,), name="nvml", daemon=True).start()
        self._queue.put(batch)

    def close(self) -> None:
        """Let the thread end that is free."""
        if self._queue is not None:
            self._queue.put(None)
            self._queue = None


def _serve(queue: SimpleQueue) -> None:
    while (batch := queue.get()) is not None and batch.run():
        pass
