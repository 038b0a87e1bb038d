"""What all tiers share: the time that each tier took, printed before pytest's closing line."""

from collections import defaultdict
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
_seconds: dict[str, float] = defaultdict(float)
_count: dict[str, int] = defaultdict(int)


# Which lab a test's parameter stands for, where the test does not name the lab's fixture itself.
LAB_OF = {
    "hold": "holding_cluster",
    "26.05": "new_cluster",
    "pinned": "pinned_cluster",
    "first_fit": "first_fit_cluster",
}


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its tier, which is the folder that it lies in, and those of one lab as one group."""
    for item in items:
        tier = item.path.relative_to(TESTS).parts[0]
        if tier in ("lua", "spank", "lab"):
            item.add_marker(tier)
        if tier == "lab":
            item.add_marker(pytest.mark.xdist_group(lab_of(item)))
    # The quick tiers first: a mistake shows before a lab is started.
    order = {"unit": 0, "lua": 1, "spank": 2, "lab": 3}
    items.sort(key=lambda item: order.get(item.path.relative_to(TESTS).parts[0], 0))


def lab_of(item: pytest.Item) -> str:
    """Return the fixture of the lab that a test runs in: of several processes that test, one should start it."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    names = [*item.fixturenames, *(LAB_OF.get(each, each) for each in parameters if isinstance(each, str))]
    return next((name for name in names if name.endswith("_cluster")), "cluster")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add the time of set-up, call and tear-down to the tier."""
    tier = report.nodeid.removeprefix("tests/").split("/", 1)[0]
    _seconds[tier] += report.duration
    if report.when == "call":
        _count[tier] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line per tier."""
    terminalreporter.section("time per tier")
    for tier, seconds in sorted(_seconds.items()):
        terminalreporter.write_line(f"{tier:6} {_count[tier]:5} tests {seconds:7.1f} s")
