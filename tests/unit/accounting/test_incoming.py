"""Records as they arrive: good ones are taken, each bad one is named."""

import json
import math
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.accounting.incoming import check, parse_lines
from slurm_gpushare.errors import GrantError
from slurm_gpushare.usage import UsageRecord, usage_to_json
from tests.unit.accounting.month import RECORDS, used


def test_a_bad_line_holds_up_no_other() -> None:
    good = [usage_to_json(record) for record in RECORDS[:2]]
    body = "\n".join([good[0], "nonsense", "", '{"v":2}', good[1], "[]", "[" * 100000]) + "\n"
    records, rejected = parse_lines(body.encode() + b"\xff\n")
    assert records == RECORDS[:2]
    assert [index for index, _ in rejected] == [1, 3, 5, 6, 7]
    assert "version 2" in rejected[1][1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cluster", ""),
        ("cluster", "x" * 65),
        ("node", None),
        ("node", "a\nb"),
        ("gpu", 3),
        ("job_id", -1),
        ("job_id", 1.5),
        ("job_id", 2**63),
        ("uid", True),
        ("started", "now"),
        ("started", math.nan),
        ("ended", math.inf),
        ("fraction", 0),
        ("fraction", 1.01),
        ("gpu_seconds_reserved", None),
        ("gpu_seconds_used", -0.5),
        ("quality", "good"),
        ("memory_peak_bytes", 1.5),
        ("enforces", "memory=much,compute=none,faults=none"),
        ("enforces", {"memory": "none"}),
    ],
)
def test_a_value_that_is_not_possible_is_named(name: str, value: object) -> None:
    line = json.dumps({"v": 1, **asdict(RECORDS[0]), name: value})
    records, [(index, reason)] = parse_lines(line.encode())
    assert (records, index) == ([], 0)
    assert name in reason


def test_ended_before_started() -> None:
    with pytest.raises(GrantError, match="lies before"):
        check(used(1, 10, 9, None, gpu_seconds_reserved=0))


@given(
    st.builds(
        UsageRecord,
        **{
            name: st.none() | st.text(max_size=3) | st.integers() | st.floats() | st.booleans()
            for name in asdict(RECORDS[0])
        },
    )
)
def test_what_is_taken_is_in_range(record: UsageRecord) -> None:
    try:
        check(record)
    except GrantError:
        return
    assert 0 < record.fraction <= 1 and record.started <= record.ended < math.inf and record.job_id >= 0
