"""Slurm's word, the agents' and the pool's, laid together."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.accounting.live import LiveBoard
from slurm_gpushare.grant import Grant
from slurm_gpushare.metrics.live import LiveGpu, LiveJob, LiveSample
from slurm_gpushare.node_policy import BackendPolicy, ContainerPolicy, NodePolicy
from slurm_gpushare.pool.compare import GpuState, PoolState
from slurm_gpushare.slurm.licences import Licence
from slurm_gpushare.slurm.nodes import Gpu, Node
from slurm_gpushare.status.compose import GRACE, Look, compose
from slurm_gpushare.status.jobs import HeldJob

GIB = 1 << 30
POLICY = NodePolicy(
    100,
    ContainerPolicy("auto", (), (), True),
    backends={
        "shard": BackendPolicy(),
        "mig": BackendPolicy(types={"a100_1g.5gb": {"fraction": 1 / 7, "memory": 5 * GIB}}),
        "bitfusion": BackendPolicy(gres="bitfusion", placement="pinned", servers={"server1": "10.0.0.1:56001"}),
    },
)
NONE = {"memory": "none", "compute": "none", "faults": "none"}


def node(name: str = "n1", *gpus: Gpu, **more: object) -> Node:
    total = {"gpu": len(gpus), "shard": 100 * len(gpus)}
    values = {"state": ("MIXED",), "reason": "", "total": total, "types": ("p100",) * len(gpus)} | more
    return Node(name=name, partitions=("shard",), gpus=gpus, free={}, cpus_free=1, memory_free=1, **values)


def job(job_id: int, gpus: dict, fraction: float | None = 0.25, backend: str = "shard", **more: object) -> HeldJob:
    grant = None
    if fraction is not None:
        grant = Grant(backend, 1, fraction, round(100 * fraction), None, 1, "r", f"gpu:{fraction:g}", "")
    return HeldJob(job_id, str(job_id), "alice", "RUNNING", 1000, grant, gpus, **more)


def live(*samples: LiveSample, listening: float = 0.0) -> dict:
    board = LiveBoard(lambda: 0.0)
    for sample in samples:
        board.put(sample)
    return {**board.view(None), "listening": listening}


def sample(name: str = "n1", kind: str = "node", jobs: tuple = (), age: float = 2.0) -> LiveSample:
    card = LiveGpu(0, "GPU-0", "Tesla P100", 16 * GIB, 0.5, GIB, 90.0)
    return LiveSample(kind, name, age, (card,), jobs)


FREE, PART, WHOLE = Gpu(0, 100, False), Gpu(25, 100, False), Gpu(0, 100, True)


def test_without_the_service_it_is_what_slurm_says() -> None:
    jobs = [job(1, {"n1": {0: (25, 100)}}), job(2, {"n1": {1: None}}, None)]
    status = compose(Look(5.0, [node("n1", PART, WHOLE, FREE)], jobs, POLICY))
    share, whole, free = status.gpus
    assert (share.type, share.slices, share.slices_given, share.slices_hidden) == ("p100", 100, 25, 0)
    (one,) = share.jobs
    assert (one.job, one.user, one.fraction, one.slices, one.backend) == ("1", "alice", 0.25, 25, "shard")
    assert one.enforces == NONE
    (all_of_it,) = whole.jobs
    assert (whole.slices_given, all_of_it.fraction, all_of_it.backend) == (100, 1.0, "gpu")
    assert all_of_it.enforces["compute"] == "enforced"
    assert (free.slices_given, free.jobs) == (0, ())
    for gpu in status.gpus:
        assert (gpu.model, gpu.sm, gpu.memory, gpu.memory_total, gpu.power, gpu.age, gpu.agent) == (None,) * 7
    assert {one.sm for gpu in status.gpus for one in gpu.jobs} == {None}


def test_what_is_measured_stands_beside_it_with_its_age() -> None:
    held = {"memory": "advisory", "compute": "none", "faults": "none"}
    said = live(sample(jobs=(LiveJob(1, 1001, 0, 0.2, 7, held), LiveJob(9, 1001, 0, 0.3, 8))))
    status = compose(Look(5.0, [node("n1", PART, FREE)], [job(1, {"n1": {0: (25, 100)}})], POLICY, said))
    gpu, other = status.gpus
    assert (gpu.model, gpu.uuid, gpu.sm, gpu.memory, gpu.power, gpu.age) == (
        *("Tesla P100", "GPU-0", 0.5, GIB, 90.0),
        2.0,
    )
    assert (gpu.jobs[0].sm, gpu.jobs[0].memory, gpu.jobs[0].enforces) == (0.2, 7, held)
    # The agent names no second GPU: nothing is known of it.
    assert (other.agent, other.sm, other.age) == ("live", None, None)


def test_what_slurm_does_not_show_is_given_all_the_same() -> None:
    status = compose(Look(5.0, [node("n1", Gpu(80, 100, False), WHOLE)], [job(1, {"n1": {0: (25, 100)}})], POLICY))
    assert [(gpu.slices_given, gpu.slices_hidden) for gpu in status.gpus] == [(80, 55), (100, 100)]


@given(st.lists(st.integers(0, 100), min_size=4, max_size=4), st.sets(st.integers(0, 3)))
def test_shown_and_hidden_are_what_is_given(slices: list[int], shown: set[int]) -> None:
    jobs = [job(n, {"n1": {0: (slices[n], 100)}}) for n in shown if slices[n]]
    status = compose(Look(5.0, [node("n1", Gpu(sum(slices), 400, False))], jobs, POLICY))
    (gpu,) = status.gpus
    assert sum(one.slices for one in gpu.jobs) + gpu.slices_hidden == gpu.slices_given == sum(slices)


@pytest.mark.parametrize(
    ("said", "agent", "age"),
    [
        (None, None, None),
        (live(listening=GRACE - 1), None, None),
        (live(listening=GRACE + 1), "silent", None),
        (live(sample(age=2.0)), "live", 2.0),
        (live(sample(age=100.0)), "silent", 100.0),
    ],
)
def test_agents_that_are_silent(said: dict | None, agent: str | None, age: float | None) -> None:
    status = compose(Look(5.0, [node("n1", PART)], [], POLICY, said))
    assert [(place.agent, place.agent_age) for place in status.places] == [(agent, age)]
    assert status.gpus[0].sm == (0.5 if agent == "live" else None)
    assert status.gpus[0].agent == agent


def test_nodes_that_take_no_job_and_why() -> None:
    away = node("n10", FREE, state=("IDLE", "DRAIN"), reason="fan broken", reason_by="root", reason_at=7)
    down = node("n2", FREE, state=("DOWN",))
    plain = node("c1", total={"bitfusion": 100}, types=())
    other = node("c2", total={"nvme": 4}, types=())
    status = compose(Look(5.0, [away, down, plain, other], [], POLICY))
    assert [
        (each.name, each.state, each.away, each.reason, each.reason_by, each.reason_at) for each in status.places
    ] == [
        ("c1", "mixed", False, None, None, None),
        ("n2", "down", True, None, None, None),
        ("n10", "idle+drain", True, "fan broken", "root", 7),
    ]
    assert [(gpu.node, gpu.away, gpu.reason) for gpu in status.gpus] == [
        ("n2", True, None),
        ("n10", True, "fan broken"),
    ]


def test_slices_of_a_card_are_no_cards() -> None:
    one = Gpu(0, 1, True)
    mig = node("g1", one, Gpu(0, 1, False), total={"gpu": 2}, types=("a100_1g.5gb", "a100_1g.5gb"))
    jobs = [job(1, {"g1": {0: None}}, 1 / 7, "mig")]
    said = live(sample("g1", jobs=(LiveJob(1, 1001, 0, 0.2, 7),)))
    used, free = compose(Look(5.0, [mig], jobs, POLICY, said)).gpus
    assert (used.fraction, used.slices, used.slices_given, free.slices_given) == (1 / 7, 15, 15, 0)
    assert (used.memory_total, used.jobs[0].fraction) == (16 * GIB, 1 / 7)  # NVML's word goes first
    assert (free.memory_total, free.sm, free.model) == (5 * GIB, None, None)
    assert (used.sm, used.jobs[0].sm, used.jobs[0].memory) == (0.5, 0.2, 7)


def test_a_pool_that_slurm_places_on() -> None:
    licences = {"gpu0@server1": Licence("gpu0@server1", 100, 75, 25), "gpu1@other": Licence("gpu1@other", 9, 0, 9)}
    jobs = [job(1, {}, 0.5, "bitfusion", licences={"gpu0@server1": 50}, nodes=("c1",))]
    said = live(sample("server1", "server", (LiveJob(1, 1001, 0, 0.4, 7),)))
    status = compose(Look(5.0, [], jobs, POLICY, said, licences))
    (gpu,) = status.gpus
    assert (gpu.node, gpu.kind, gpu.type, gpu.slices_given, gpu.slices_hidden) == (
        "server1",
        "server",
        "bitfusion",
        75,
        25,
    )
    assert (gpu.sm, gpu.jobs[0].fraction, gpu.jobs[0].sm) == (0.5, 0.5, 0.4)
    assert status.elsewhere == ()
    listed = GpuState("server1", "10.0.0.1:56001", "away", 0, None, None, None, 0.75, 0.0)
    pools = {"bitfusion": PoolState([listed], [], 0.0, 0.75, 1, [], absent={"server1": "Connection refused"})}
    (gpu,) = compose(Look(5.0, [], jobs, POLICY, None, licences, pools)).gpus
    assert (gpu.state, gpu.away, gpu.reason, gpu.pool_used) == ("away", True, "Connection refused", None)


def test_a_flat_pool_is_as_it_says_itself_and_its_jobs_are_on_no_gpu() -> None:
    flat = {**POLICY.backends, "bitfusion": BackendPolicy(gres="bitfusion")}
    policy = NodePolicy(100, POLICY.container, backends=flat)
    listed = GpuState("10.0.0.1:56001", "10.0.0.1:56001", "up", 0, "Tesla P100", 16 * GIB, 0.5, None, None)
    jobs = [job(1, {}, 0.5, "bitfusion", licences={"bitfusion": 100}, nodes=("c1", "c2"))]
    said = live(LiveSample("node", "c1", 0.0, (), (LiveJob(1, 7, None, 0.2, 3), LiveJob(1, 7, None, 0.1, 4))))
    look = Look(5.0, [], jobs, policy, said, {}, {"bitfusion": PoolState([listed], [], 0.5, 1.0, 1, [])})
    status = compose(look)
    (gpu,) = status.gpus
    assert (gpu.slices_given, gpu.slices_hidden, gpu.pool_used, gpu.model) == (None, None, 0.5, "Tesla P100")
    (one,) = status.elsewhere
    assert (one.job_id, one.gpus, one.slices, round(one.sm, 6), one.memory) == (1, 2, 100, 0.3, 7)
    (one,) = compose(replace(look, live=None)).elsewhere
    assert (one.sm, one.memory) == (None, None)


def test_without_a_policy_slurm_is_told_all_the_same() -> None:
    unknown = job(1, {"n1": {0: (25, 100)}}, backend="of a newer version")
    (gpu,) = compose(Look(5.0, [node("n1", PART)], [unknown])).gpus
    assert (gpu.slices, gpu.slices_given, gpu.jobs[0].enforces) == (100, 25, None)
