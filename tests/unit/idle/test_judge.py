from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.idle.judge import GAP, Judge
from slurm_gpushare.idle.measured import Part

N1, N2 = ("node", "n1", 0), ("node", "n2", 0)
BORN = 1e9  # the job's start by the wall clock; our own clock is 0 then


class Job:
    """A job whose agents measure all of its time, unless told otherwise."""

    def __init__(self, sources=(N1,), threshold=0.01):
        self.judge, self.threshold, self.now = Judge(), threshold, 0.0
        self.measured = dict.fromkeys(sources, 0.0)
        self.used = dict.fromkeys(sources, 0.0)
        self.started = BORN

    def pass_time(self, seconds, used=0.0, by=N1, missed=0.0, believed=True, asked=True):
        self.now += seconds
        for source in self.measured:
            self.measured[source] += seconds - (missed if source == by else 0.0)
        self.used[by] += used
        if asked:
            self.ask(believed)
        return self.judge.unused(7, self.measured)

    def ask(self, believed=True):
        seen = {
            source: Part(self.now, self.started, self.measured[source], self.used[source], 1, believed)
            for source in self.measured
        }
        self.judge.step({7: seen}, self.now, BORN + self.now, self.threshold)


def test_time_without_use_adds_up_until_there_is_use():
    job = Job()
    assert [job.pass_time(10), job.pass_time(10), job.pass_time(10, used=0.2), job.pass_time(10)] == [10, 20, 0, 10]


def test_a_little_is_no_use():
    job = Job(threshold=0.01)
    assert [job.pass_time(10, used=0.1), job.pass_time(10, used=0.11)] == [10, 0]


def test_a_short_use_in_a_long_time_is_a_use():
    assert Job().pass_time(3600, used=5.0) == 0
    assert Job().pass_time(3600, used=0.5) == 3600


def test_any_gpu_of_the_job_that_is_used_is_a_use_of_the_job():
    job = Job((N1, N2))
    job.pass_time(50)
    assert job.pass_time(10, used=5, by=N2) == 0
    assert job.judge.unused(7, [N1]) == 60 and job.judge.unused(7, [N2]) == 0


def test_what_was_measured_while_nobody_asked_counts():
    job = Job()
    job.pass_time(10)
    assert job.pass_time(3000, asked=False) == 10
    assert job.pass_time(10) == 3020


def test_time_that_was_not_measured_counts_as_nothing_and_a_long_gap_begins_anew():
    job = Job()
    job.pass_time(100)
    assert job.pass_time(100, missed=GAP) == 140
    assert job.pass_time(1000, missed=GAP + 1) == 0
    assert job.pass_time(10) == 10


def test_a_job_that_was_never_used_is_idle_from_its_start_and_one_that_was_used_once_from_now_on():
    idle, used = Job(), Job()
    for job, amount in ((idle, 0.0), (used, 20.0)):
        job.pass_time(5000, used=amount, asked=False)
        job.ask()
    assert idle.judge.unused(7, [N1]) == 5000 and used.judge.unused(7, [N1]) == 0
    assert used.pass_time(10) == 10


def test_an_agent_that_began_anew_while_the_job_ran_leaves_the_time_before_unknown():
    job = Job()
    job.pass_time(500)
    job.measured[N1] = 0.0
    assert job.pass_time(30) == 530  # it was away for less than the gap
    job.measured[N1] = 0.0
    assert job.pass_time(100, missed=90) == 0


def test_an_agent_that_began_anew_and_saw_use_counts_it():
    job = Job()
    job.pass_time(500, used=3.0)
    job.pass_time(500)
    job.measured[N1] = job.used[N1] = 0.0
    assert job.pass_time(30, used=2.0) == 0


def test_zeros_that_are_not_believed_are_no_idle_time():
    job = Job()
    job.pass_time(500)
    assert [job.pass_time(10, believed=False), job.pass_time(10)] == [0, 10]


def test_another_run_of_the_job_is_another_job():
    job = Job()
    job.pass_time(500)
    job.started, job.measured[N1] = BORN + 500, 0.0
    assert job.pass_time(10) == 10


def test_a_clock_that_is_ahead_of_ours_is_borne():
    job = Job()
    job.started = BORN + 1000
    assert [job.pass_time(10), job.pass_time(10)] == [0, 10]


def test_the_same_sample_once_more_changes_nothing():
    job = Job()
    job.pass_time(10)
    job.ask()
    assert job.judge.unused(7, [N1]) == 10


def test_what_is_not_known_is_not_idle():
    job = Job()
    job.pass_time(100)
    assert job.judge.unused(7, [N1, N2]) == 0 and job.judge.unused(8, [N1]) == 0 and job.judge.unused(7, []) == 0


def test_a_job_may_begin_anew_and_is_forgotten_when_nobody_tells_of_it():
    job = Job()
    job.pass_time(100)
    job.judge.begin_anew(7)
    job.judge.begin_anew(8)
    assert job.judge.unused(7, [N1]) == 0 and job.pass_time(10) == 10
    job.judge.step({}, job.now + 3599, BORN, 0.01)
    assert job.judge.knows(7)
    job.judge.step({}, job.now + 3601, BORN, 0.01)
    assert not job.judge.knows(7)


@given(st.lists(st.tuples(st.floats(1, 100), st.sampled_from([0.0, 50.0]), st.booleans()), max_size=30))
def test_it_is_never_longer_than_the_time_since_the_last_use(steps):
    job, last = Job(), 0.0
    for seconds, used, asked in steps:
        unused = job.pass_time(seconds, used=used, asked=asked)
        last = job.now if used else last
        if asked:
            assert unused <= job.now - last + 1e-6
