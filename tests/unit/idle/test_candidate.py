import json

import pytest

from slurm_gpushare.grant import Grant
from slurm_gpushare.idle import candidate
from slurm_gpushare.idle.candidate import after, concerns, fetch, sources, way
from slurm_gpushare.idle.measured import Part
from slurm_gpushare.metrics.live import NODE, SERVER
from slurm_gpushare.node_policy import IdlePolicy
from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.status.jobs import HeldJob

POLICY = IdlePolicy("end", 3600.0, 900.0, 0.005, None, False, 1, ())


def grant(backend="shard", gpus=1, fraction=0.25, tasks=1):
    return Grant(backend, gpus, fraction, 25, None, 1, "rule", "gpu:0.25", "", tasks)


def job(**more):
    given = {"grant": grant(), "gpus": {"n1": {0: (25, 100)}}, "nodes": ("n1",), "account": "physics", "qos": "normal"}
    return HeldJob(7, "7", "alice", "RUNNING", 1000, **{**given, "partition": "shard", "requeue": True, **more})


def measured(*these, gpus=1):
    return {source: Part(0.0, 0.0, 0.0, 0.0, gpus) for source in these}


@pytest.mark.parametrize(
    ("one", "spoken_of"),
    [
        (job(), True),
        (job(heterogeneous=True), False),
        (job(grant=None), False),  # slices of nobody's
        (job(grant=None, gpus={"n1": {0: None}}), False),
    ],
)
def test_the_policy_speaks_of_shares(one, spoken_of):
    assert concerns(one, POLICY) == spoken_of


def test_it_speaks_of_whole_gpus_where_it_says_so():
    policy = POLICY._replace(whole_gpus=True)
    assert concerns(job(grant=None, gpus={"n1": {0: None}}), policy)
    assert not concerns(job(grant=None), policy)


@pytest.mark.parametrize(
    ("exempt", "spoken_of"),
    [
        ({"accounts": ["physics"]}, False),
        ({"qos": ["debug", "normal"]}, False),
        ({"users": ["bob"]}, True),
        ({"partitions": ["shard"], "users": ["alice"]}, False),
        ({"partitions": ["shard"], "users": ["bob"]}, True),
    ],
)
def test_of_an_exemption_all_criteria_must_fit(exempt, spoken_of):
    assert concerns(job(), POLICY._replace(exempt=({"accounts": ["none"]}, exempt))) == spoken_of


def test_what_becomes_of_it_and_when():
    requeue = POLICY._replace(action="requeue", interactive_after=7200.0)
    assert [way(job(), POLICY), way(job(), requeue), way(job(), POLICY._replace(action="warn"))] == [
        "end",
        "requeue",
        "warn",
    ]
    for one in (job(batch=False), job(requeue=False), job(restarts=1)):
        assert way(one, requeue) == "end"
    assert way(job(restarts=1), requeue._replace(requeue_limit=2)) == "requeue"
    assert [after(job(), requeue), after(job(batch=False), requeue), after(job(batch=False), POLICY)] == [
        3600,
        7200,
        3600,
    ]


def test_all_gpus_of_all_nodes_must_be_measured():
    two = job(gpus={"n1": {0: None, 2: None}, "n2": {1: None}}, nodes=("n1", "n2"))
    all_of_it = {(NODE, "n1", 0), (NODE, "n1", 2), (NODE, "n2", 1)}
    assert sources(two, measured(*all_of_it, (NODE, "n1", 1))) == all_of_it
    for missing in all_of_it:
        assert sources(two, measured(*all_of_it - {missing})) is None
    assert sources(job(gpus={}), measured((NODE, "n1", 0))) is None


def test_in_a_pool_its_servers_come_first_and_the_allocation_second():
    pool = job(grant=grant("bitfusion", gpus=2), gpus={}, nodes=("c1",), licences={"gpu0@s1": 25, "gpu3@s1": 25})
    servers, allocation = {(SERVER, "s1", 0), (SERVER, "s1", 3)}, {(NODE, "c1", None)}
    assert sources(pool, measured(*servers, *allocation, gpus=2)) == servers
    assert sources(pool, measured((SERVER, "s1", 0), *allocation, gpus=2)) == allocation
    assert sources(pool, measured(*allocation, gpus=1)) is None
    assert sources(pool, measured((SERVER, "s1", 0))) is None


def test_in_a_flat_pool_each_task_of_each_node_must_be_measured():
    flat = job(grant=grant("bitfusion", tasks=2), gpus={}, nodes=("c1", "c2"), licences={"bitfusion": 100})
    both = {(NODE, "c1", None), (NODE, "c2", None)}
    assert sources(flat, measured(*both, gpus=2)) == both
    assert sources(flat, measured((NODE, "c1", None), gpus=2)) is None


def test_slurm_is_asked_of_these_jobs_alone(monkeypatch):
    asked = []
    held = {
        "job_id": 7,
        "job_state": ["RUNNING"],
        "user_name": "alice",
        "account": "physics",
        "partition": "shard",
        "qos": "normal",
        "batch_flag": False,
        "requeue": True,
        "restart_cnt": 2,
        "het_job_id": {"set": True, "infinite": False, "number": 6},
        "gres_detail": ["gpu:1(IDX:0)"],
        "nodes": "n1",
    }

    def run(argv, timeout):
        asked.append(argv)
        return json.dumps({"jobs": [held]})

    monkeypatch.setattr(candidate, "run_slurm", run)
    (one,) = fetch({8, 7}).values()
    assert asked == [["squeue", "--json", "--all", "--states=RUNNING,SUSPENDED", "--jobs=7,8"]]
    assert (one.account, one.partition, one.qos, one.user) == ("physics", "shard", "normal", "alice")
    assert (one.batch, one.requeue, one.restarts, one.heterogeneous) == (False, True, 2, True)


def test_a_job_that_is_gone_is_no_trouble_and_slurm_that_is_away_is(monkeypatch):
    def fail(text):
        def run(argv, timeout):
            raise SlurmError(text)

        monkeypatch.setattr(candidate, "run_slurm", run)

    fail("squeue: status 1: slurm_load_jobs error: Invalid job id specified")
    assert fetch({7}) == {}
    fail("squeue: no answer within 30 s")
    with pytest.raises(SlurmError, match="no answer"):
        fetch({7})
