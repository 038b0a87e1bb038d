"""A site's own job_submit.lua above the line that includes ours: what each sees, who wins, and whose fault is whose."""

import pytest

FAULT = "gpushare: a fault in the GPU policy's code stopped this: tell the administrator"

SITE = """
seen = {}
function slurm_job_submit(job_desc, part_list, submit_uid)
  seen = { extra = job_desc.extra, gres = job_desc.tres_per_node, partition = job_desc.partition, uid = submit_uid }
  SUBMIT
  return slurm.SUCCESS
end
function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
  seen = { comment = job_desc.comment, uid = modify_uid }
  MODIFY
  return slurm.SUCCESS
end
"""


@pytest.fixture
def site(own_controller):
    """Return a controller with a job_submit.lua of the site's, by what that does to a job and to a change."""
    file = own_controller.folder / "job_submit.lua"
    include = file.read_text()

    def make(submit: str = "", modify: str = ""):
        file.write_text(SITE.replace("SUBMIT", submit).replace("MODIFY", modify) + include)
        own_controller.load()
        return own_controller

    return make


def seen(controller) -> dict:
    return {key.decode(): value for key, value in controller.runtime.globals()[b"seen"].items()}


def test_the_site_sees_what_the_user_wrote_and_ours_what_the_site_made_of_it(site) -> None:
    controller = site("job_desc.partition, job_desc.account, job_desc.comment = 'bitfusion', 'lab', 'billed'")
    answer = controller.submit(tres_per_node="gres/gpu:0.25", partition="cpu", extra="gpushare.client=1,mine")
    assert answer.status == 0
    assert seen(controller) == {
        "gres": b"gres/gpu:0.25", "partition": b"cpu", "extra": b"gpushare.client=1,mine", "uid": 1001,
    }  # fmt: skip
    assert answer.job["licenses"] == "bitfusion:25"  # what the site's partition gives
    assert (answer.job["partition"], answer.job["account"], answer.job["comment"]) == ("bitfusion", "lab", "billed")
    assert '"extra":"mine"' in answer.job["extra"]


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ("job_desc.extra = 'site'", "extra", '"extra":"site"'),
        ("job_desc.extra = (job_desc.extra or '') .. ',site'", "extra", '"extra":"mine,site"'),
        ("job_desc.licenses = 'matlab:1'", "licenses", "matlab:1"),
        ("job_desc.gres = 'gpu:0.5'", "extra", '"fraction":0.5'),
        ("job_desc.tres_per_node = job_desc.tres_per_node .. ',gres/nvme:1'", "tres_per_node", "nvme:1"),
    ],
)
def test_fields_that_both_change_hold_what_both_said(site, change: str, field: str, value: str) -> None:
    answer = site(change).submit(tres_per_node="gres/gpu:0.25", partition="bitfusion", extra="gpushare.client=1,mine")
    assert answer.status == 0, answer.told
    assert value in answer.job[field]
    assert "bitfusion:" in answer.job["licenses"] and '"v":1' in answer.job["extra"]


def test_the_mark_of_cli_filter_counts_though_the_site_wrote_over_it(site) -> None:
    controller = site("job_desc.extra = 'site'")
    table = controller.folder / "gpushare_policy.lua"
    table.write_text(table.read_text().replace('["require_client"] = false', '["require_client"] = true'))
    controller.load()
    job = {"tres_per_node": "gres/gpu:0.25", "partition": "shard"}
    assert controller.submit(**job, extra="gpushare.client=1").status == 0
    answer = controller.submit(**job, extra="mine")
    assert answer.status == -1 and "CliFilterPlugins=lua" in answer.told[0]


@pytest.mark.parametrize("status", ["slurm.ERROR", "2094", "'2094'"])
def test_what_the_site_refuses_ours_does_not_see(site, status: str) -> None:
    controller = site(f"slurm.log_user('not today'); do return {status} end")
    answer = controller.submit(tres_per_node="gres/gpu:0.25", partition="shard")
    assert answer.status == (-1 if status == "slurm.ERROR" else 2094)
    assert answer.told == ["not today"] and answer.job["tres_per_node"] == "gres/gpu:0.25"


@pytest.mark.parametrize("status", ["", "nil", "true", "'yes'", "{}", "slurm.SUCCESS"])
def test_what_slurm_takes_for_success_goes_on_to_ours(site, status: str) -> None:
    answer = site(f"slurm.log_user('hello'); do return {status} end").submit(
        tres_per_node="gres/gpu:7.25", partition="shard"
    )
    assert answer.status == -1
    assert answer.told[0] == "hello" and answer.told[1].startswith("gpushare: ")


def test_a_fault_of_the_sites_is_slurms_to_judge_and_ours_is_decided(site) -> None:
    controller = site("job_desc.comment = 'half'; local nothing = nil; nothing.field = 1")
    for fields, gres in (({"tres_per_node": "gres/gpu:0.25"}, "gres/shard:25"), ({}, None)):
        job = {"partition": "shard", **fields}
        table = controller._table({"min_nodes": 4294967294, "max_nodes": 4294967294, **job})
        submit = controller._globals(b"slurm_job_submit")
        with pytest.raises(Exception, match="attempt to index local 'nothing'"):
            submit(controller._globals(b"new_job_desc")(table), controller._parts({}), 1001)
        assert table[b"tres_per_node"] == (gres and gres.encode())
        assert table[b"comment"] == b"half"


