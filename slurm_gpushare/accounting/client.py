"""Asks `gpushare serve` for reports. Standard library only: the command starts quickly."""

import hashlib
import http.client
import json
import urllib.parse
from dataclasses import dataclass

from slurm_gpushare.accounting.selection import Selection, to_query
from slurm_gpushare.errors import StoreError
from slurm_gpushare.metrics.sender import munge_credential

_TIMEOUT = 120.0  # seconds: sacct may have to read a long period first


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
    parts = urllib.parse.urlsplit(service)
    path = f"{parts.path.rstrip('/')}/v1/report/jobs?{to_query(selection)}"
    headers = {"Authorization": "MUNGE " + munge_credential(hashlib.sha256(path.encode()).hexdigest())}
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname, parts.port, timeout=_TIMEOUT)
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
            return JobsAnswer(list(answer["runs"]), [str(line) for line in answer["warnings"]])
        raise StoreError(f"{service}: {answer['error']}")
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{service}: status {status}, and not an answer of `gpushare serve`") from None
