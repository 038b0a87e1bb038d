from slurm_gpushare.metrics.running import is_remote, only_holder, running_job
from slurm_gpushare.node_policy import BackendPolicy, ContainerPolicy, NodePolicy

from .records import launch

POLICY = NodePolicy(100, ContainerPolicy("auto", (), (), True), backends={"bitfusion": BackendPolicy(command="/none")})


def run(record):
    return running_job(record, 5.0, 7.5, POLICY, 12.0, lambda line: None)


def test_a_job_has_sums_for_each_gpu_of_the_node_that_it_was_given():
    shares, whole = run(launch(1, 0.25, (0, 3))), run(launch(2, None, (1,)))
    assert set(shares.sums()) == {0, 3} and shares.fraction == 0.25 and shares.pool is None
    assert set(whole.sums()) == {1} and whole.fraction == 1.0 and whole.gpus[1].gpu == "gpu:n1:1"
    assert shares.key == (1, 1000.0) and shares.memo() == [5.0, 2.5]


def test_a_pool_job_has_sums_for_each_gpu_of_each_allocation():
    record = launch(1, 0.5, (), "bitfusion", count=2)
    job = run(record._replace(grant=record.grant._replace(tasks=2)))
    assert job.gpus == {} and set(job.sums()) == {0, 1, 2, 3}


def test_a_backend_that_is_not_known_is_measured_where_it_has_gpus_of_the_node():
    assert is_remote("bitfusion") and not is_remote("shard") and not is_remote("newer")
    assert set(run(launch(1, 0.5, (0,), "newer")).sums()) == {0}


def test_a_process_that_is_gone_is_of_the_one_job_that_it_can_be_of():
    first, second = run(launch(1, 0.25, (0,), started=100.0)), run(launch(2, 0.25, (0,), started=200.0))
    assert only_holder([first], (110.0, 112.0)) == 1
    assert only_holder([first, second], (110.0, 112.0)) == 1  # the second had not begun
    assert only_holder([first, second], (210.0, 212.0)) is None
    assert only_holder([second], (110.0, 112.0)) is None
    assert only_holder([], (110.0, 112.0)) is None
    assert only_holder([first], None) is None
