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


def _lab(item: pytest.Item) -> str | None:
    """Return the name of the lab that a test takes, or of one of them: a fixture, or a parameter that names one."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    lab = max((name for name in (*item.fixturenames, *parameters) if str(name).endswith("cluster")), default=None)
    # Half of all tests take this one: two processes have one each.
    return f"{lab} {'a-p' if item.path.name < 'test_q' else 'q-z'}" if lab == "cluster" else lab


# Before pytest-xdist's own, which reads the marks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its tier, which is the folder that it lies in, and with what it shares with others.

    Of several processes one runs all tests of a lab, so that each lab is started once; else all tests of a file.
    """
    for item in items:
        tier = item.path.relative_to(TESTS).parts[0]
        if tier in ("lua", "spank", "lab", "vm", "gpu", "long"):
            item.add_marker(tier)
        group = (_lab(item) if tier in ("lab", "long") else None) or str(item.path.relative_to(TESTS))
        item.add_marker(pytest.mark.xdist_group(group))
    # The quick tiers first: a mistake shows before a lab is started.
    order = {"unit": 0, "lua": 1, "spank": 2, "gpu": 3, "lab": 4, "vm": 5, "long": 6}
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
