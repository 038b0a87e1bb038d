"""`sacct --json` of both versions, recorded in the lab beside the table of the same jobs: the same rows."""

import json
from dataclasses import replace

import pytest

from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.sacct import parse_sacct
from slurm_gpushare.slurm.sacct_json import parse_sacct_json, sacct_json_argv
from tests.unit.slurm.recorded import ASSETS, VERSIONS

USERS = {"alice": 1001}


def recorded(version: str) -> dict:
    return json.loads((ASSETS / version / "sacct.json").read_text())


@pytest.mark.parametrize("version", VERSIONS)
def test_the_recorded_rows_are_those_of_the_table(version: str) -> None:
    said = recorded(version)
    rows = parse_sacct_json(json.dumps(said["json"]), USERS.get)
    assert rows == parse_sacct(said["table"], "\x1f")
    assert {row.state for row in rows} >= {"REQUEUED", "CANCELLED", "COMPLETED", "FAILED"}
    assert {row.exit_code for row in rows} >= {"3:0", "0:9"}
    assert {row.het_offset for row in rows} == {None, 0, 1} and None in {row.start for row in rows}
    assert any(row.reason for row in rows) and any("license/bitfusion=25" in row.alloc_tres for row in rows)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_user_who_is_gone_has_no_number(version: str) -> None:
    said = recorded(version)
    rows = parse_sacct_json(json.dumps(said["json"]), lambda name: None)
    assert [replace(row, uid=1001) for row in rows] == parse_sacct(said["table"], "\x1f")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"jobs": [{}]}', '{"jobs": [], "errors": [{"description": "Unable to connect to database"}]}'],
)
def test_what_is_not_readable_is_refused(text: str) -> None:
    with pytest.raises(SlurmError, match="sacct --json"):
        parse_sacct_json(text)


def test_argv_asks_for_the_same_as_the_table() -> None:
    assert sacct_json_argv(1795364126.9, 1795364200)[-4:] == ["-S", "2026-11-22T16:15:26", "-E", "2026-11-22T16:16:40"]
    assert sacct_json_argv(0, 1, [5, 7])[-2:] == ["-j", "5,7"]
    assert {"-D", "-X", "-a", "--json"} <= set(sacct_json_argv(0, 1))
