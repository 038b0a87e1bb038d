"""Records as they arrive: good ones are taken, each bad one is named."""

import json
import math
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.accounting.incoming import check, parse_lines
from slurm_gpushare.errors import GrantError
from slurm_gpushare.gpu_hour import GpuHour, hour_to_json
from slurm_gpushare.usage import UsageRecord, usage_to_json
from tests.unit.accounting.month import RECORDS, used


def test_a_bad_line_holds_up_no_other() -> None:
    good = [usage_to_json(record) for record in RECORDS[:2]]
    body = "\n".join([good[0], "nonsense", "", '{"v":3}', good[1], "[]", "[" * 100000]) + "\n"
    records, rejected = parse_lines(body.encode() + b"\xff\n")
    assert records == RECORDS[:2]
    assert [index for index, _ in rejected] == [1, 3, 5, 6, 7]
    assert "version 3" in rejected[1][1]


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
        ("image", "/data/a\nb.sif"),
        ("sm_p95", 1.01),
        ("sm_mean", "0.5"),
        ("memory_mean_bytes", 0.5),
        ("gpu_seconds_without_process", -1),
        ("gaps", [[0, 1, "why"]] * 21),
        ("gaps", [[0, -1, "why"]]),
        ("gaps", [[0, 1]]),
        ("gaps", [[0, 1, "a\nb"]]),
        ("gaps", {"0": 1}),
        ("series", {"every": 1, "sm": [0.5], "memory": []}),
        ("series", {"every": 1, "sm": [0.5], "memory": [0.5]}),
        ("series", {"every": 1, "sm": [1.5], "memory": [1]}),
        ("series", {"every": 1, "sm": [0.5, float("nan")], "memory": [1, 1]}),
        ("series", {"every": 1, "sm": [0.5, -0.1], "memory": [1, 1]}),
        ("series", {"every": 1, "sm": [0.5, True], "memory": [1, 1]}),
        ("series", {"every": 1, "sm": [0.5], "memory": [2**63]}),
        ("series", {"every": 0, "sm": [0.5], "memory": [1]}),
        ("series", {"every": 1, "sm": [0] * 241, "memory": [1] * 241}),
        ("series", {"every": 1, "sm": [0.5]}),
        ("series", [1]),
    ],
)
def test_a_value_that_is_not_possible_is_named(name: str, value: object) -> None:
    line = json.dumps({"v": 1, **asdict(RECORDS[0]), name: value})
    records, [(index, reason)] = parse_lines(line.encode())
    assert (records, index) == ([], 0)
    assert name in reason


def test_what_is_not_known_may_be_null_and_what_is_known_is_taken() -> None:
    known = {"sm_mean": 0.5, "memory_p95_bytes": 1, "gaps": [[3, 1.5, "GPU is lost"]], "memory_share_bytes": None}
    known["series"] = {"every": 1.0, "sm": [0.5, None], "memory": [None, 3]}
    line = json.dumps({"v": 2, **asdict(RECORDS[0]), **known})
    assert parse_lines(line.encode()) == ([replace(RECORDS[0], **known)], [])


HOUR = GpuHour("lab", "n1", "GPU-1", "node", 3600.0, "Tesla", 60.0, "measured", 15.0, 20.0, 12.0, 1.0, 7.0, *[None] * 4)


def test_hours_come_among_records() -> None:
    lines = [usage_to_json(RECORDS[0]), hour_to_json(HOUR), '{"kind":"gpu_hour","v":7}']
    records, [(index, reason)] = parse_lines("\n".join(lines).encode())
    assert records == [RECORDS[0], HOUR] and index == 2 and "version 7" in reason


@pytest.mark.parametrize(
    ("name", "value"),
    [("hour", -1), ("hour", None), ("node", ""), ("gpu", None), ("seconds_sampled", "1"), ("gpu_seconds_used", -1)]
    + [("energy_joules", math.inf), ("quality", "good"), ("surprise", 1), ("gpu_name", 3)],
)
def test_a_value_that_is_not_possible_in_an_hour_is_named(name: str, value: object) -> None:
    line = json.dumps(json.loads(hour_to_json(HOUR)) | {name: value})
    records, [(_, reason)] = parse_lines(line.encode())
    assert records == [] and name in reason


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
