"""What `gpushare pool sync` tells sacctmgr. slurmctld's part is as it was seen on 24.11 and 26.05."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.policy.schema import Bitfusion
from slurm_gpushare.pool.plan import Act, acts, wanted
from slurm_gpushare.slurm.licences import Licence
from tests.unit.pool.pools import BY_GPU, FLAT, GPU_LICENCES, REMOTE_FLAT, SLICES, job, judge, licences, server

REFUSED = {"10.0.0.2:56001": "Connection refused"}
BOTH = (server(1, 0, 0), server(2, 0, 0))


def plan(
    *states: object, of: dict[str, Licence] | None = None, pool: Bitfusion = BY_GPU
) -> tuple[list[str], list[str]]:
    found = licences() if of is None else of
    todo, left = acts(wanted(pool, SLICES, states, found), found, "lab")
    return [" ".join(act.argv[2:]) for act in todo], left


def away() -> object:
    return judge(server(1, 0, 0), refused=REFUSED)


def slurmctld(found: dict[str, Licence], todo: list[Act]) -> dict[str, Licence]:
    """Return the licences after ``todo``, as slurmctld reckons: LastDeficit is LastConsumed less what is used then."""
    found = dict(found)
    for act in todo:
        words = dict(word.split("=") for word in act.argv if "=" in word)
        name = f"{words['name']}@{words['server']}"
        if act.argv[2] == "add":
            found[name] = Licence(name, int(words["count"]), 0, int(words["count"]), remote=True)
            continue
        one = found[name]
        if "count" in words:
            one = replace(one, total=int(words["count"]))
        if "lastconsumed" in words:
            one = replace(one, withheld=max(0, int(words["lastconsumed"]) - one.used))
        found[name] = replace(one, free=max(0, one.total - one.used - one.withheld))
    return found


def test_nothing_to_do() -> None:
    assert plan(judge(*BOTH)) == ([], [])


def test_a_server_that_is_away_in_every_look_is_taken_out_of_use() -> None:
    assert plan(away(), away(), away())[0] == [
        "modify resource where name=gpu0 server=s2 set lastconsumed=200",
        "modify resource where name=gpu1 server=s2 set lastconsumed=200",
    ]


def test_one_look_that_finds_it_is_enough() -> None:
    assert plan(away(), away(), judge(*BOTH)) == ([], [])
    assert plan(away(), judge(*BOTH), of=licences(s2_0=200))[0] == [
        "modify resource where name=gpu0 server=s2 set lastconsumed=0"
    ]


def test_it_is_done_once() -> None:
    assert plan(away(), of=licences(s2_0=200, s2_1=175)) == ([], [])


def test_what_this_hosts_client_does_not_list_is_left_as_it_is() -> None:
    assert plan(judge(server(1, 0, 0)), of=licences(s2_0=200)) == ([], [])


def test_a_gpu_that_is_gone_is_taken_out_of_use() -> None:
    assert plan(judge(server(1, 0), server(2, 0, 0)))[0] == [
        "modify resource where name=gpu1 server=s1 set lastconsumed=200"
    ]


def test_allocations_past_slurm_are_kept_from_jobs_beside_what_jobs_hold() -> None:
    of = licences()
    of["gpu0@s1"] = replace(of["gpu0@s1"], used=25)
    found = [judge(server(1, mib, 0), server(2, 0, 0), jobs=(job(1, s1_0=25),)) for mib in (6500, 5500)]
    assert plan(*found, of=of)[0] == ["modify resource where name=gpu0 server=s1 set lastconsumed=55"]


def test_licences_are_added_and_counts_set() -> None:
    of = licences()
    del of["gpu0@s1"]
    of["gpu1@s1"] = replace(of["gpu1@s1"], total=50)
    assert plan(judge(*BOTH, of=of), of=of)[0] == [
        "add resource name=gpu0 server=s1 type=license count=100 allowed=100 cluster=lab",
        "modify resource where name=gpu1 server=s1 set count=100",
    ]


def test_licences_of_slurm_conf_can_only_be_named() -> None:
    todo, left = plan(away(), of=licences(remote=False))
    assert todo == []
    assert len(left) == 2
    assert "write Licenses=gpu0@s2:0 there" in left[0]


def test_a_flat_pool() -> None:
    of = {"bitfusion@pool": Licence("bitfusion@pool", 400, 30, 370, remote=True)}
    lost = judge(server(1, 0, 0), pool=REMOTE_FLAT, refused=REFUSED, of=of)
    assert plan(lost, of=of, pool=REMOTE_FLAT)[0] == [
        "modify resource where name=bitfusion server=pool set lastconsumed=230",
    ]
    all_lost = judge(pool=REMOTE_FLAT, refused={**REFUSED, "10.0.0.1:56001": "timed out"}, of=of)
    assert plan(all_lost, of=of, pool=REMOTE_FLAT)[0] == [
        "modify resource where name=bitfusion server=pool set lastconsumed=800",
    ]
    assert plan(judge(*BOTH, pool=REMOTE_FLAT, of=of), of=of, pool=REMOTE_FLAT) == ([], [])
    assert plan(judge(*BOTH, pool=REMOTE_FLAT, of={}), of={}, pool=REMOTE_FLAT)[0] == [
        "add resource name=bitfusion server=pool type=license count=400 allowed=100 cluster=lab"
    ]


def test_a_flat_pool_of_slurm_conf() -> None:
    of = licences(flat=400, remote=False)
    todo, left = plan(judge(server(1, 0, 0), pool=FLAT, refused=REFUSED, of=of), of=of, pool=FLAT)
    assert todo == []
    assert "licence bitfusion: Slurm counts 400, 200 are there (s2 does not answer)" in left[0]
    assert "Licenses=bitfusion:200" in left[0]
    more = judge(server(1, 5000, 0), server(2, 0, 0), pool=FLAT, of=of)
    assert plan(more, of=of, pool=FLAT) == ([], [])


def test_a_licence_that_nobody_made() -> None:
    todo, left = plan(judge(*BOTH, pool=FLAT, of={}), of={}, pool=FLAT)
    assert todo == []
    assert "Slurm has none, 400 are there" in left[0]


@given(
    st.lists(st.booleans(), min_size=1, max_size=4),
    st.tuples(*[st.integers(0, 100)] * 4),
    st.tuples(*[st.integers(0, 250)] * 4),
    st.tuples(*[st.integers(0, 100)] * 4),
)
def test_one_round_is_enough_and_gives_nothing_that_is_not_there(
    answers: list[bool], used: tuple, withheld: tuple, in_pool: tuple
) -> None:
    """Whatever Slurm had: afterwards nothing is left to do, and no more is free than the pool has."""
    found = {
        name: Licence(name, SLICES, used[index], 0, remote=True, withheld=withheld[index])
        for index, name in enumerate(GPU_LICENCES)
    }
    holds = (job(1, s1_0=used[0], s1_1=used[1], s2_0=used[2], s2_1=used[3]),)
    mib = [slices * 100 for slices in in_pool]
    states = [
        judge(server(1, *mib[:2]), *([server(2, *mib[2:])] if answer else []), jobs=holds, refused=REFUSED, of=found)
        for answer in answers
    ]
    wants = wanted(BY_GPU, SLICES, states, found)
    todo, left = acts(wants, found, "lab")
    assert left == []
    after = slurmctld(found, todo)
    assert acts(wants, after, "lab") == ([], [])
    for index, name in enumerate(GPU_LICENCES):
        one = after[name]
        free = max(0, one.total - one.used - one.withheld)
        gone = name.endswith("@s2") and not any(answers)
        assert free <= (0 if gone else 100 - max(used[index], in_pool[index]) + 1)
