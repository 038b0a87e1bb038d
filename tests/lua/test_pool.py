"""Where each GPU of a pool has licences of its own: which ones a request becomes, and what nodes read from them."""

import re
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_gpushare.backends.places import find_places
from slurm_gpushare.grant import Grant, decode_grant
from tests.lua.conftest import Answer, Controller, install
from tests.lua.test_changes import change, record_of

GPUS = {"s1": 4, "s2": 2, "s3": 1}
MEMORY = {"s1": "16 GiB", "s2": "40 GiB", "s3": "16 GiB"}
SERVERS = ", ".join(
    f"{{name: {name}, address: '{name}:56001', gpus: {count}, gpu_memory: {MEMORY[name]}}}"
    for name, count in GPUS.items()
)
POLICY = f"""
partitions: {{pool: bitfusion, shard: shard}}
backends:
  bitfusion: {{placement: PLACEMENT, servers: [{SERVERS}]}}
  shard: {{}}
"""
SETTINGS = SimpleNamespace(servers={name: f"{name}:56001" for name in GPUS})
ALL = [f"gpu{gpu}@{name}" for name, count in GPUS.items() for gpu in range(count)]


@pytest.fixture(scope="module")
def pinned(tmp_path_factory) -> Controller:
    return install(tmp_path_factory.mktemp("pinned"), POLICY.replace("PLACEMENT", "pinned"))


@pytest.fixture(scope="module")
def first_fit(tmp_path_factory) -> Controller:
    return install(tmp_path_factory.mktemp("first_fit"), POLICY.replace("PLACEMENT", "first_fit"))


@pytest.fixture(scope="module", params=["pinned", "first_fit"])
def site(request) -> Controller:
    return request.getfixturevalue(request.param)


def submit(site: Controller, gres: str = "", **fields: object) -> Answer:
    return site.submit(partition="pool", **({"tres_per_node": f"gres/{gres}"} if gres else {}), **fields)


def counts(licences: str) -> dict[str, int]:
    return {name: int(count) for name, count in (item.split(":") for item in licences.split(","))}


def places(answer: Answer) -> list:
    grant = decode_grant(answer.job["extra"])
    return [
        place
        for node in range(grant.nodes)
        for place in find_places(answer.job["licenses"], grant, SETTINGS, 100, node)
    ]


@pytest.mark.parametrize(
    ("fields", "slices"),
    [
        ({"tres_per_node": "gres/gpu:0.25"}, 25),
        ({"tres_per_node": "gres/gpu:1"}, 100),
        ({"tres_per_job": "gres/gpu:1/2"}, 50),
        ({"tres_per_task": "gres/gpu:0.25", "num_tasks": 3}, 75),
        ({"tres_per_node": "gres/gpu:0.5", "min_nodes": 2, "max_nodes": 2}, 100),
    ],
)
def test_slurm_takes_the_first_gpu_that_has_room(first_fit, fields: dict, slices: int) -> None:
    answer = submit(first_fit, **fields)
    assert answer.status == 0, answer.told
    assert answer.job["licenses"] == "|".join(f"{name}:{slices}" for name in ALL)


@pytest.mark.parametrize(
    "fields",
    [
        {"tres_per_node": "gres/gpu:0.25", "licenses": "matlab:1"},
        {"tres_per_node": "gres/gpu:0.25:2"},
        {"tres_per_node": "gres/gpu:2"},
        {"tres_per_node": "gres/gpu:0.51", "min_nodes": 2, "max_nodes": 2},
        {"tres_per_task": "gres/gpu:0.75", "num_tasks": 2},
    ],
)
def test_what_cannot_be_one_of_several_is_chosen_at_submission(first_fit, fields: dict) -> None:
    answer = submit(first_fit, **fields)
    assert answer.status == 0, answer.told
    assert "|" not in answer.job["licenses"] and places(answer)
    assert answer.job["licenses"].startswith("matlab:1,gpu") == ("licenses" in fields)


