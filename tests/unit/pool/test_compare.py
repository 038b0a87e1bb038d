"""What differs between the pool, Slurm and the policy."""

from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.slurm.licences import Licence
from tests.unit.pool.pools import FLAT, GPU_LICENCES, MIB, REMOTE_FLAT, SLICES, job, judge, kinds, licences, server

REFUSED = {"10.0.0.2:56001": "Connection refused"}


def test_they_agree() -> None:
    state = judge(server(1, 2500, 10000), server(2, 0, 5000), jobs=(job(1, s1_0=25), job(2, s1_1=100), job(3, s2_1=50)))
    assert state.differences == []
    assert (state.total, state.pool_used, state.slurm_used) == (4, 1.75, 1.75)
    assert [(gpu.server, gpu.gpu, gpu.pool_used, gpu.slurm_used, gpu.jobs) for gpu in state.gpus] == [
        ("s1", 0, 0.25, 0.25, (1,)),
        ("s1", 1, 1.0, 1.0, (2,)),
        ("s2", 0, 0.0, 0.0, ()),
        ("s2", 1, 0.5, 0.5, (3,)),
    ]


def test_sizes_that_the_pool_rounds_down_are_no_difference() -> None:
    jobs = tuple(job(number, s1_0=1) for number in range(40))
    assert judge(server(1, 40 * 99, 0, tasks=40), server(2, 0, 0), jobs=jobs).differences == []


def test_more_in_the_pool_than_slurm_has_jobs_for() -> None:
    state = judge(server(1, 7500, 0), server(2, 0, 0), jobs=(job(1, s1_0=25),))
    (difference,) = state.differences
    assert (difference.kind, difference.where, difference.fault) == ("pool_has_more", "s1", True)
    assert "GPU 0 of s1: the pool has 0.75 GPU in use, Slurm's jobs hold 0.25 GPU" in difference.text
    assert "keeps that much from jobs" in difference.text
    assert state.excess == {"gpu0@s1": 50}


def test_more_in_the_pool_that_is_kept_from_jobs_already() -> None:
    state = judge(server(1, 5000, 0), server(2, 0, 0), of=licences(s1_0=50))
    assert kinds(state) == ["pool_has_more"]
    assert "Slurm gives that much to nobody" in state.differences[0].text


def test_less_in_the_pool_passes_by_itself() -> None:
    state = judge(server(1, 0, 0), server(2, 0, 0), jobs=(job(9, s2_1=25),))
    (difference,) = state.differences
    assert (difference.kind, difference.fault) == ("pool_has_less", False)
    assert "job 9 has not asked for its GPUs yet, or lost them" in difference.text


def test_jobs_that_came_or_went_while_the_pool_was_asked_are_no_difference() -> None:
    came = {"jobs": (job(1, s1_0=25),), "before": ()}
    went = {"jobs": (), "before": (job(1, s1_0=25),)}
    for mib in (0, 2500):
        for change in (came, went):
            assert judge(server(1, mib, 0), server(2, 0, 0), **change).differences == []


def test_a_server_is_away() -> None:
    waits = job(4, "PENDING", choices=({"gpu0@s2": 25},))
    may_go_elsewhere = job(5, "PENDING", choices=({"gpu0@s2": 25}, {"gpu0@s1": 25}))
    state = judge(server(1, 0, 0), jobs=(job(3, s2_0=25), waits, may_go_elsewhere), refused=REFUSED)
    assert kinds(state) == ["server_away", "job_on_absent", "job_tied"]
    assert "s2 (10.0.0.2:56001) does not answer (Connection refused)" in state.differences[0].text
    assert "until `gpushare pool sync` takes them out of use" in state.differences[0].text
    assert "job 3 of alice" in state.differences[1].text
    assert "`scancel 4`" in state.differences[2].text
    assert state.absent == {"s2": "Connection refused"}
    assert [gpu.pool_used for gpu in state.gpus] == [0.0, 0.0, None, None]


def test_a_server_that_hangs_is_away_by_the_clients_word() -> None:
    state = judge(
        server(1, 0, 0), silent={"10.0.0.2:56001": "context deadline exceeded"}, of=licences(s2_0=200, s2_1=175)
    )
    assert kinds(state) == ["server_away"]
    assert "nobody until it is back" in state.differences[0].text


def test_a_server_that_the_client_here_does_not_know_is_not_away() -> None:
    state = judge(server(1, 0, 0))
    assert kinds(state) == ["server_unlisted"]
    assert state.absent == {}


