"""`mode: observe` and `off`: jobs go to Slurm as they are, and what would have become of them is told to operators."""

import pytest

from slurm_gpushare.policy.observed import summarise
from tests.lua.conftest import POOL, Answer, Controller, install
from tests.lua.test_changes import record_of

MARK = "gpushare.client=1"
RULES = """
operators: [oscar]
rules:
  - {name: course, accounts: [course], whole_gpus: false}
  - {name: boxed, accounts: [boxed], container_required: true}
  - {name: small, accounts: [small], maximum_fraction: 1}
"""


def made(folder, mode: str) -> Controller:
    return install(folder, f"{mode}\n{RULES}{POOL}")


@pytest.fixture(scope="module")
def observing(tmp_path_factory) -> Controller:
    return made(
        tmp_path_factory.mktemp("observe"), "mode: observe\nenforce: {partitions: [pool2], accounts: [physics]}"
    )


@pytest.fixture(scope="module")
def switched_off(tmp_path_factory) -> Controller:
    return made(tmp_path_factory.mktemp("off"), "mode: off\nenforce: {partitions: [pool2]}")


def ask(controller: Controller, gres: str | None, partition: str = "shard", **fields: object) -> Answer:
    if gres is not None:
        fields["tres_per_node"] = f"gres/{gres}"
    fields = {"user_name": "alice", "account": "chemistry", "extra": MARK, **fields}
    return controller.submit(**fields, partition=partition)


def changed(answer: Answer, gres: str | None) -> dict:
    """The fields of the job that are no longer as it was submitted, but for the mark, which is always taken away."""
    sent = {"tres_per_node": gres and f"gres/{gres}"}
    return {
        name: value
        for name, value in answer.job.items()
        if name in ("tres_per_node", "extra", "licenses", "max_nodes", "tres_per_job") and value != sent.get(name)
        and value != 4294967294
    }  # fmt: skip


REFUSED_OTHERWISE = [
    ({"account": "course"}, "gpu:1", "refuse", "rule course"),
    ({"account": "boxed"}, "gpu:1", "refuse", "rule boxed"),
    ({}, "shard:25", "refuse", "request"),
]


@pytest.mark.parametrize(("fields", "gres", "what", "rule"), REFUSED_OTHERWISE)
def test_observed_jobs_go_on_as_they_are(observing, fields: dict, gres: str, what: str, rule: str) -> None:
    answer = ask(observing, gres, **fields)
    assert (answer.status, answer.told, changed(answer, gres)) == (0, [], {})
    (row,) = summarise(answer.logged)
    assert (row["jobs"], row["what"], row["rule"]) == (1, what, rule)
    assert (row["users"], row["accounts"], row["partitions"]) == (
        ["alice"], [fields.get("account", "chemistry")], ["shard"],
    )  # fmt: skip
    enforced = ask(observing, gres, **fields | {"account": "physics"})
    assert (enforced.status == 0, enforced.logged) == (gres == "gpu:1", [])


def test_a_change_of_fields_is_observed_too(observing) -> None:
    answer = ask(observing, "gpu:1", account="small", min_nodes=1)
    assert (answer.status, changed(answer, "gpu:1")) == (0, {})
    assert summarise(answer.logged)[0]["detail"] == "max_nodes=1"


@pytest.mark.parametrize("gres", [None, "gpu:1", "gpu:tesla:2", "nvme:1"])
def test_nothing_is_said_of_what_would_stay_as_it_is(observing, switched_off, gres: str | None) -> None:
    for controller in (observing, switched_off):
        answer = ask(controller, gres)
        assert (answer.status, answer.told, answer.logged, changed(answer, gres)) == (0, [], [], {})


SHARES = [
    {"tres_per_node": "gres/gpu:0.25"},
    {"tres_per_node": "gres/gpu:tesla@0.25"},
    {"tres_per_node": "gres/gpu:task@0.5", "num_tasks": 1},
    {"tres_per_job": "gres/gpu:0.5"},
    {"spank_job_env": ["_SLURM_SPANK_OPTION_gpushare_gpu_share=0.25"]},
    {"spank_job_env": ["_SLURM_SPANK_OPTION_gpushare_gpu_mem=4G"]},
    {"tres_per_node": "gres/gpu:1", "spank_job_env": ["_SLURM_SPANK_OPTION_gpushare_gpu_backend=bitfusion"]},
]