def test_gpus_are_taken_in_turn_by_what_was_put_on_them(tmp_path) -> None:
    controller = install(tmp_path, POLICY.replace("PLACEMENT", "pinned"))
    first = [submit(controller, "gpu:1").job["licenses"] for _ in ALL]
    assert sorted(first) == sorted(f"{name}:100" for name in ALL)
    halves = [submit(controller, "gpu:0.5").job["licenses"] for _ in range(2)]
    assert len(set(halves)) == 2
    # The two that have half a job more come last.
    wholes = [submit(controller, "gpu:1").job["licenses"].split(":")[0] for _ in ALL]
    assert {name.split(":")[0] for name in halves} == set(wholes[-2:])
    controller.load()
    assert {submit(controller, "gpu:1").job["licenses"] for _ in ALL} == set(first)


def test_several_gpus_lie_on_one_server_from_the_last_on(pinned, first_fit) -> None:
    groups = [{"gpu0@s2", "gpu1@s2"}, {"gpu2@s1", "gpu3@s1"}, {"gpu0@s1", "gpu1@s1"}]
    for site in (pinned, first_fit):
        taken = [submit(site, "gpu:2").job["licenses"] for _ in range(3)]
        assert sorted(map(sorted, map(counts, taken))) == sorted(map(sorted, groups)) or site is first_fit
        assert all(set(counts(text)) in groups and set(counts(text).values()) == {100} for text in taken)
    assert counts(submit(pinned, "gpu:0.25:3").job["licenses"]) == {"gpu1@s1": 25, "gpu2@s1": 25, "gpu3@s1": 25}


def test_allocations_of_a_job_share_gpus_without_being_split(pinned) -> None:
    job = {"tres_per_task": "gres/gpu:0.5", "num_tasks": 3}
    licences = counts(submit(pinned, **job).job["licenses"])
    assert sorted(licences.values()) == [50, 100]
    four = submit(pinned, tres_per_task="gres/gpu:0.5:2", ntasks_per_node=2, min_nodes=2, max_nodes=2)
    assert sorted(counts(four.job["licenses"]).values()) == [100, 100, 100, 100]
    assert Counter(len(place.gpus) for place in places(four)) == {2: 4}
    assert four.job.get("ntasks_per_node") == 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tres_per_node": "gres/gpu:5"}, "the largest server of the pool has 4 GPUs: write at most --gres=gpu:4"),
        ({"tres_per_node": "gres/gpu:3", "min_nodes": 2, "max_nodes": 2}, "room for 1 of them: write -N 1"),
        ({"tres_per_task": "gres/gpu:0.6", "num_tasks": 8}, "for 8 tasks: the pool has room for 7 of them: write -n 7"),
        ({"tres_per_node": "gres/gpu:60G"}, "has 40960 MiB: write at most gpu:40960M"),
        ({"tres_per_node": "gres/gpu:20G:3"}, "has 2 GPUs"),
        ({"tres_per_node": "gres/gpu:0.25", "licenses": "a:1|b:1"}, "| cannot be combined"),
    ],
)
def test_what_can_never_fit_is_refused_with_what_fits(site, fields: dict, words: str) -> None:
    answer = submit(site, **fields)
    assert answer.status == -1 and words in answer.told[0], answer.told


def test_memory_is_had_where_gpus_are_large_enough(first_fit) -> None:
    large = submit(first_fit, "gpu:20G")
    assert large.job["licenses"] == "gpu0@s2:50|gpu1@s2:50"
    assert decode_grant(large.job["extra"]).memory == 20 << 30
    small = submit(first_fit, "gpu:4G")
    assert small.job["licenses"].count("|") == len(ALL) - 1 and decode_grant(small.job["extra"]).slices == 25
    # How much a quarter has, depends on the GPU.
    assert decode_grant(submit(first_fit, "gpu:0.25").job["extra"]).memory is None


def test_an_array_that_waits_for_one_gpu_is_told_so(pinned, first_fit) -> None:
    assert "every task of the array waits for the same GPU" in submit(pinned, "gpu:0.25", array_inx="1-9").told[0]
    assert "array" not in submit(first_fit, "gpu:0.25", array_inx="1-9").told[0]


@pytest.mark.parametrize("entry", ["gpu0@s1:25", "matlab:1,gpu3@s1:100", "a:1|gpu0@s2:1", "GPU0@S1:1", " gpu9@s1"])
def test_nobody_takes_licences_of_gpus_by_hand(site, entry: str) -> None:
    for fields in ({"licenses": entry}, {"licenses": entry, "tres_per_node": "gres/gpu:0.25"}):
        answer = submit(site, **fields)
        assert answer.status == -1 and "licences of bitfusion are given by gpushare alone" in answer.told[0]
    assert submit(site, tres_per_task=f"license/{entry.split(',')[-1]}").status == -1
    assert (
        submit(site, licenses="gpu0@elsewhere:1,gpu:2,server1:1").job["licenses"] == "gpu0@elsewhere:1,gpu:2,server1:1"
    )


