"""What squeue --json tells of running jobs."""

import json

import pytest

from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.squeue import parse_ahead, parse_holding, parse_squeue


def test_extra_by_job_and_restart_in_both_spellings_of_numbers() -> None:
    jobs = [
        {"job_id": 3, "restart_cnt": 0, "extra": '{"v":1}'},
        {"job_id": 4, "restart_cnt": {"set": True, "infinite": False, "number": 2}, "extra": "x"},
        {"job_id": 5, "restart_cnt": 1, "extra": ""},
        {"job_id": 6},
    ]
    assert parse_squeue(json.dumps({"jobs": jobs})) == {(3, 0): '{"v":1}', (4, 2): "x"}


@pytest.mark.parametrize("text", ["", "[]", '{"jobs":[3]}', '{"jobs":[{"extra":"x"}]}', "[" * 100000])
def test_what_is_not_readable_is_refused(text: str) -> None:
    with pytest.raises(SlurmError, match="squeue"):
        parse_squeue(text)


def test_what_jobs_hold() -> None:
    jobs = [
        {"job_id": 3, "tres_alloc_str": "cpu=1,gres/shard=50,license/bitfusion=25"},
        {"job_id": 4, "tres_alloc_str": "cpu=1"},
        {"job_id": 5},
    ]
    assert parse_holding(json.dumps({"jobs": jobs})) == {3: {"gres/shard": "50", "license/bitfusion": "25"}}


@pytest.mark.parametrize(
    ("text", "ahead"),
    [
        ("", 0),
        ("7 100\n", 0),
        ("3 100\n9 100\n", 1),  # of equal priority the older one
        ("3 0\n", 0),  # held
        ("9 101\n10_[2-5%2] 200\n12+1 300\n", 3),
    ],
)
def test_who_is_before_job_7_of_priority_100(text: str, ahead: int) -> None:
    assert parse_ahead(text, 7, 100) == ahead