@pytest.mark.parametrize("fields", SHARES)
def test_a_share_is_never_lost_without_a_word(observing, switched_off, fields: dict) -> None:
    """Slurm would run a job with --gpu-share without any GPU."""
    for controller in (observing, switched_off):
        answer = ask(controller, None, "bitfusion", **fields)
        assert answer.status == -1 and "shares of GPUs are not given" in answer.told[0]
        assert bool(answer.logged) == (controller is observing)


def test_where_it_is_enforced_a_share_is_given(observing, switched_off) -> None:
    for fields in ({"partition": "pool2"}, {"partition": "bitfusion", "account": "physics"}):
        answer = ask(observing, "gpu:0.25", **fields)
        assert answer.status == 0 and answer.job["licenses"] == "bitfusion:25" and answer.logged == []
    several = ask(observing, "gpu:0.25", "bitfusion,pool2")
    assert several.status == 0 and several.job["licenses"] == "bitfusion:25"
    assert ask(switched_off, "gpu:0.25", "pool2").status == -1


def test_operators_are_told(observing) -> None:
    answer = ask(observing, "gpu:1", account="course", user_name="oscar")
    assert answer.status == 0 and len(answer.told) == 1
    assert answer.told[0].startswith("gpushare: this policy would refuse by rule course: ")
    share = ask(observing, "gpu:0.25", "bitfusion", user_name="oscar")
    assert share.status == -1
    assert "would grant by partition bitfusion: gres=bitfusion:25 licenses=bitfusion:25" in share.told[0]


def test_each_job_is_observed_though_decisions_are_remembered(observing) -> None:
    for _ in range(3):
        assert len(ask(observing, "gpu:1", account="course").logged) == 1


def test_a_forged_grant_is_refused_in_any_mode(observing, switched_off) -> None:
    for controller in (observing, switched_off):
        answer = ask(controller, "gpu:1", extra='{"v":1,"backend":"shard"}')
        assert answer.status == -1 and "gpushare's own" in answer.told[0]


def test_no_line_of_a_users_is_taken_for_another_jobs(observing) -> None:
    forged = "x\ngpushare: observed: user=bob account=b partition=p would refuse by r: no"
    answer = ask(observing, "gpu:1", account="course", partition="shard", user_name=forged)
    assert len(answer.logged) == 1 and "\n" not in answer.logged[0]
    assert [row["users"] for row in summarise(answer.logged)] != [["bob"]]


@pytest.mark.parametrize("mode", ["mode: off", "mode: observe"])
def test_jobs_with_a_grant_keep_to_it(tmp_path, controller, mode: str) -> None:
    """Given before the policy was switched off: changed as ever, and nobody edits the grant."""
    job = record_of(controller.submit(tres_per_node="gres/gpu:0.25", partition="bitfusion"), "bitfusion")
    later = made(tmp_path, mode)
    answer = later.modify(job, user_name="alice", tres_per_node="gres/gpu:0.5")
    assert answer.status == 0 and answer.job["licenses"] == "bitfusion:50"
    assert later.modify(job, user_name="alice", extra="mine").status == -1


def test_a_job_without_one_gets_none_by_a_change(observing, switched_off) -> None:
    plain = {"extra": "", "partition": "bitfusion", "user_id": 1001, "job_state": 0}
    for controller in (observing, switched_off):
        answer = controller.modify(plain, user_name="alice", tres_per_node="gres/gpu:0.5")
        assert answer.status == -1 and "are not given" in answer.told[0]


def test_a_fault_of_ours_does_not_keep_an_observed_job(tmp_path) -> None:
    controller = made(tmp_path, "mode: observe")
    place = tmp_path / "gpushare" / "place.lua"
    place.write_text(place.read_text().replace("function M.limit_plain(", "function M.gone("))
    controller.load()
    answer = ask(controller, "gpu:1")
    assert (answer.status, answer.told, changed(answer, "gpu:1")) == (0, [], {})
    assert "would fail by a fault: " in answer.logged[0]
    assert summarise(answer.logged)[0]["what"] == "fail"
