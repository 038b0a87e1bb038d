"""Why a job waits: decided from what Slurm really said at such moments, and from moments made up of it."""

from dataclasses import replace

import pytest

from slurm_gpushare.slurm.nodes import Gpu
from slurm_gpushare.slurm.why import PLAIN, clock, explain_wait
from tests.unit.slurm.recorded import VERSIONS, view


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("name", "kind", "why", "sooner"),
    [
        ("array", "array_limit", "the 2 tasks of its array", None),
        ("dependency", "dependency", "waits for other jobs: afterok:", None),
        ("dependency-never", "dependency", "it will never start", "dependency="),
        ("begin", "begin_time", "may not start before ", "starttime=now"),
        ("held-user", "held", "its owner put it on hold", "scontrol release"),
        ("held-admin", "held", "an administrator put it on hold", "ask the administrator"),
        ("qos-user-gres", "limit", "QOS normal limits the shares of GPUs of all running jobs of alice", "given back"),
        (
            "qos-user-licence",
            "limit",
            "QOS normal limits the shares of the pool of all running jobs of al",
            "given back",
        ),
        ("assoc-grp-gres", "limit", "account physics limits the shares of GPUs of all its running jobs", "given back"),
        ("qos-job-gres", "limit", "QOS normal limits the shares of GPUs of one job", "ask for the most"),
        ("running", "not_pending", "it is RUNNING", None),
        (
            "pool-full",
            "full",
            "none of the 100 slices in the pool is free; it needs 25 (0.25 GPU)",
            "-p shard --gres=gpu:0.25",
        ),
        (
            "pool-too-big",
            "full",
            "25 of the 100 slices in the pool are free (0.25 GPU); it needs 50 (0.5 GPU)",
            "--gres=gpu:0.25 would find room in the pool now",
        ),
        ("shard-fragmented", "fragmented", "no single GPU has it", "--gres=gpu:0.25 would find room now, on n1, n2"),
        ("shard-none", "full", "none of the 400 slices in partition shard is free", "-p bitfusion --gres=gpu:0.25"),
        ("whole-gpu", "fragmented", "no single GPU has it", "--gres=gpu:0.25 would find room now, on n1, n2"),
        ("drained", "nodes_away", "no node of partition shard takes jobs now", "-p bitfusion --gres=gpu:0.25"),
    ],
)
def test_recorded(version: str, name: str, kind: str, why: str, sooner: str | None) -> None:
    answer = explain_wait(view(version, name))
    assert answer.kind == kind
    assert why in answer.why[0]
    if sooner is None:
        assert answer.sooner == []
    else:
        assert any(sooner in line for line in answer.sooner), answer.sooner


@pytest.mark.parametrize("version", VERSIONS)
def test_fragmentation_names_every_gpu(version: str) -> None:
    answer = explain_wait(view(version, "shard-fragmented"))
    assert answer.why[1] == (
        "100 of the 400 slices in partition shard are free (1 GPU), at most 25 (0.25 GPU) on one GPU; "
        "it needs 50 (0.5 GPU) of one GPU"
    )
    assert "n2: GPU 0 has 25 of 100 free, GPU 1 has 25 of 100 free" in answer.details
    assert answer.expected_start is not None


def _with_node(moment, name: str, **changes: object):
    return replace(moment, nodes=[replace(node, **changes) if node.name == name else node for node in moment.nodes])


def test_a_drained_node_is_no_room_and_is_told() -> None:
    moment = view("24.11", "shard-fragmented")
    free = (Gpu(0, 100, False), Gpu(0, 100, False))
    assert explain_wait(_with_node(moment, "n1", gpus=free)).kind == "soon"
    away = _with_node(moment, "n1", gpus=free, state=("IDLE", "DRAIN"), reason="fan")
    answer = explain_wait(away)
    assert answer.why[1].startswith("50 of the 200 slices")
    assert "n1 is IDLE+DRAIN: fan" in answer.details


def test_gpus_free_but_no_processors() -> None:
    free = (Gpu(0, 100, False), Gpu(100, 100, False))
    moment = _with_node(view("26.05", "shard-fragmented"), "n1", gpus=free, cpus_free=0)
    answer = explain_wait(moment)
    assert answer.kind == "processors"
    assert "n1: 0 CPUs, 15000 MiB free" in answer.details
    assert answer.sooner == []


