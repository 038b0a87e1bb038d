"""What the prolog asks of Slurm's commands, and that it never waits long nor blames the node."""

import pytest

from slurm_gpushare.errors import BackendError
from slurm_gpushare.node import allocated
from slurm_gpushare.node.job import Job
from slurm_gpushare.slurm.command import SlurmError

JOB = Job(7, 1001, 1001, "alice", "c2", "lab")
OPEN = {"SLURM_JOB_LICENSES": "gpu0@s1:25|gpu1@s1:25"}


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Time that passes by sleeping alone."""
    now = [0.0]
    monkeypatch.setattr(allocated, "monotonic", lambda: now[0])
    monkeypatch.setattr(allocated, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def answering(*outputs):
    """A command of Slurm's that gives these outputs in turn, and its calls."""
    left, calls = list(outputs), []

    def run(argv, timeout):
        calls.append(argv)
        output = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(output, Exception):
            raise output
        return output

    return run, calls


def test_nothing_is_asked_where_slurm_had_no_choice():
    run, calls = answering(SlurmError("unused"))
    for text in ("gpu0@s1:25,matlab:1", ""):
        assert allocated.given_licences(JOB, {"SLURM_JOB_LICENSES": text}, run) == text
    assert allocated.node_number(JOB, {}, 1, run) == 0
    assert calls == []


def test_what_slurm_chose():
    run, calls = answering("6    gpu0@s1:25  \n7   gpu1@s1:25   \n70  gpu0@s2:1\n")
    assert allocated.given_licences(JOB, OPEN, run) == "gpu1@s1:25"
    assert [call[0] for call in calls] == ["squeue"] and "--jobs=7" in calls[0]


def test_it_is_asked_again_while_slurmctld_is_away():
    run, calls = answering(SlurmError("squeue: no answer"), "", "7 (null)\n", "7\n", "7 gpu0@s1:25\n")
    assert allocated.given_licences(JOB, OPEN, run) == "gpu0@s1:25"
    assert len(calls) == 5


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (SlurmError("squeue: status 1: Unable to contact slurm controller"), "Unable to contact slurm controller"),
        ("7 (null)\n", "slurmctld tells none"),
        ("7 gpu0@s1:25\n7 gpu1@s1:25\n", "slurmctld tells none"),
        ("", "slurmctld tells none"),
    ],
)
def test_in_the_end_the_job_fails_and_not_the_node(clock, output, why):
    run, _ = answering(output)
    with pytest.raises(BackendError) as caught:
        allocated.given_licences(JOB, OPEN, run)
    assert why in str(caught.value) and caught.value.exit_status == 75
    assert clock[0] == pytest.approx(allocated.PATIENCE)


def test_the_place_of_this_node_in_the_job():
    run, calls = answering("c1\nc2\nc10\n")
    assert allocated.node_number(JOB, {"SLURM_JOB_NODELIST": "c[1-2,10]"}, 3, run) == 1
    assert calls == [["scontrol", "show", "hostnames", "c[1-2,10]"]]


@pytest.mark.parametrize("output", ["c1\nc3\n", "", SlurmError("scontrol: not found")])
def test_a_place_that_is_not_known_fails_the_job(output):
    run, _ = answering(output)
    with pytest.raises(BackendError, match="place among 'c") as caught:
        allocated.node_number(JOB, {"SLURM_JOB_NODELIST": "c[1,3]"}, 2, run)
    assert caught.value.exit_status == 75
