"""Carries spooled usage records to `gpushare serve`, in a thread of its own: a slow service delays no sample."""

import hashlib
import http.client
import json
import os
import threading
import urllib.parse
from collections.abc import Callable

from slurm_gpushare import munge
from slurm_gpushare.errors import StoreError
from slurm_gpushare.metrics.spool import Spool

_BATCH = 200  # records in one request
_TIMEOUT = 10.0  # seconds for the service
_LONGEST_ANSWER = 1 << 20  # bytes that are read
_RETRY_FIRST = 1.0  # seconds until the next try; doubles ...
_RETRY_MOST = 300.0  # ... up to this
# The service read the records and will never take them. Every other refusal (no identity, no such page, too many
# requests) is about the way there, and may be mended without the record being lost.
_RECORD_IS_BAD = {400, 413, 422}


def munge_credential(payload: str, library: str = munge.LIBRARY) -> str:
    """Return a munge credential over ``payload``; raises StoreError when munge does not give one."""
    try:
        return munge.encode(payload.encode(), library)
    except munge.MungeError as error:
        raise StoreError(f"munge: {error}: is munged running?") from None


def post(url: str, body: bytes, credential: str) -> tuple[int, str]:
    """POST ``body`` to ``url`` with a munge credential; return the status and the answer.

    Raises
    ------
    StoreError
        The service cannot be reached, or does not speak HTTP.
    """
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in kinds or not parts.hostname:
            raise ValueError("is no address of a service: write http://HOST:6827")
        connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=_TIMEOUT)
        try:
            headers = {"Authorization": "MUNGE " + credential, "Content-Type": "application/x-ndjson"}
            connection.request("POST", parts.path, body, headers)
            response = connection.getresponse()
            return response.status, response.read(_LONGEST_ANSWER).decode("utf-8", "replace")
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise StoreError(f"{url}: {type(error).__name__} {error}") from None


def rejected(answer: str, count: int) -> list[tuple[int, str]]:
    """Return (index, reason) of the records that the service took the others without.

    Its answer is ``{"accepted": COUNT, "rejected": [{"index": LINE, "reason": TEXT}, …]}``, lines counted from 0.
    """
    try:
        found = {int(item["index"]): str(item["reason"])[:500] for item in json.loads(answer)["rejected"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    return [(index, found[index]) for index in range(count) if index in found]


class Sender:
    """Sends what is in ``spool`` to ``service`` (such as ``http://host:6827``) until stopped."""

    def __init__(
        self,
        spool: Spool,
        service: str,
        say: Callable[[str], None] = lambda line: None,
        credential: Callable[[str], str] = munge_credential,
        retry_first: float = _RETRY_FIRST,
    ):
        self._spool = spool
        self._url = service.rstrip("/") + "/v1/usage"
        self._say = say
        self._credential = credential
        self._retry_first = retry_first
        self._most = _BATCH
        self._stop = False
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)

    def start(self) -> None:
        """Begin sending; what was spooled before goes first."""
        self._news.set()
        self._thread.start()

    def wake(self) -> None:
        """Say that there are new records."""
        self._news.set()

    def stop(self, seconds: float = 2.0) -> None:
        """End the thread, waiting up to ``seconds`` for a request under way; what is unsent stays in the spool."""
        self._stop = True
        self._news.set()
        self._thread.join(seconds)

    def send_once(self) -> bool:
        """Send one batch; tell whether there may be more.

        Raises
        ------
        StoreError
            The service cannot be reached, or refuses us rather than a record.
        OSError
            The spool cannot be read or written.
        """
        lines, length = self._spool.batch(self._most)
        if not lines:
            return False
        body = b"".join(line + b"\n" for line in lines)
        status, answer = post(self._url, body, self._credential(hashlib.sha256(body).hexdigest()))
        said = f"status {status}: {answer.strip()[:500]}"
        if 200 <= status < 300:
            for index, reason in rejected(answer, len(lines)):
                self._set_aside(lines[index], reason)
            self._spool.sent(length)
            self._most = min(_BATCH, self._most * 2)
        elif status not in _RECORD_IS_BAD:
            raise StoreError(f"{self._url}: {said}")
        elif len(lines) > 1:
            # One of them is bad: halves find it without holding up the others.
            self._most = len(lines) // 2
        else:
            self._set_aside(lines[0], said)
            self._spool.sent(length)
        return True

    def _set_aside(self, line: bytes, reason: str) -> None:
        self._spool.refused(line, reason)
        self._say(f"a usage record was refused and set aside: {reason}")

    def _run(self) -> None:
        wait, told = self._retry_first, ""
        while not self._stop:
            self._news.wait()
            self._news.clear()
            try:
                while not self._stop and self.send_once():
                    if told:
                        self._say("the service takes usage records again")
                    wait, told = self._retry_first, ""
            except (StoreError, OSError) as error:
                if str(error) != told:
                    told = str(error)
                    self._say(f"usage records wait in the spool: {told}")
                # Agents that lost the service at one moment should not all come back at one moment.
                self._news.wait(wait * (0.5 + os.urandom(1)[0] / 512))
                wait = min(_RETRY_MOST, wait * 2)
                self._news.set()
