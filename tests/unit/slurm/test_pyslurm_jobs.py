"""Runs by pyslurm's documented interface, over a fake of it; what that does not tell is asked of sacct."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_gpushare.slurm import jobs, pyslurm_jobs
from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.pyslurm_jobs import fetch_jobs, told, unfit
from slurm_gpushare.slurm.sacct import JobRow
from tests.unit.slurm import fake_pyslurm
from tests.unit.slurm.fake_pyslurm import NO_VAL, Job, Jobs, TrackableResources

ROOT = Path(__file__).parents[3]
TRES = "billing=1,cpu=1,gres/shard=25,mem=500M,node=1"
# What sacct tells of a plain run, and pyslurm's words for the same.
ROW = JobRow(
    **{"cluster": "lab", "job_id": 7, "submit": 1000, "restart": 0, "array_job_id": None, "array_task_id": None},
    **{"start": 1010, "end": 1110, "elapsed_seconds": 100, "user": "alice", "uid": 1001, "account": "physics"},
    **{"partition": "shard", "qos": "normal", "state": "COMPLETED", "exit_code": "0:0", "nodes": 1, "nodelist": "n1"},
    **{"alloc_tres": TRES, "req_tres": TRES, "extra": '{"v":1}'},
)


def job(**changed: object) -> Job:
    values = {
        **{"cluster": "lab", "id": 7, "submit_time": 1000, "requeue_count": 0, "start_time": 1010, "end_time": 1110},
        **{"elapsed_time": 100, "user_name": "alice", "user_id": 1001, "account": "physics", "partition": "shard"},
        **{"qos": "normal", "state": "COMPLETED", "exit_code": 0, "exit_code_signal": 0, "num_nodes": 1},
        **{"nodelist": "n1", "extra": b'{"v":1}', "heterogeneous_offset": NO_VAL},
        **{"allocated_tres": TrackableResources(TRES), "requested_tres": TrackableResources(TRES)},
    }
    return Job(**{**values, **changed})


@pytest.fixture(autouse=True)
def fake() -> Iterator[None]:
    Jobs.table, Jobs.asked, Jobs.away = [], [], False
    yield


def rows(*table: Job) -> list[JobRow]:
    Jobs.table = list(table)
    found, left = told(fake_pyslurm, 0, 2000, [])
    assert left == []
    return found


def test_the_fake_says_that_it_is_one_and_refuses_what_the_real_one_has_not() -> None:
    assert fake_pyslurm.FAKE
    with pytest.raises(AttributeError):
        fake_pyslurm.JobFilter(duplicates=True)
    with pytest.raises(AttributeError):
        job().alloc_tres  # noqa: B018


def test_a_plain_run_is_the_row_of_sacct() -> None:
    assert rows(job()) == [ROW]
    assert Jobs.asked == [{"start_time": 0, "end_time": 2000}]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"end_time": None, "state": "RUNNING"}, {"end": None, "state": "RUNNING"}),
        ({"state": "CANCELLED by 1001"}, {"state": "CANCELLED"}),
        ({"exit_code_signal": 9}, {"exit_code": "0:9"}),
        ({"array_id": 5, "array_task_id": 3}, {"array_job_id": 5, "array_task_id": 3}),
        ({"array_id": 5, "array_task_id": None}, {"array_job_id": 5, "array_task_id": 0}),
        ({"array_id": 5, "array_tasks_waiting": "1-30"}, {"array_job_id": 5, "array_task_id": None}),
        ({"heterogeneous_id": 7, "heterogeneous_offset": None}, {"het_job_id": 7, "het_offset": 0}),
        ({"heterogeneous_id": 6, "heterogeneous_offset": 1}, {"het_job_id": 6, "het_offset": 1}),
        ({"extra": None}, {"extra": ""}),
        ({"system_comment": "gpushare: ended, idle"}, {"reason": "ended, idle"}),
        ({"system_comment": "a drain"}, {"reason": None}),
        ({"user_id": 0, "user_name": "root"}, {"uid": 0, "user": "root"}),
        (
            {"start_time": None, "end_time": None, "elapsed_time": None, "nodelist": "None assigned"}
            | {"state": "PENDING", "allocated_tres": None},
            {"start": None, "end": None, "elapsed_seconds": 0, "nodelist": None, "state": "PENDING", "alloc_tres": ""},
        ),
        (
            {"allocated_tres": TrackableResources("cpu=2"), "submit_command": "srun --gpus-per-task=0.25 x"}
            | {"extra": None},
            {"alloc_tres": "cpu=2", "extra": "", "lost_request": "--gpus-per-task=0.25"},
        ),
    ],
)
def test_what_it_says_in_words_of_its_own(changed: dict, expected: dict) -> None:
    assert rows(job(**changed)) == [replace(ROW, **expected)]


@pytest.mark.parametrize(
    "text",
    ["cpu=1,energy=123,gres/gpu=2,gres/gpu:a100=2,mem=1000M,node=2", "cpu=1,fs/disk=5,license/bitfusion=25,node=1"],
)
def test_tres_are_written_as_sacct_does(text: str) -> None:
    (row,) = rows(job(allocated_tres=TrackableResources(text)))
    assert row.alloc_tres == text


def test_a_tres_that_is_not_known_is_none() -> None:
    (row,) = rows(job(allocated_tres=TrackableResources(f"cpu=1,energy={2**64 - 2},node=1")))
    assert row.alloc_tres == "cpu=1,node=1"


def test_what_it_cannot_tell_is_left_to_sacct() -> None:
    Jobs.table = [
        job(id=1, requeue_count=1),
        job(id=2, extra=b"caf\xe9"),
        job(id=3, user_name="1077", user_id=1077),
        job(id=4),
    ]
    found, left = told(fake_pyslurm, 0, 2000, [])
    assert ([row.job_id for row in found], left) == ([4], [1, 2, 3])


CODE = """
import sys
sys.path.insert(0, {root!r})
from tests.unit.slurm import fake_pyslurm, test_pyslurm_jobs as ours
from slurm_gpushare.slurm import pyslurm_jobs
fake_pyslurm.Jobs.table = [ours.job(), ours.job(id=8, requeue_count=2)]
fake_pyslurm.Jobs.away = {away}
def load():
    print("a line of a library on stdout")
    return fake_pyslurm
