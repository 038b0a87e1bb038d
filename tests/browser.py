"""A real Chromium without a screen, of the test tools' root file system, driven by Playwright."""

import asyncio
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.tools import inside

_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
_LISTENING = re.compile(r"DevTools listening on (ws://\S+)")


@contextmanager
def chromium() -> Iterator[tuple[Browser, Path]]:
    """Start a browser; yield it and the one folder whose files it can open."""
    work = Path(tempfile.mkdtemp(prefix="gpushare-browser-", dir="/tmp"))
    argv = ["chromium", *_FLAGS, "--remote-debugging-port=0", f"--user-data-dir={work}/profile", "about:blank"]
    process = subprocess.Popen(
        inside(argv, work, user="root"), stdout=subprocess.DEVNULL, stderr=(work / "log").open("wb")
    )
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.connect_over_cdp(_endpoint(process, work / "log"))
            yield browser, work
            browser.close()
    finally:
        # Playwright leaves its event loop as this thread's, and no other one could run.
        asyncio._set_running_loop(None)
        process.terminate()
        process.wait(20)
        shutil.rmtree(work, ignore_errors=True)


def _endpoint(process: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if found := _LISTENING.search(log.read_text(errors="replace")):
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"chromium does not listen:\n{log.read_text(errors='replace')[-2000:]}")