def test_a_change_gets_its_licences_anew(site) -> None:
    record = record_of(submit(site, "gpu:0.25"), "pool")
    more = change(site, record, tres_per_node="gres/gpu:0.5")
    assert more.status == 0, more.told
    assert {int(text) for text in re.findall(r":(\d+)", more.job["licenses"])} == {50}
    assert ("|" in more.job["licenses"]) == ("|" in record["licenses"])
    beside = change(site, record, licenses="matlab:2")
    assert re.fullmatch(r"matlab:2,gpu\d@s\d:25", beside.job["licenses"])
    kept = change(site, {**record, "licenses": beside.job["licenses"]}, account="chemistry")
    assert re.fullmatch(r"matlab:2,gpu\d@s\d:25", kept.job["licenses"])
    assert change(site, record, licenses="gpu0@s1:100").status == -1


FRACTION = st.integers(1, 100).map(lambda number: f"{number / 100:g}")
AMOUNT = st.one_of(FRACTION, st.integers(1, 5).map(str), st.builds("{}:{}".format, FRACTION, st.integers(1, 5)))
LAYOUT = st.fixed_dictionaries(
    {},
    optional={"nodes": st.integers(1, 4), "ntasks_per_node": st.integers(1, 5), "licenses": st.just("matlab:1")},
)


@given(AMOUNT, st.sampled_from(["tres_per_node", "tres_per_task", "tres_per_job"]), LAYOUT)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_accepted_is_paid_and_never_split(site, amount: str, field: str, layout: dict) -> None:
    layout = dict(layout)
    nodes = layout.pop("nodes", None)
    if nodes:
        layout |= {"min_nodes": nodes, "max_nodes": nodes}
    answer = submit(site, **{field: f"gres/gpu:{amount}"}, **layout)
    if answer.status != 0:
        assert answer.told[0].startswith("gpushare: ") and answer.logged == []
        return
    grant, licences = decode_grant(answer.job["extra"]), answer.job["licenses"]
    if "|" in licences:
        assert set(re.findall(r":(\d+)", licences)) == {str(grant.slices * grant.nodes)} and grant.gpus == 1
        for choice in licences.split("|"):
            check_places(grant, choice)
    else:
        assert layout.get("licenses", "") in licences
        check_places(grant, licences)


def check_places(grant: Grant, licences: str) -> None:
    """All nodes' allocations together take what the licences pay, each of them equal parts of one server's GPUs."""
    paid = {name: count for name, count in counts(licences).items() if "@" in name}
    assert sum(paid.values()) == grant.slices * grant.nodes and max(paid.values()) <= 100
    taken: Counter = Counter()
    for node in range(grant.nodes):
        found = find_places(licences, grant, SETTINGS, 100, node)
        assert len(found) == grant.tasks
        for place in found:
            assert len(place.gpus) == grant.gpus and max(place.gpus) < GPUS[place.server]
            assert place.address == SETTINGS.servers[place.server]
            taken.update({f"gpu{gpu}@{place.server}": round(grant.fraction * 100) for gpu in place.gpus})
    assert taken == paid


def test_a_server_that_is_out_of_service_is_chosen_last(tmp_path) -> None:
    controller = install(tmp_path, POLICY.replace("PLACEMENT", "pinned"))
    out, *others = GPUS

    def reserve(*names: str) -> None:
        listed = controller.runtime.table_from({name.encode(): controller.runtime.table() for name in names})
        controller.runtime.eval("rawset")(controller.runtime.globals()[b"slurm"], b"reservations", listed)

    reserve(f"gpushare-drain-{out}", "maintenance")
    chosen = {submit(controller, "gpu:1").job["licenses"].partition("@")[2].partition(":")[0] for _ in range(20)}
    assert chosen == set(others)
    # Of a pool that is out of service as a whole jobs wait as always.
    reserve(*(f"gpushare-drain-{name}" for name in GPUS))
    chosen = {submit(controller, "gpu:1").job["licenses"].partition("@")[2].partition(":")[0] for _ in range(40)}
    assert chosen == set(GPUS)
