"""Asks `gpushare serve` for reports and for what is measured now. Standard library only: the command starts quickly."""

import hashlib
import http.client
import json
import urllib.parse
from collections.abc import Callable
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


def _get(service: str, page: str, timeout: float, read: Callable[[dict], T]) -> T:
    parts = urllib.parse.urlsplit(service)
    path = parts.path.rstrip("/") + page
    headers = {"Authorization": "MUNGE " + munge_credential(hashlib.sha256(path.encode()).hexdigest())}
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname, parts.port, timeout=timeout)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            status, body = response.status, response.read()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise StoreError(f"{service}: {why}: is `gpushare serve` running there?") from None
    try:
        answer = json.loads(body)
        if status == 200:
            return read(answer)
        raise StoreError(f"{service}: {answer['error']}")
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{service}: status {status}, and not an answer of `gpushare serve`") from None
