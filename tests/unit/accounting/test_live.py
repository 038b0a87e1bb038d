"""The newest samples, and what of them each may see."""

from slurm_gpushare.accounting.live import FORGOTTEN, SILENT, LiveBoard
from slurm_gpushare.metrics.live import LiveGpu, LiveJob, LiveSample

GIB = 1 << 30


def gpu(number: int, sm: float = 0.5, memory: int = GIB) -> LiveGpu:
    return LiveGpu(number, f"GPU-{number}", "Tesla P100", 16 * GIB, sm, memory, 100.0)


ALICE, BOB = 1001, 1002
# GPU 0 is alice's, 1 is shared, 2 is empty, on 3 is a program that no job is known for.
SAMPLE = LiveSample(
    "node",
    "n1",
    1.0,
    (gpu(0), gpu(1), gpu(2, 0.0, 0), gpu(3)),
    (
        LiveJob(7, ALICE, 0, 0.5, GIB),
        LiveJob(7, ALICE, 1, 0.2, GIB),
        LiveJob(8, BOB, 1, 0.3, GIB),
        LiveJob(9, BOB, None, 0.1, 0),
    ),
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def board() -> tuple[LiveBoard, Clock]:
    clock = Clock()
    one = LiveBoard(clock)
    one.put(SAMPLE)
    return one, clock


def seen(view: dict) -> tuple[list, list]:
    (agent,) = view["agents"]
    known = [one["number"] for one in agent["gpus"] if one["sm"] is not None]
    assert known == [one["number"] for one in agent["gpus"] if one["memory"] is not None]
    assert known == [one["number"] for one in agent["gpus"] if one["power"] is not None]
    return known, [(one["job_id"], one["gpu"]) for one in agent["jobs"]]


def test_each_sees_its_own_jobs_and_the_gpus_that_no_other_is_on() -> None:
    one, _ = board()
    assert seen(one.view(None)) == ([0, 1, 2, 3], [(7, 0), (7, 1), (8, 1), (9, None)])
    assert seen(one.view(ALICE)) == ([0, 2], [(7, 0), (7, 1)])
    assert seen(one.view(BOB)) == ([2], [(8, 1), (9, None)])
    assert seen(one.view(4711)) == ([2], [])
    # What a card is everybody may know.
    assert [one["model"] for one in one.view(4711)["agents"][0]["gpus"]] == ["Tesla P100"] * 4


def test_a_sample_ages_and_a_silent_agent_says_nothing_of_now() -> None:
    one, clock = board()
    clock.now += 2
    (agent,) = one.view(None)["agents"]
    assert (agent["age"], agent["silent"], one.view(None)["listening"]) == (3.0, False, 2.0)
    clock.now += SILENT
    (agent,) = one.view(None)["agents"]
    assert (agent["age"], agent["silent"]) == (3.0 + SILENT, True)
    assert seen(one.view(None)) == ([], [])
    clock.now += FORGOTTEN
    assert one.view(None)["agents"] == []


def test_the_newest_of_each_node_and_server_counts() -> None:
    one, clock = board()
    clock.now += 5
    one.put(LiveSample("node", "n1", 0.0, (gpu(0, 0.9),), ()))
    one.put(LiveSample("server", "n1", 0.0, (gpu(0, 0.1),), ()))
    assert [(a["kind"], a["age"], a["gpus"][0]["sm"]) for a in one.view(None)["agents"]] == [
        ("node", 0.0, 0.9),
        ("server", 0.0, 0.1),
    ]
