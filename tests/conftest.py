"""What all tiers share: the time that each tier took, printed before pytest's closing line."""

import signal
from collections import defaultdict
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
_seconds: dict[str, float] = defaultdict(float)
_count: dict[str, int] = defaultdict(int)


def pytest_configure(config: pytest.Config) -> None:
    """Take signals as a terminal would send them: below nohup, or behind a shell's &, programs inherit them ignored."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its tier, which is the folder that it lies in."""
    for item in items:
        tier = item.path.relative_to(TESTS).parts[0]
        if tier in ("lua", "spank", "lab", "gpu"):
            item.add_marker(tier)
    # The quick tiers first: a mistake shows before a lab is started.
    order = {"unit": 0, "lua": 1, "spank": 2, "gpu": 3, "lab": 4}
    items.sort(key=lambda item: order.get(item.path.relative_to(TESTS).parts[0], 0))


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
