"""`--format html` as a command: where it goes, and what is said where there is nothing."""

import sys
from types import SimpleNamespace

import click
import pytest

from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.cli.report import html


def test_a_page_is_not_written_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "sys", SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True)))
    with pytest.raises(click.UsageError, match=r"> report\.html"):
        html.show("Title", Selection(0, 1), None, [], {})


def test_the_reconciliation_stands_below(capsys: pytest.CaptureFixture[str]) -> None:
    assert not sys.stdout.isatty()
    lines = html.table(
        "Lines", [{"user": "alice", "hours": 2.0}], ("user", "hours"), headings={}, cells=lambda _, value: str(value)
    )
    html.show("Title", Selection(0, 1), None, [lines], {"reconciliation": {"line": "Slurm counted 2.00 GPU-hours."}})
    told = capsys.readouterr().out
    assert "<p>Reconciliation: Slurm counted 2.00 GPU-hours.</p>" in told
    assert '<tr data-user="alice"><th scope="row">alice</th><td class="number">2.0</td></tr>' in told


def test_a_long_table_says_how_much_of_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "MOST_ROWS", 2)
    rows = [{"job": str(number)} for number in range(3)]
    found = html.table("Runs", rows, ("job",), headings={}, cells=lambda _, value: value, says="3 runs.")
    assert len(found.rows) == 2 and found.says == "3 runs. The first 2 of 3 lines."
