"""The three forms in which data is printed."""

import csv
import io
import json

import pytest

from slurm_gpushare.cli.output import print_object, print_rows

ROWS = [{"job": 1, "used": 2.5, "user": "alice"}, {"job": 12, "used": None, "user": '[bold]b"o,b', "more": 1}]
COLUMNS = ("job", "user", "used")


def test_json_has_null_for_unknown(capsys) -> None:
    print_rows(ROWS, COLUMNS, "json")
    assert json.loads(capsys.readouterr().out) == [{name: row[name] for name in COLUMNS} for row in ROWS]


def test_csv_has_an_empty_field_for_unknown(capsys) -> None:
    print_rows(ROWS, COLUMNS, "csv")
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows == [["job", "user", "used"], ["1", "alice", "2.5"], ["12", '[bold]b"o,b', ""]]


def test_table_has_a_dash_for_unknown_and_prints_markup_as_text(capsys) -> None:
    print_rows(ROWS, COLUMNS, "table", headings={"used": "used [s]"}, cells=lambda name, value: f"<{value}>")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["job", "user", "used", "[s]"]
    assert lines[2] == ["<1>", "<alice>", "<2.5>"]
    assert lines[3] == ["<12>", '<[bold]b"o,b>', "-"]


@pytest.mark.parametrize("form", ["json", "csv", "table"])
def test_nothing_is_printed_as_nothing(capsys, form: str) -> None:
    print_rows([], COLUMNS, form)
    assert len(capsys.readouterr().out.splitlines()) <= 2


def test_one_object(capsys) -> None:
    print_object({"a": 1, "b": [1, 2]}, "json")
    assert json.loads(capsys.readouterr().out) == {"a": 1, "b": [1, 2]}
    print_object({"a": 1, "b": [1, 2]}, "csv")
    assert capsys.readouterr().out == 'a,b\n1,"[1, 2]"\n'
    print_object({"a": 1, "b": None}, "table")
    assert [line.split() for line in capsys.readouterr().out.splitlines()[2:]] == [["a", "1"], ["b", "-"]]
