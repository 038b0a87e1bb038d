import pytest

from slurm_gpushare.grant import Grant
from slurm_gpushare.idle.words import acted, duration, reason, warned
from slurm_gpushare.status.jobs import HeldJob


def job(gpus=1, fraction=0.25, tasks=1, nodes=("n1",)):
    grant = Grant("shard", gpus, fraction, 25, None, 1, "rule", "gpu:0.25", "", tasks)
    return HeldJob(12, "11_2", "alice", "RUNNING", 1, grant, nodes=nodes)


def test_the_owner_reads_what_is_and_what_will_be():
    fact = "gpushare: job 11_2 has held 0.25 of a GPU for 1 h 5 min without use: "
    assert warned(job(), 3900, "end", 900) == fact + "unless it uses it, it is ended in 15 min"
    assert warned(job(), 3900, "requeue", 90) == fact + "unless it uses it, it is put back into the queue in 90 s"
    assert warned(job(), 3900, "warn", 900) == (
        fact + "others may wait for it; end the job when you no longer need it (scancel 11_2)"
    )
    assert acted(job(), 3900, "end") == fact + "the job is ended now"
    assert acted(job(), 3900, "requeue") == fact + "the job goes back into the queue now"


@pytest.mark.parametrize(
    ("one", "share"),
    [
        (job(), "0.25 of a GPU"),
        (job(gpus=2, fraction=0.5), "0.5 of each of 2 GPUs"),
        (job(tasks=2, nodes=("n1", "n2")), "0.25 of each of 4 GPUs"),
        (job(fraction=1.0), "a GPU"),
        (job(gpus=2, fraction=1.0), "2 GPUs"),
        (HeldJob(1, "1", "alice", "RUNNING", 1, None, {"n1": {0: None}}), "a GPU"),
        (HeldJob(1, "1", "alice", "RUNNING", 1, None, {"n1": {0: None}, "n2": {0: None, 1: None}}), "3 GPUs"),
    ],
)
def test_what_it_holds(one, share):
    assert f"has held {share} for" in acted(one, 100, "end")


@pytest.mark.parametrize("way", ["warn", "end", "requeue"])
def test_the_reason_has_nothing_that_sacctmgr_reads_as_its_own(way):
    text = reason(job(), 3600, way)
    done = {"warn": "warned", "end": "ended", "requeue": "requeued"}[way]
    assert text == f"gpushare: {done} by the idle policy: job 11_2 has held 0.25 of a GPU for 1 h without use"
    assert not set(text) & set("=,'\"+-")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119.9, "119 s"), (120, "2 min"), (3599, "59 min"), (3600, "1 h"), (93780, "26 h 3 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
