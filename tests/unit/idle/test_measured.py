import pytest

from slurm_gpushare.accounting.live import LiveBoard
from slurm_gpushare.errors import StoreError
from slurm_gpushare.idle.measured import Part, parts
from slurm_gpushare.metrics.live import NODE, SERVER, LiveGpu, LiveJob, LiveSample


def job(job_id, gpu=0, sm=0.0, memory=7, started=1e9, measured=60.0, used=0.5):
    return LiveJob(job_id, 1001, gpu, sm, memory, None, started, measured, used)


def answer(*samples, silent_after=0.0):
    """Return what the service answers root, ``silent_after`` seconds after it got these."""
    times = [100.0]
    board = LiveBoard(lambda: times[-1])
    for sample in samples:
        board.put(sample)
    times.append(100.0 + silent_after)
    return board.view(None)


def sample(*jobs, name="n1", kind=NODE, sm=0.0, age=2.0):
    return LiveSample(kind, name, age, (LiveGpu(0, "GPU-0", "P100", 1, sm, 7, 9.0),), jobs)


def test_each_gpu_of_each_agent_is_a_part():
    found = parts(answer(sample(job(7), job(8, used=1.5)), sample(job(7, 2), name="n2", age=3.0)), 500.0)
    assert found == {
        7: {
            (NODE, "n1", 0): Part(498.0, 1e9, 60.0, 0.5, 1),
            (NODE, "n2", 2): Part(497.0, 1e9, 60.0, 0.5, 1),
        },
        8: {(NODE, "n1", 0): Part(498.0, 1e9, 60.0, 1.5, 1)},
    }


def test_gpus_in_a_pool_that_only_the_allocation_sees_are_one_part():
    jobs = (job(7, None), job(7, None, started=1e9 - 1, measured=50.0, used=2.0))
    found = parts(answer(sample(*jobs, name="c1"), sample(job(7, 3), kind=SERVER, name="server1")), 500.0)
    assert found[7] == {
        (NODE, "c1", None): Part(498.0, 1e9 - 1, 50.0, 2.5, 2),
        (SERVER, "server1", 3): Part(498.0, 1e9, 60.0, 0.5, 1),
    }


@pytest.mark.parametrize("unknown", [{"used": None}, {"measured": None}, {"started": None}])
def test_what_is_not_known_is_no_part(unknown):
    assert parts(answer(sample(job(7, **unknown))), 500.0) == {}


def test_what_agents_of_older_versions_say_is_no_part():
    said = answer(sample(job(7)))
    for name in ("started", "measured", "used"):
        del said["agents"][0]["jobs"][0][name]
    assert parts(said, 500.0) == {}


def test_what_a_silent_agent_said_counts_no_more():
    assert parts(answer(sample(job(7)), silent_after=60), 500.0) == {}


def believed(found):
    return {number: part.believed for number, of in found.items() for part in of.values()}


def test_a_busy_gpu_on_which_no_job_shows_use_makes_the_zeros_of_its_jobs_doubtful():
    here = (job(7), job(8, memory=0), job(9, memory=None))
    assert believed(parts(answer(sample(*here, sm=0.4)), 500.0)) == {7: False, 8: True, 9: False}
    # One of them shows use, so the use of processes is known on this GPU.
    assert believed(parts(answer(sample(*here, job(10, sm=0.2), sm=0.4)), 500.0)) == dict.fromkeys((7, 8, 9, 10), True)
    assert believed(parts(answer(sample(*here, sm=0.05)), 500.0)) == dict.fromkeys((7, 8, 9), True)
    assert believed(parts(answer(sample(*here, sm=None)), 500.0)) == dict.fromkeys((7, 8, 9), True)


@pytest.mark.parametrize("said", [{}, {"agents": 7}, {"agents": [{}]}, {"agents": [7]}, []])
def test_another_answer_is_refused(said):
    with pytest.raises(StoreError, match="what is measured now"):
        parts(said, 500.0)
