"""job_submit.lua itself: what it does to the job, to a change, and when something is broken."""

import pytest

FAULT = "gpushare: a fault in the GPU policy's code stopped this: tell the administrator"


def test_the_variables_that_would_ask_again_are_blanked(controller) -> None:
    environment = {"SLURM_GPUS_PER_NODE": "0.25", "HOME": "/home/alice"}
    answer = controller.submit(tres_per_node="gres/gpu:0.25", partition="shard", script="#!", environment=environment)
    assert answer.status == 0
    assert answer.job["environment"] == {"SLURM_GPUS_PER_NODE": "", "HOME": "/home/alice"}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("gpushare.lua", None),
        ("gpushare.lua", "this is not lua"),
        ("gpushare.lua", "error('no')"),
        ("gpushare_policy.lua", None),
        ("gpushare_policy.lua", "return 1"),
        ("gpushare_policy.lua", "return {v = 99}"),
        ("gpushare_policy.lua", "return {"),
    ],
)
def test_without_a_policy_only_cpu_jobs_pass(own_controller, file: str, text: str | None) -> None:
    path = own_controller.folder / file
    path.unlink()
    if text is not None:
        path.write_text(text)
    own_controller.load()
    assert own_controller.submit(licenses="matlab", tres_per_task="cpu=1", extra="mine").status == 0
    image = ["_SLURM_SPANK_OPTION_gpushare_container_image=/data/images/a.sif"]
    for fields in (
        {"tres_per_node": "gres/gpu:0.25"},
        {"tres_per_node": "gres:shard:25"},
        {"tres_per_job": "gres/gpu:1"},
        {"tres_per_task": "cpu=1,gres/gpu=1"},
        {"tres_per_socket": "gres/gpu:1"},
        {"spank_job_env": image},
        {"extra": '{"v":1}'},
    ):
        answer = own_controller.submit(**fields)
        assert answer.status == -1
        assert answer.told == [
            "gpushare: the GPU policy could not be loaded, no GPU or container can be given: tell the administrator"
        ]
        assert len(answer.logged) == 1 and answer.logged[0].startswith("gpushare: ")
    assert own_controller.modify({}, tres_per_node="gres/gpu:1").status == -1
    assert own_controller.modify({}, comment="x").status == 0


def test_a_fault_in_the_code_refuses_and_is_logged(own_controller) -> None:
    path = own_controller.folder / "gpushare" / "decision.lua"
    path.write_text(path.read_text().replace("local function consider(policy, request)", "local function consider()"))
    own_controller.load()
    answer = own_controller.submit(tres_per_node="gres/gpu:0.25")
    assert answer.status == -1 and answer.told == [FAULT]
    assert len(answer.logged) == 1 and "attempt to index" in answer.logged[0]
    assert answer.job["tres_per_node"] == "gres/gpu:0.25"


def test_a_fault_while_the_job_is_changed_refuses(own_controller) -> None:
    path = own_controller.folder / "gpushare" / "decision.lua"
    path.write_text(path.read_text().replace("set.extra = make_grant(", "set.qos = {}, make_grant("))
    assert "set.qos" in path.read_text()
    own_controller.load()
    answer = own_controller.submit(tres_per_node="gres/gpu:0.25", partition="shard")
    assert answer.status == -1 and answer.told == [FAULT]
