"""Asks `gpushare serve` for reports and for what is measured now. Standard library only: the command starts quickly."""

import hashlib
import http.client
import json
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from slurm_gpushare.accounting.selection import Selection, to_query
from slurm_gpushare.errors import StoreError
from slurm_gpushare.metrics.sender import munge_credential

_TIMEOUT = 120.0  # seconds: sacct may have to read a long period first
_LIVE_TIMEOUT = 5.0

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What the service said to one report: its data (accounting/reports.py tells the keys), and warnings to show."""

    data: dict
    warnings: list[str]


def ask(service: str, report: str, selection: Selection, **parameters: str) -> Answer:
    """Ask the service at ``service`` (such as ``http://host:6827``) for one of accounting/reports.py's REPORTS.

    Raises
    ------
    StoreError
        The service cannot be reached, refuses, or its answer is not readable; or munge is away.
    """
    own = urllib.parse.urlencode(parameters) + "&" if parameters else ""

    def read(answer: dict) -> Answer:
        warnings = [str(line) for line in answer.pop("warnings")]
        return Answer(answer, warnings)

    return _get(service, f"/v1/report/{report}?{own}{to_query(selection)}", _TIMEOUT, read)


def live(service: str) -> dict:
    """Ask the service for what agents measure now (accounting/live.py, LiveBoard.view); raises StoreError likewise."""
    return _get(
        service, "/v1/live", _LIVE_TIMEOUT, lambda answer: {name: answer[name] for name in ("listening", "agents")}
    )


def export(service: str, what: str, start: float, end: float) -> Iterator[dict]:
    """Yield the rows of one of accounting/export.py's TABLES whose time lies in [start, end); raises StoreError."""
    connection, response = _open(service, f"/v1/export/{what}?start={start!r}&end={end!r}", _TIMEOUT)
    try:
        if response.status != 200:
            raise StoreError(f"{service}: {json.loads(response.read())['error']}")
        count = 0
        # http.client tells of no connection that is cut between two lines; the last line does.
        for line in response:
            row = json.loads(line)
            if row == count:
                return
            yield row
            count += 1
        raise StoreError(f"{service}: the export broke off after {count} rows")
    except (OSError, http.client.HTTPException) as error:
        raise StoreError(f"{service}: the export broke off: {error or type(error).__name__}") from None
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{service}: status {response.status}, and not an answer of `gpushare serve`") from None
    finally:
        connection.close()


def _open(service: str, page: str, timeout: float) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """Ask for a page in the name of who runs this; return the connection and its answer; raises StoreError."""
    try:
        parts = urllib.parse.urlsplit(service)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise StoreError(f"{service}: is no service's address: write http://HOST:6827")
    path = parts.path.rstrip("/") + page
    headers = {"Authorization": "MUNGE " + munge_credential(hashlib.sha256(path.encode()).hexdigest())}
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(host, port, timeout=timeout)
        try:
            connection.request("GET", path, headers=headers)
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _away(service, error) from None


def _away(service: str, error: Exception) -> StoreError:
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return StoreError(f"{service}: {why}: is `gpushare serve` running there?")


def _get(service: str, page: str, timeout: float, read: Callable[[dict], T]) -> T:
    connection, response = _open(service, page, timeout)
    try:
        status, body = response.status, response.read()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _away(service, error) from None
    finally:
        connection.close()
    try:
        answer = json.loads(body)
        if status == 200:
            return read(answer)
        raise StoreError(f"{service}: {answer['error']}")
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{service}: status {status}, and not an answer of `gpushare serve`") from None
