"""Which rule holds for whom, and what it allows."""

import pytest

from slurm_gpushare.grant import decode_grant
from tests.lua.conftest import ROOT, Controller, install

POLICY = """
maximum_fraction: 2
host_memory_per_gpu: 8 GiB
partitions:
  both: {default: shard, allowed: [bitfusion]}
  shard: shard
  bitfusion: bitfusion
backends:
  bitfusion: {servers: [{address: "10.0.0.1:56001", gpus: 4, gpu_memory: 16 GiB}]}
  shard:
    gpu_memory: 40 GiB
    types: {tesla: {gpu_memory: 16 GiB, feature: old}, a100: {gpu_memory: 40 GiB, feature: new}}
containers:
  images: [/data/images, "/scratch/*/images", "docker://registry.example.org/group"]
datasets:
  open: {path: /data/open, target: /open}
  staff: {path: /data/staff, target: /staff, groups: [staff]}
rules:
  - {name: course, accounts: [course], maximum_fraction: 0.5, minimum_fraction: 0.1, whole_gpus: false}
  - {name: alice in debug, users: [alice], qos: [debug], maximum_fraction: 0.25}
  - {name: guests, groups: [guests], backends: [shard], container_required: true, images: [/data/guests], datasets: []}
  - {name: pool, partitions: [bitfusion], maximum_fraction: 3}
  - {name: nobody, groups: [staff], users: [carol]}
"""


@pytest.fixture(scope="module")
def ruled(tmp_path_factory) -> Controller:
    return install(tmp_path_factory.mktemp("ruled"), POLICY)


def ask(controller: Controller, gres: str, partition: str = "shard", **fields: object) -> tuple[str, str]:
    """The rule and what the user was told; rule "" for a refusal."""
    options = [f"_SLURM_SPANK_OPTION_gpushare_{name}={text}" for name, text in fields.pop("options", {}).items()]
    fields = {"user_name": "alice", **fields, "partition": partition, "spank_job_env": options}
    answer = controller.submit(**({"tres_per_node": f"gres/{gres}"} if gres else {}), **fields)
    assert answer.logged == []
    extra = answer.job.get("extra")
    return decode_grant(extra).rule if extra else "" if answer.status else "untouched", " ".join(answer.told)


@pytest.mark.parametrize(
    ("who", "rule"),
    [
        ({}, "partition shard"),
        ({"account": "course"}, "rule course"),
        ({"default_account": "course"}, "rule course"),
        ({"account": "other", "default_account": "course"}, "partition shard"),
        ({"qos": "debug"}, "rule alice in debug"),
        ({"qos": "debug", "account": "course"}, "rule course"),
        ({"qos": "debug", "user_name": "bob"}, "partition shard"),
        ({"user_name": "carol", "options": {"container_image": "/data/guests/a"}}, "rule guests"),
        ({"partition": "bitfusion"}, "rule pool"),
        ({"user_name": None}, "partition shard"),
    ],
)
def test_the_first_rule_that_matches_wins(ruled, who: dict, rule: str) -> None:
    assert ask(ruled, "gpu:0.25", **who)[0] == rule


def test_a_user_is_looked_up_once_and_never_mistaken_for_another(ruled) -> None:
    nobody = 4294967294  # what Slurm has for a user id that was not given
    for user_id, name, rule in (
        (5001, "alice", "rule alice in debug"),
        (5001, None, "rule alice in debug"),
        (5002, "bob", "partition shard"),
        (5003, None, "partition shard"),
        (5003, "alice", "rule alice in debug"),
        (nobody, "alice", "rule alice in debug"),
        (nobody, "bob", "partition shard"),
    ):
        assert ask(ruled, "gpu:0.25", qos="debug", user_id=user_id, user_name=name)[0] == rule


@pytest.mark.parametrize(
    ("gres", "fields", "said"),
    [
        (
            "gpu:0.75",
            {"account": "course"},
            "rule course gives a job at most 0.5 of a GPU in all: write --gres=gpu:0.5",
        ),
        ("gpu:0.3", {"account": "course", "min_nodes": 2, "max_nodes": 2}, "write --gres=gpu:0.25"),
        ("gpu:0.05", {"account": "course"}, "below the smallest share, 0.1 of a GPU"),
        ("gpu:1", {"account": "course"}, "rule course gives no whole GPUs"),
        ("gpu:100%", {"account": "course"}, "in all"),
        ("gpu:3", {}, "partition shard gives a job at most 2 of a GPU in all"),
        ("gpu:4", {"partition": "bitfusion"}, "rule pool gives a job at most 3"),
        (
            "gpu:0.5",
            {"partition": "both", "user_name": "carol", "options": {"gpu_backend": "bitfusion"}},
            "both has shard",
        ),
        (
            "gpu:0.5",
            {"partition": "bitfusion", "user_name": "carol"},
            "has no shared GPUs for you: submit to -p both or -p shard",
        ),
        ("gpu:0.5", {"user_name": "carol"}, "GPUs are given to containers alone here"),
        ("gpu:1", {"user_name": "carol"}, "GPUs are given to containers alone here"),
        ("gpu:0.5", {"user_name": "carol", "options": {"container_image": "/data/images/a"}}, "below /data/guests"),
        ("gpu:0.5", {"partition": "shard,bitfusion"}, "different rules for these partitions: name one partition"),
        ("gpu:h100:0.5", {}, "no such type of GPU here: known are a100, tesla"),
        ("gpu:tesla:17G", {}, "each GPU has 16384 MiB"),
        ("gpu:0.25", {"options": {"gpu_mem": "20G"}}, "write at most --gpu-mem=10240M"),
        ("gpu:0.25", {"options": {"gpu_share": "0.25"}}, "asks for GPUs once"),
        ("", {"options": {"gpu_backend": "shard"}}, "asks for no GPU"),
        ("", {"options": {"gpu_mem": "0.5"}}, "no amount of memory"),
    ],
)
def test_what_a_rule_refuses(ruled, gres: str, fields: dict, said: str) -> None:
    rule, told = ask(ruled, gres, **fields)
    assert rule == "" and said in told and told.isprintable()