def test_where_ours_refuses_the_sites_fault_is_logged(site) -> None:
    answer = site("error('the site broke')").submit(tres_per_node="gres/gpu:7.25", partition="shard")
    assert answer.status == -1
    assert len(answer.told) == 1 and answer.told[0].startswith("gpushare: ")
    (line,) = answer.logged
    assert line.startswith("gpushare: refused what the site's job_submit.lua failed on: ") and "the site broke" in line


def test_a_fault_of_ours_leaves_the_site_its_word(site) -> None:
    controller = site("slurm.log_user('hello')")
    path = controller.folder / "gpushare" / "decision.lua"
    path.write_text(path.read_text().replace("local function consider(policy, request)", "local function consider()"))
    controller.load()
    answer = controller.submit(tres_per_node="gres/gpu:0.25")
    assert answer.status == -1 and answer.told == ["hello", FAULT]


def test_without_a_policy_the_site_goes_on(site) -> None:
    controller = site("job_desc.comment = 'billed'")
    (controller.folder / "gpushare_policy.lua").write_text("return {")
    controller.load()
    answer = controller.submit(partition="cpu", extra="gpushare.client=1")
    assert answer.status == 0 and answer.job["comment"] == "billed"
    assert controller.submit(tres_per_node="gres/gpu:0.25").status == -1


def test_a_change_is_the_sites_first(site) -> None:
    controller = site(modify="if job_desc.comment == 'no' then slurm.log_user('no'); return slurm.ERROR end")
    assert controller.modify({"extra": '{"v":1}'}, comment="no", extra="x").told == ["no"]
    assert seen(controller) == {"comment": b"no", "uid": 1001}
    answer = controller.modify({"extra": '{"v":1}'}, extra="x")
    assert answer.status == -1 and answer.told[0].startswith("gpushare: extra belongs to the job's share")
    assert controller.modify({"extra": '{"v":1}'}, uid=0, comment="no").told == [
        "no"
    ]  # root may mend, if the site lets


def test_a_site_with_one_of_the_two_functions(site) -> None:
    controller = site()
    file = controller.folder / "job_submit.lua"
    file.write_text("function slurm_job_submit() return slurm.SUCCESS end\n" + file.read_text().splitlines()[-1])
    controller.load()
    assert controller.submit(tres_per_node="gres/gpu:0.25", partition="shard").job["tres_per_node"] == "gres/shard:25"
    assert controller.modify({}, comment="x").status == 0


IMAGE = "_SLURM_SPANK_OPTION_gpushare_container_image=/data/images/a.sif"


def test_slurms_own_container_and_ours_are_one_too_many(controller) -> None:
    answer = controller.submit(spank_job_env=[IMAGE], container="/bundles/b", partition="cpu")
    assert answer.told == [
        "gpushare: --container-image=/data/images/a.sif and --container=/bundles/b: a job runs in one container: "
        "write one of them"
    ]


def test_slurms_own_container_has_no_share(controller) -> None:
    answer = controller.submit(tres_per_node="gres/gpu:0.25", container="/bundles/b", partition="shard")
    assert answer.told == [
        "gpushare: gpu:0.25: no share of a GPU is given into Slurm's own --container=/bundles/b: "
        "write --container-image=PATH"
    ]
    assert controller.submit(tres_per_node="gres/gpu:1", container="/bundles/b", partition="shard").status == 0
    assert controller.submit(container="/bundles/b").status == 0


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"dataset": "digits"}, "--gs-dataset=digits needs --gs-container-image=PATH beside it"),
        ({"container_scope": "x", "container_image": "/data/images/a"}, "--gs-container-scope=x: write job or tasks"),
        ({"container_image": "/etc"}, "--gs-container-image=/etc: images are absolute paths without .., below"),
    ],
)
def test_messages_have_the_prefix_of_plugstack(controller, options: dict, line: str) -> None:
    words = [f"_SLURM_SPANK_OPTION_gpushare_{name}={value}" for name, value in options.items()]
    answer = controller.submit(spank_job_env=["GPUSHARE_PREFIX=gs-", *words], partition="cpu")
    assert answer.told[0].startswith(f"gpushare: {line}")


def test_a_forged_prefix_is_not_repeated(controller) -> None:
    words = ["GPUSHARE_PREFIX=%1\n-", "_SLURM_SPANK_OPTION_gpushare_dataset=digits"]
    assert controller.submit(spank_job_env=words).told == [
        "gpushare: --dataset=digits needs --container-image=PATH beside it"
    ]


def test_the_prefix_alone_makes_no_job_ours(own_controller) -> None:
    (own_controller.folder / "gpushare_policy.lua").unlink()
    own_controller.load()
    assert own_controller.submit(spank_job_env=["GPUSHARE_PREFIX=gs-"]).status == 0