def test_a_server_is_back_but_kept_from_jobs() -> None:
    assert kinds(judge(server(1, 0, 0), server(2, 0, 0), of=licences(s2_0=200))) == ["withheld"]


def test_a_server_that_the_policy_does_not_know() -> None:
    state = judge(server(1, 0, 0), server(2, 0, 0), server(3, 5000))
    assert kinds(state) == ["server_unknown"]
    assert "10.0.0.3:56001 with 1 GPUs" in state.differences[0].text
    assert state.pool_used == 0.5


def test_gpus_and_memory_that_are_not_the_policys() -> None:
    state = judge(server(1, 0), server(2, 0, 0, 0, total=20000))
    assert kinds(state) == ["gpu_missing", "memory", "memory", "gpu_unknown"]
    assert list(state.lost) == ["gpu1@s1"]
    assert "has 20000 MiB, the policy says 10000 MiB" in state.differences[1].text


def test_licences_that_are_not_the_policys() -> None:
    of = licences()
    del of["gpu0@s1"]
    of["gpu1@s2"] = Licence("gpu1@s2", 50, 0, 50, remote=True)
    state = judge(server(1, 0, 0), server(2, 0, 0), of=of)
    assert kinds(state) == ["licence_missing", "licence_count"]
    assert "adds it, with a count of 100" in state.differences[0].text
    assert "Slurm counts 50 licences gpu1@s2, the policy 100: `gpushare pool sync` sets it" in state.differences[1].text


def test_flat_pools_are_compared_by_their_sums() -> None:
    agree = judge(
        server(1, 2500, 0), server(2, 0, 2500), pool=FLAT, jobs=(job(1, bitfusion=50),), of=licences(flat=400)
    )
    assert (agree.differences, agree.slurm_used, agree.gpus[0].slurm_used) == ([], 0.5, None)
    more = judge(server(1, 2500, 0), server(2, 0, 2500), pool=FLAT, jobs=(job(1, bitfusion=25),), of=licences(flat=400))
    assert (kinds(more), more.excess) == (["pool_has_more"], {"bitfusion": 25})
    less = judge(server(1, 2500, 0), server(2, 0, 0), pool=FLAT, jobs=(job(1, bitfusion=50),), of=licences(flat=400))
    assert kinds(less) == ["pool_has_less"]


def test_a_flat_pool_with_a_server_away_or_another_count() -> None:
    state = judge(server(1, 0, 0), pool=FLAT, of=licences(flat=300, remote=False), refused=REFUSED)
    assert kinds(state) == ["server_away", "licence_count"]
    assert "write Licenses=bitfusion:400 in slurm.conf" in state.differences[1].text
    assert kinds(judge(server(1, 0, 0), server(2, 0, 0), pool=FLAT, of={})) == ["licence_missing"]
    kept = {"bitfusion@pool": Licence("bitfusion@pool", 400, 0, 200, remote=True, withheld=200)}
    state = judge(server(1, 0, 0), pool=REMOTE_FLAT, of=kept, refused=REFUSED)
    assert [difference.text.rpartition(": ")[2] for difference in state.differences] == [
        "Slurm gives as much to nobody until it is back"
    ]


def test_every_difference_is_one_line() -> None:
    state = judge(server(1, 0), server(3, 0), jobs=(job(3, s2_0=25),), of={}, refused=REFUSED)
    assert len(state.differences) >= 6
    assert all("\n" not in difference.text for difference in state.differences)


HELD = st.dictionaries(st.sampled_from(GPU_LICENCES), st.integers(1, 25), min_size=1, max_size=2)


@given(st.lists(HELD, max_size=4))
def test_what_jobs_hold_is_conserved(shares: list[dict[str, int]]) -> None:
    """A pool that has given every job exactly what it holds differs in nothing, and the sums are the jobs'."""
    jobs = tuple(
        job(number, **{f"{name[5:]}_{name[3]}": count for name, count in held.items()})
        for number, held in enumerate(shares)
    )
    used = {name: sum(held.get(name, 0) for held in shares) * MIB // SLICES for name in GPU_LICENCES}
    state = judge(server(1, used["gpu0@s1"], used["gpu1@s1"]), server(2, used["gpu0@s2"], used["gpu1@s2"]), jobs=jobs)
    assert state.differences == []
    total = sum(count for held in shares for count in held.values()) / SLICES
    assert round(state.pool_used, 6) == round(state.slurm_used, 6) == round(total, 6)
    assert round(sum(gpu.slurm_used for gpu in state.gpus), 6) == round(total, 6)
