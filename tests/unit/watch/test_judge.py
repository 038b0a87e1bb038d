from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.grant import Grant
from slurm_gpushare.launch import LaunchRecord
from slurm_gpushare.metrics.readings import GpuReading, ProcessReading
from slurm_gpushare.watch.judge import Holding, Judge, holdings

RUN = (7, 100.0)


def record(job_id=7, memory=100, fraction=0.25, gpus=(0,), grant=True):
    given_to = Grant("shard", 1, fraction, 25, memory, 1, "test", "gpu:0.25", "") if grant else None
    return LaunchRecord(job_id, 1, 1, "alice", "n1", "lab", 100.0, given_to, gpus)


def reading(*processes, minor=0, total=1000, part=False):
    listed = None if processes == (None,) else tuple(ProcessReading(pid, None, memory) for pid, memory in processes)
    return GpuReading(3, minor, "GPU-1", "a", total, 0.0, None, None, None, listed, part)


def held(*arguments, **options):
    return [(each.run[0], each.gpu, each.held, each.share) for each in holdings(*arguments, **options)]


def test_the_sum_over_a_jobs_processes_on_each_of_its_gpus_and_no_others():
    readings = [reading((1, 60), (2, 70), (3, 500), (4, 9)), reading((1, 5), minor=1)]
    owners = {1: 7, 2: 7, 3: 8, 4: None}
    assert held([record(gpus=(0, 1)), record(8, memory=400)], readings, owners) == [
        (7, 0, 130, 100),
        (7, 1, 5, 100),
        (8, 0, 500, 400),
    ]


def test_the_share_is_the_grants_or_of_the_gpu_that_nvml_knows():
    assert held([record(memory=None)], [reading()], {}) == [(7, 0, 0, 250)]
    assert held([record(memory=None)], [reading(total=None)], {}) == []
    assert held([record(memory=None)], [], {}) == []
    assert held([record(grant=False)], [reading((1, 1000))], {1: 7}) == []


def test_what_nvml_does_not_say_is_not_known():
    assert held([record()], [], {}) == [(7, 0, None, 100)]
    assert held([record()], [reading(None)], {}) == [(7, 0, None, 100)]
    assert held([record()], [reading((1, None))], {1: 7}) == [(7, 0, None, 100)]
    assert held([record()], [reading((1, None), (2, 150))], {1: 7, 2: 7}) == [(7, 0, 150, 100)]
    assert held([record()], [reading((1, 150), part=True)], {1: 7}) == [(7, 0, None, 100)]


def steps(judge, *amounts, seconds=1.0, start=0.0):
    """Return, for each sample of one job whose share is 100, what came of it: None, "first" or "again"."""
    said = []
    for number, amount in enumerate(amounts):
        over = judge.step(start + number * seconds, [Holding(RUN, 0, amount, 100)])
        said.append(("first" if over[0].first else "again") if over else None)
    return said


def test_only_what_lasts_counts():
    assert steps(Judge(5, 3), *[101] * 7) == [None] * 5 + ["first", "again"]
    assert steps(Judge(5, 3), 101, 101, 101, 101, 101, 100, 101, 101, 101, 101, 101) == [None] * 11
    # Rare samples: the time alone is not enough.
    assert steps(Judge(5, 3), 101, 101, 101, seconds=60) == [None, None, "first"]


def test_a_sample_that_is_missing_begins_anew():
    assert steps(Judge(2, 3), 101, 101, None, 101, 101, 101) == [None] * 5 + ["first"]


def test_it_is_first_again_only_after_it_was_well_below():
    judge = Judge(2, 3)
    assert steps(judge, 101, 101, 101, 95, 101, 101, 101)[-1] == "again"
    assert steps(judge, 90, 101, 101, 101, start=10)[-1] == "first"


def test_another_run_of_the_job_and_another_gpu_are_counted_apart():
    judge = Judge(2, 3)
    steps(judge, 101, 101)
    assert judge.step(3, [Holding((7, 200.0), 0, 101, 100), Holding(RUN, 1, 101, 100)]) == []
    assert judge.step(4, [Holding(RUN, 0, 101, 100)]) == []  # it was away meanwhile


@given(st.lists(st.integers(0, 200), max_size=40))
def test_what_is_over_has_been_so_in_all_samples_of_the_time(amounts):
    for number, said in enumerate(steps(Judge(3, 3), *amounts)):
        lasted = number >= 3 and all(amount > 100 for amount in amounts[number - 3 : number + 1])
        assert (said is not None) == lasted
