"""Both sides of what was reserved: figures that can be checked by hand."""

from dataclasses import replace

import pytest

from slurm_gpushare.accounting.reconcile import reconcile, slurm_gpu_seconds
from slurm_gpushare.accounting.usage_report import Tally, pieces, tally
from tests.unit.accounting import month
from tests.unit.accounting.month import T, grant, run, used


@pytest.mark.parametrize(
    ("tres", "extra", "seconds"),
    [
        ("cpu=1,gres/shard=25,node=1", grant(), 25),
        ("cpu=1,gres/shard=50,node=2", grant(nodes=2), 50),
        ("cpu=1,gres/bitfusion=100,node=1", grant("bitfusion", gpus=2, fraction=0.5), 100),
        ("cpu=1,gres/gpu=1,gres/gpu:2g.20gb=1,node=1", grant("mig", fraction=0.25), 25),
        ("cpu=1,gres/gpu=2,gres/gpu:a100=2,node=1", "", 200),
        ("cpu=1,gres/shard=25,node=1", "", None),  # of how many to a GPU nobody says
        ("cpu=1,node=1", grant(), None),
    ],
)
def test_what_slurm_counted(tres: str, extra: str, seconds: float | None) -> None:
    row = run(1, 0, 100, alloc_tres=tres, extra=extra)
    assert slurm_gpu_seconds(row) == (None if seconds is None else pytest.approx(seconds))
    assert slurm_gpu_seconds(replace(row, elapsed_seconds=None)) is None


def test_the_small_history() -> None:
    found = reconcile(tally(pieces(month.RUNS, month.RECORDS, T + 1000)))
    # Quarters: 100 + 200 s of job 1, 100 each of 3, 2 and 4; job 5: 4 halves of 100 s; job 6: 2 x 60 s, by nobody.
    assert found["gpu_seconds_slurm"] == 0.25 * (300 + 300) + 0.5 * 400 + 120
    assert found["gpu_seconds_recorded"] == 0.25 * (300 + 300) + 0.5 * 400
    assert (found["gpu_seconds_unrecorded"], found["parts_unrecorded"]) == (120, 1)
    assert (found["gpu_seconds_foreign"], found["parts_foreign"]) == (None, 0)
    assert found["line"] == (
        "Slurm counted 0.13 GPU-hours of runs that have ended, 0.10 are recorded here (74.5 %); "
        "no agent measured 0.03 h on 1 GPU of runs."
    )


def test_records_of_no_run_are_told() -> None:
    found = reconcile(tally(pieces([], [used(1, 0, 3600, 0.1), used(2, 0, 3600, 0.1)], T + 5000)))
    assert found["line"] == (
        "Slurm counted - GPU-hours of runs that have ended, - are recorded here; "
        "Slurm does not know the runs of 2 records, 0.50 h."
    )


def test_a_running_one_is_on_neither_side() -> None:
    found = reconcile(tally(pieces([month.RUNNING], [used(7, 900, 950, 0.1)], T + 1000)))
    assert found["gpu_seconds_slurm"] is None and found["gpu_seconds_recorded"] is None
    assert reconcile(Tally()) == {**found, "line": reconcile(Tally())["line"]}
