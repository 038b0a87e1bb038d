"""The judge of loads on the pool: it believes the servers' own logs and nothing else."""

import copy
from fractions import Fraction

import pytest

from bench import pool_load
from bench.pool_load import Ask
from slurm_gpushare.lab.params import LabParams

PARAMS = LabParams(pool_servers=2, slurm="26.05", pool_placement="first_fit")
LOAD = [Ask(1, Fraction(1, 4), 0.0, 1.0), Ask(1, Fraction(1), 2.5, 1.0)]
IDS = ["00000000-0000-0000-0000-00000000000" + digit for digit in "12"]


def log(*entries: tuple) -> dict:
    """Return a server's state with a log of (time, event, request, details)."""
    return {
        "gpus": [{"index": 0, "total_mib": 1000}],
        "log": [{"time": time, "event": event, "request": request, **more} for time, event, request, more in entries],
    }


def granted(time: float, request: str, number: int, mib: int) -> tuple:
    return time, "granted", request, {"allocation": IDS[number], "gpus": [0], "mib": mib}


def released(time: float, request: str, number: int) -> tuple:
    return time, "released", request, {"allocation": IDS[number], "reason": "release"}


def job(number: int, ip: str, licences: str) -> dict:
    return {
        "state": "COMPLETED",
        "licences": licences,
        "wanted": None,
        "output": f"tcp:{ip}:45201:{IDS[number]}:secret",
    }


GOOD = {
    "began": 100.0,
    "jobs": [job(0, "10.77.0.10", "gpu0@server1:25"), job(1, "10.77.0.11", "gpu0@server2:100")],
    "servers": {
        "server1": log(granted(101.0, "a", 0, 250), released(103.0, "a", 0)),
        "server2": log(granted(101.0, "b", 1, 1000), released(102.0, "b", 1)),
    },
}


def test_what_went_well() -> None:
    verdict = pool_load.judge(PARAMS, LOAD, GOOD)
    assert (verdict.jobs, verdict.completed, verdict.granted, verdict.refused) == (2, 2, 2, 0)
    assert verdict.misplaced == verdict.over == ()
    # Until the last job came, 250 MiB for one and a half second and 1000 for one, of 2000 for one and a half.
    assert (verdict.seconds, verdict.use, verdict.peak) == (2.0, 1375 / 3000, 1250 / 2000)


@pytest.mark.parametrize("server", ["server1", "server2"])
def test_a_refusal_counts_once_wherever_the_job_was_sent(server: str) -> None:
    outcome = copy.deepcopy(GOOD)
    for time in (100.5, 100.7):
        outcome["servers"][server]["log"].insert(
            0, {"time": time, "event": "refused", "request": "a", "reason": "full", "times": 3}
        )
    assert pool_load.judge(PARAMS, LOAD, outcome).refused == 1


def test_in_a_flat_pool_it_is_a_refusal_when_the_last_server_refuses() -> None:
    flat = LabParams(pool_servers=2)
    entry = {"time": 100.5, "event": "refused", "request": "b", "reason": "full", "times": 1}
    outcome = copy.deepcopy(GOOD)
    outcome["servers"]["server1"]["log"].insert(0, entry)  # the second had room
    assert pool_load.judge(flat, LOAD, outcome).refused == 0
    outcome["servers"]["server2"]["log"].insert(0, entry)
    verdict = pool_load.judge(flat, LOAD, outcome)
    # Half a second of waiting for 1000 MiB, of 2000 MiB for two seconds.
    assert (verdict.refused, verdict.blocked) == (1, 0.5 * 1000 / 4000)


@pytest.mark.parametrize(
    "licences", ["gpu0@server2:25", "gpu1@server1:25", "gpu0@server1:50", "gpu0@server1:25;gpu0@server2:25", None]
)
def test_an_allocation_elsewhere_than_slurm_said(licences: str | None) -> None:
    outcome = copy.deepcopy(GOOD)
    outcome["jobs"][0]["licences"] = licences
    (wrong,) = pool_load.judge(PARAMS, LOAD, outcome).misplaced
    assert wrong.startswith("job 0, gpu:0.25: Slurm gave")


def test_a_job_without_an_allocation() -> None:
    outcome = copy.deepcopy(GOOD)
    outcome["jobs"][1] |= {"state": "FAILED", "output": ""}
    verdict = pool_load.judge(PARAMS, LOAD, outcome)
    assert verdict.completed == 1
    assert verdict.misplaced == ("job 1, gpu:1: FAILED, and no allocation that the pool knows: ''",)


def test_a_gpu_that_held_too_much() -> None:
    outcome = copy.deepcopy(GOOD)
    outcome["servers"]["server1"]["log"].insert(0, dict(outcome["servers"]["server2"]["log"][0]))
    assert pool_load.judge(PARAMS, LOAD, outcome).over == ("server1 GPU 0: 1250 of 1000 MiB",)


def test_what_was_before_the_load_does_not_count() -> None:
    outcome = copy.deepcopy(GOOD)
    outcome["servers"]["server1"]["log"].insert(0, {"time": 99.0, "event": "refused", "request": "x", "times": 1})
    assert pool_load.judge(PARAMS, LOAD, outcome) == pool_load.judge(PARAMS, LOAD, GOOD)


def test_the_same_seed_is_the_same_load() -> None:
    kinds = [(1, "1/4"), (2, "1")]
    load = pool_load.asks(7, 50, kinds, 0.1, (0.3, 1.0))
    assert load == pool_load.asks(7, 50, kinds, 0.1, (0.3, 1.0))
    assert {(ask.gres, ask.gpus, ask.slices) for ask in load} == {("gpu:0.25", 1, 25), ("gpu:2", 2, 100)}
    assert [ask.at for ask in load] == sorted(ask.at for ask in load)
    assert all(0.3 <= ask.seconds <= 1.0 for ask in load)
