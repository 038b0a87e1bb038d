"""Makes docs/report.png: the page of the demo's jobs, without what README shows as text beside it. `make picture`."""

import subprocess
import sys
from pathlib import Path

from tests.browser import chromium

PICTURE = Path(__file__).parent.parent / "docs/report.png"
LARGEST = 300_000  # bytes
# The one day of the demo by days, the runs, and where the page comes from.
LEFT_OUT = """() => {
  for (const title of ["times-title", "table1-title"]) document.querySelector(`[aria-labelledby=${title}]`).remove();
  document.querySelector("footer").remove();
}"""


def page_of(lab: str) -> bytes:
    """Return the page of the jobs that ran in the lab."""
    gpushare = str(Path(sys.executable).with_name("gpushare"))
    argv = [gpushare, "lab", "exec", "--name", lab, "--", "gpushare", "report", "jobs", "--format", "html"]
    return subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout


def draw(page: bytes) -> bytes:
    """Return the page as a reader sees it, in PNG."""
    with chromium() as (browser, folder):
        file = folder / "report.html"
        file.write_bytes(page)
        shown = browser.new_context(viewport={"width": 1100, "height": 900}).new_page()
        shown.goto(file.as_uri())
        shown.wait_for_function("document.documentElement.dataset.drawn")
        shown.evaluate(LEFT_OUT)
        return shown.screenshot(full_page=True)


if __name__ == "__main__":
    picture = draw(page_of(*(sys.argv[1:] or ["demo"])))
    if len(picture) > LARGEST:
        sys.exit(f"{PICTURE.name}: {len(picture)} bytes, of which README's reader waits for {LARGEST} at most")
    PICTURE.write_bytes(picture)
    print(f"{PICTURE}: {len(picture)} bytes")
