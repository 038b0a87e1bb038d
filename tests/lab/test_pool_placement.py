"""What Slurm grants of the pool, the pool has: jobs come and go at random, and the pool's own servers are the judge."""

import re
from collections.abc import Sequence

import pytest

from bench import pool_load
from slurm_gpushare.lab import cluster as lab
from slurm_gpushare.lab import pool
from tests.lab.cluster import Cluster, until

# (GPUs, share of each): fractions that divide a GPU, whole GPUs and two of them; the more frequent twice.
DIVIDING = [(1, "1/4"), (1, "1/4"), (1, "1/2"), (1, "1"), (2, "1")]
ODD = [(1, "0.3"), (1, "0.75"), (1, "0.07"), (2, "1")]


def _nothing_is_refused(cluster: Cluster, seed: int, count: int, kinds: Sequence[tuple[int, str]]) -> None:
    params = lab.read_params(lab.lab_folder(cluster.name))
    load = pool_load.asks(seed, count, kinds, 0.04, (0.3, 1.0))
    # More is asked for than the pool has, for as long as jobs come.
    gpus = sum(server.gpus for server in pool.servers(params))
    assert sum(ask.gpus * ask.share * ask.seconds for ask in load) > 1.2 * gpus * load[-1].at
    verdict = pool_load.run(params, load)
    print(verdict)
    assert verdict.refused == 0
    assert verdict.misplaced == ()
    assert verdict.over == ()
    assert verdict.completed == verdict.granted == count
    assert verdict.peak > 0.75
    # Nothing stays in use, neither in Slurm nor in the pool.
    until("the licences' return", lambda: set(re.findall(r" Used=(\d+)", _licences(cluster))) == {"0"})
    assert [cluster.pool(server.number)["allocations"] for server in pool.servers(params)] == [[]] * 3


def _licences(cluster: Cluster) -> str:
    return cluster.out("scontrol", "-o", "show", "lic")


@pytest.mark.long
@pytest.mark.timeout(300)
def test_hundreds_of_jobs_that_slurm_places_by_first_fit(first_fit_cluster: Cluster) -> None:
    _nothing_is_refused(first_fit_cluster, 1, 300, DIVIDING)


@pytest.mark.timeout(300)
def test_shares_that_do_not_divide_a_gpu(first_fit_cluster: Cluster) -> None:
    _nothing_is_refused(first_fit_cluster, 2, 60, ODD)


@pytest.mark.timeout(300)
def test_jobs_that_are_pinned_at_submission(pinned_cluster: Cluster) -> None:
    _nothing_is_refused(pinned_cluster, 3, 80, DIVIDING)