pyslurm_jobs.main(sys.argv[1:], load)
"""


def child(away: bool = False) -> list[str]:
    return [sys.executable, "-c", CODE.format(root=str(ROOT), away=away)]


def test_in_a_process_of_its_own_with_sacct_for_the_rest() -> None:
    runs = [replace(ROW, job_id=8, submit=at, restart=restart) for restart, at in enumerate((1000, 1200, 1400))]
    asked = []

    def by_sacct(start: float, end: float, jobs: list[int]) -> list[JobRow]:
        asked.append((start, end, jobs))
        return runs

    assert fetch_jobs(0.0, 2000.0, (), child(), by_sacct) == [ROW, *runs]
    assert asked == [(0.0, 2000.0, [8])]
    assert fetch_jobs(0.0, 2000.0, [7], child(), by_sacct) == [ROW]


def test_a_failure_is_one_line() -> None:
    with pytest.raises(SlurmError, match="pyslurm: RPCError: Failed to get Jobs from slurmdbd"):
        fetch_jobs(0, 1, (), child(away=True))


def test_without_pyslurm_the_process_says_so() -> None:
    done = subprocess.run([*pyslurm_jobs.CHILD, "0", "1"], capture_output=True, text=True, check=False)
    if pyslurm_jobs.installed() is None:
        assert done.returncode == 1 and "No module named 'pyslurm'" in done.stderr and done.stdout == ""


def test_what_is_no_answer_is_said() -> None:
    for text in ("", "[]", json.dumps({"rows": [{"x": 1}], "ask": []})):
        with pytest.raises(SlurmError, match="pyslurm: not readable"):
            fetch_jobs(0, 1, (), [sys.executable, "-c", f"print({text!r})"])


@pytest.mark.parametrize(
    ("pyslurm", "slurm", "why"),
    [
        ("25.11.2", "slurm 25.11.4", None),
        ("25.11.2", "slurm-wlm 25.11.0", None),
        ("25.11.2", "slurm-wlm 24.11.5", "pyslurm 25.11.2 is not of Slurm 24.11: install pyslurm 24.11"),
        ("25.11.2", "slurm 26.05.5", "pyslurm 25.11.2 is not of Slurm 26.05: install pyslurm 26.05"),
        (None, "slurm 25.11.4", "pyslurm is not installed: install it beside gpushare"),
    ],
)
def test_it_fits_slurm_of_the_same_version_alone(pyslurm: str | None, slurm: str, why: str | None) -> None:
    assert unfit(pyslurm, slurm) == why


def choose(way: str, pyslurm: str | None, slurm: str = "slurm 25.11.4", **ways: object) -> tuple:
    return jobs.chosen(way, lambda: pyslurm, lambda: slurm, **ways)


def test_which_way_is_chosen() -> None:
    assert [choose(way, None)[0] for way in ("auto", "sacct", "sacct_json")] == ["sacct", "sacct", "sacct_json"]
    assert choose("auto", "25.11.2")[0] == "pyslurm" == choose("pyslurm", "25.11.0")[0]
    assert choose("auto", "25.11.2", "slurm 26.05.5")[0] == "sacct"
    for pyslurm in (None, "24.11.0"):
        with pytest.raises(SlurmError, match=r"service.slurm is pyslurm: .*, or write auto"):
            choose("pyslurm", pyslurm)


def test_where_nobody_says_slurms_version_sacct_is_asked() -> None:
    def away() -> str:
        raise SlurmError("sacct: not found")

    assert jobs.chosen("auto", lambda: "25.11.2", away)[0] == "sacct"


def test_pyslurm_that_fails_is_not_the_end_where_sacct_answers() -> None:
    def fails(*arguments: object) -> list:
        raise SlurmError("pyslurm: away")

    ways = {"by_pyslurm": fails, "by_sacct": lambda *arguments: [ROW]}
    assert choose("auto", "25.11.2", **ways)[1](0, 1, iter([7])) == [ROW]
    with pytest.raises(SlurmError, match="pyslurm: away"):
        choose("pyslurm", "25.11.2", **ways)[1](0, 1, [])