def test_a_limit_caps_the_nodes_that_slurm_may_choose(ruled) -> None:
    job = ruled.submit(tres_per_node="gres/gpu:0.2", account="course", partition="shard", user_name="alice").job
    assert job["max_nodes"] == 2 and job["min_mem_per_node"] == 1639
    whole = ruled.submit(tres_per_node="gres/gpu:1", partition="shard", min_nodes=1, max_nodes=4)
    assert whole.job["max_nodes"] == 2 and "extra" not in whole.job


def test_a_choice_of_backends(ruled) -> None:
    for wish, backend in ((None, "shard"), ("bitfusion", "bitfusion")):
        options = [] if wish is None else [f"_SLURM_SPANK_OPTION_gpushare_gpu_backend={wish}"]
        job = ruled.submit(tres_per_node="gres/gpu:0.5", partition="both", spank_job_env=options).job
        assert decode_grant(job["extra"]).backend == backend


@pytest.mark.parametrize(
    ("text", "gres", "feature", "memory"),
    [
        ("gpu:tesla:0.25", "shard:25", "old", 4096),
        ("gpu:a100@1/4", "shard:25", "new", 10240),
        ("gpu:tesla:8G", "shard:50", "old", 8192),
        ("gpu:8G", "shard:20", None, 8192),
    ],
)
def test_types_have_their_own_nodes_and_memory(ruled, text: str, gres: str, feature: str | None, memory: int) -> None:
    answer = ruled.submit(tres_per_node=f"gres/{text}", partition="shard")
    assert answer.job.get("features") == feature
    assert answer.job["tres_per_node"] == f"gres/{gres}", answer.told
    grant = decode_grant(answer.job["extra"])
    assert (grant.memory, grant.request) == (memory * 1024**2, text.replace("@", ":"))


def test_a_types_feature_beside_the_users_constraint(ruled) -> None:
    job = {"tres_per_node": "gres/gpu:tesla:0.25", "partition": "shard"}
    assert ruled.submit(**job, features="fast").job["features"] == "fast&old"
    refused = ruled.submit(**job, features="fast|slow")
    assert refused.told[0].endswith("write --constraint with old in it, and the share without a type")


@pytest.mark.parametrize(
    ("options", "ok"),
    [
        ({"container_image": "/scratch/alice/images/a.sif"}, True),
        ({"container_image": "/scratch/alice/b/images/a.sif"}, False),
        ({"container_image": "/scratch/images/a.sif"}, False),
        ({"container_image": "docker://registry.example.org/group/tool:1"}, True),
        ({"container_image": "docker://registry.example.org/groups/tool"}, False),
        ({"container_image": "docker://registry.example.org/group/../x"}, False),
        ({"container_image": "oras://registry.example.org/group/tool"}, False),
        ({"container_image": "/data/images/a", "dataset": "open,staff"}, True),
    ],
)
def test_patterns_sources_and_groups(ruled, options: dict, ok: bool) -> None:
    assert (ask(ruled, "", options=options)[0] == "untouched") is ok


def test_a_dataset_is_its_groups(ruled) -> None:
    image = {"container_image": "/data/images/a"}
    assert (
        "--dataset=staff: is not open to you: known are open"
        in ask(ruled, "", user_name="dave", options={**image, "dataset": "staff"})[1]
    )
    guest = {"container_image": "/data/guests/a", "dataset": "open"}
    assert "the policy has none for you" in ask(ruled, "", user_name="carol", options=guest)[1]


def test_only_clients_with_the_filter(tmp_path) -> None:
    strict = install(tmp_path, "{require_client: true, partitions: {shard: shard}, backends: {shard: {}}}")
    assert "CliFilterPlugins=lua" in strict.submit().told[0]
    assert strict.submit(extra="gpushare.client=12").status == -1
    plain = strict.submit(extra="gpushare.client=1")
    assert plain.status == 0 and "extra" not in plain.job
    assert strict.submit(extra="gpushare.client=1,a,b").job["extra"] == "a,b"
    job = strict.submit(extra="gpushare.client=1,own", tres_per_node="gres/gpu:0.5", partition="shard").job
    assert decode_grant(job["extra"]).extra == "own"
    forged = strict.submit(extra='gpushare.client=1,{"v":1}')
    assert forged.status == -1 and "gpushare's own" in forged.told[0]


def test_roots_job_that_holds_a_gpu_is_under_no_rule(ruled) -> None:
    """Of `gpushare gpu drain`; the rules give no whole GPU to anybody of that account."""
    held = {"name": "gpushare-drain", "tres_per_node": "gres/gpu:1", "account": "course", "partition": "shard"}
    assert ruled.submit(ROOT, **held, extra="gpushare.client=1").status == 0
    assert "extra" not in ruled.submit(ROOT, **held, extra="gpushare.client=1").job
    for refused in (ruled.submit(**held), ruled.submit(ROOT, **held | {"name": "other"})):
        assert refused.status == -1 and "gives no whole GPUs" in refused.told[0]