def test_a_smaller_amount_of_processors_that_would_do() -> None:
    free = (Gpu(0, 100, False), Gpu(100, 100, False))
    moment = _with_node(view("26.05", "shard-fragmented"), "n1", gpus=free, cpus_free=2, memory_free=400)
    answer = explain_wait(moment)
    assert answer.sooner == ["with 1 CPU and --mem=400M it would find room now, on n1"]


@pytest.mark.parametrize(("ahead", "told"), [(1, "one job of its partition is"), (3, "3 jobs of its partition are")])
def test_room_that_is_kept_for_others(ahead: int, told: str) -> None:
    moment = replace(view("24.11", "pool-full"), ahead=ahead)
    licences = {name: replace(one, free=100, used=0) for name, one in moment.licences.items()}
    answer = explain_wait(replace(moment, licences=licences))
    assert answer.kind == "priority"
    assert answer.why[0].startswith(told)


def test_a_pool_that_does_not_answer() -> None:
    moment = view("24.11", "pool-full", pool_away=["pool:56001 does not answer: Connection refused"])
    answer = explain_wait(moment)
    assert answer.kind == "full"
    assert "the pool's server pool:56001 does not answer: Connection refused" in answer.details
    licences = {name: replace(one, free=100, used=0) for name, one in moment.licences.items()}
    assert explain_wait(replace(moment, licences=licences)).kind == "pool_away"


def test_no_other_partition_is_named_where_the_pool_does_not_answer() -> None:
    assert any("-p bitfusion" in line for line in explain_wait(view("24.11", "shard-none")).sooner)
    moment = view("24.11", "shard-none", pool_away=["x"])
    assert explain_wait(moment).sooner == []


def test_a_limit_with_its_value_and_what_counts() -> None:
    moment = view(
        "24.11",
        "qos-user-gres",
        limit={"gres/shard": 60},
        in_use={23: {"gres/shard": "50"}, 9: {"gres/bitfusion": "25", "license/bitfusion": "25"}},
    )
    answer = explain_wait(moment)
    assert answer.details == [
        "Slurm's reason: QOSMaxGRESPerUser",
        "the limit: gres/shard=60",
        "in use: gres/shard=50 (job 23)",
    ]
    assert answer.sooner[-1] == "--gres=gpu:0.1 is within the limit now"


def test_many_nodes_need_room_on_each() -> None:
    moment = view("24.11", "shard-fragmented")
    two = replace(moment, job=replace(moment.job, nodes=2, grant=moment.job.grant._replace(nodes=2)))
    answer = explain_wait(_with_node(two, "n1", gpus=(Gpu(0, 100, False), Gpu(75, 100, False))))
    assert answer.kind == "fragmented"
    assert "1 of the 2 nodes that it needs has it" in answer.why[0]
    assert answer.sooner == ["--gres=gpu:0.25 would find room now, on n2, n1"]


def test_every_plain_reason_has_its_words() -> None:
    moment = view("24.11", "held-user")
    for reason in PLAIN:
        answer = explain_wait(replace(moment, job=replace(moment.job, reason=reason)))
        assert answer.why and not any("{" in line for line in answer.why + answer.sooner)


def test_an_unknown_reason_is_told() -> None:
    moment = view("24.11", "pool-full")
    licences = {name: replace(one, free=100, used=0) for name, one in moment.licences.items()}
    answer = explain_wait(replace(moment, licences=licences, job=replace(moment.job, reason="SomethingNew")))
    assert (answer.kind, answer.details[-1]) == ("soon", "Slurm's reason: SomethingNew")


def test_a_job_without_gpus() -> None:
    moment = view("24.11", "cpus-taken")
    job = replace(moment.job, grant=None, gpus_per_node=0, cpus_per_node=99)
    assert explain_wait(replace(moment, job=job)).kind == "processors"


def test_times_have_a_day_when_it_is_another() -> None:
    assert len(clock(1_000_060, 1_000_000)) == 8
    assert clock(1_000_000 + 40 * 86400, 1_000_000).startswith("1970-")
    assert "does not tell" in clock(None, 0)
