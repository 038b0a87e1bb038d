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
class JobsAnswer:
    """What the service said: runs with the keys of RunReport, times as seconds since the epoch."""

    runs: list[dict]
    warnings: list[str]


def report_jobs(service: str, selection: Selection) -> JobsAnswer:
    """Ask the service at ``service`` (such as ``http://host:6827``) for the runs of ``selection``.

    Raises
    ------
    StoreError
        The service cannot be reached, refuses, or its answer is not readable; or munge is away.
    """
    return _get(
        service,
        f"/v1/report/jobs?{to_query(selection)}",
        _TIMEOUT,
        lambda answer: JobsAnswer(list(answer["runs"]), [str(line) for line in answer["warnings"]]),
    )


@dataclass(frozen=True)
class LinesAnswer:
    """What the service said: lines with the keys of Sums, or of Advice."""

    lines: list[dict]
    warnings: list[str]


def report_usage(service: str, by: tuple[str, ...], selection: Selection) -> LinesAnswer:
    """Ask the service for sums over the runs of ``selection`` by the names of ``by``; raises StoreError likewise."""
    return _lines(service, f"/v1/report/usage?by={','.join(by)}&{to_query(selection)}")


def report_advice(service: str, selection: Selection) -> LinesAnswer:
    """Ask the service with how much less the runs of ``selection`` would have done; raises StoreError likewise."""
    return _lines(service, f"/v1/report/advice?{to_query(selection)}")


def _lines(service: str, page: str) -> LinesAnswer:
    return _get(
        service,
        page,
        _TIMEOUT,
        lambda answer: LinesAnswer(list(answer["lines"]), [str(line) for line in answer["warnings"]]),
    )


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
