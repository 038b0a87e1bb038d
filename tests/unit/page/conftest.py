"""Pages of a made-up month, made by the real commands over a service; and a real browser that opens them."""

import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser

from slurm_gpushare.accounting import client
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.cli.report import report
from slurm_gpushare.errors import LabError
from tests.browser import chromium
from tests.unit.accounting.test_service import Running
from tests.unit.page.history import history


def iso(moment: float) -> str:
    """Return a moment as -S and -E take it."""
    return datetime.fromtimestamp(moment).strftime("%Y-%m-%dT%H:%M:%S")


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable]:
    """Return what makes the page of a report for a user (``uid``; 0 sees all)."""
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('store')}/usage.sqlite")
    rows, records, hours = history()
    store.add_jobs(rows)
    store.add_usage([*records, *hours])
    service = Running(store, lambda *args: [])

    def page(*argv: str, uid: int = 0) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client, "munge_credential", lambda payload: f"{uid}:{payload}")
            result = CliRunner().invoke(report, [*argv, "--service", service.url, "--format", "html"])
        assert result.exit_code == 0, result.output
        return result.stdout

    yield page
    service.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[tuple[Browser, Path]]:
    """Return a browser and the folder whose files it opens."""
    try:
        with chromium() as running:
            yield running
    except LabError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no browser: {error}")
