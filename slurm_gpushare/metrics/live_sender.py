"""Carries what the agent measures now to `gpushare serve`, in a thread of its own. What does not get there is lost."""

import hashlib
import os
import threading
import time
from collections.abc import Callable

from slurm_gpushare.errors import StoreError
from slurm_gpushare.metrics.live import LiveSample, sample_to_json
from slurm_gpushare.metrics.sender import munge_credential, post

PAUSE = 5.0  # seconds from one sample that is sent to the next
_LONGEST_PAUSE = 60.0  # seconds, to a service that does not answer


class LiveSender:
    """Sends the newest sample to ``service`` (such as ``http://host:6827``) again and again until stopped."""

    def __init__(
        self,
        service: str,
        say: Callable[[str], None] = lambda line: None,
        credential: Callable[[str], str] = munge_credential,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._url = service.rstrip("/") + "/v1/live"
        self._say = say
        self._credential = credential
        self._clock = clock
        self._pause = PAUSE
        # Agents that were started at one moment should not all send at one moment.
        self._due = clock() + PAUSE * os.urandom(1)[0] / 256
        self._told = ""
        self._sample: LiveSample | None = None
        self._stop = False
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)

    def start(self) -> None:
        """Begin to send what is offered."""
        self._thread.start()

    def offer(self, measure: Callable[[], LiveSample]) -> None:
        """Send ``measure()`` if it is time for one and the last is through; costs nothing otherwise."""
        if self._clock() >= self._due and not self._news.is_set():
            self._due = self._clock() + self._pause
            self._sample = measure()
            self._news.set()

    def stop(self, seconds: float = 2.0) -> None:
        """End the thread, waiting up to ``seconds`` for a request under way."""
        self._stop = True
        self._news.set()
        self._thread.join(seconds)

    def send_once(self, sample: LiveSample) -> None:
        """Send one sample; a failure is told once, and makes the pauses longer."""
        body = sample_to_json(sample)
        try:
            status, answer = post(self._url, body, self._credential(hashlib.sha256(body).hexdigest()))
            if status != 200:
                raise StoreError(f"{self._url}: status {status}: {answer.strip()[:500]}")
            line, self._pause = "the service takes what is measured now", PAUSE
        except StoreError as error:
            line, self._pause = f"the service does not take what is measured now: {error}", self._longer()
        if line != self._told:
            self._told = line
            self._say(line)

    def _longer(self) -> float:
        return min(_LONGEST_PAUSE, 2 * self._pause)

    def _run(self) -> None:
        while True:
            self._news.wait()
            if self._stop:
                return
            self.send_once(self._sample)
            self._news.clear()
