"""The year of a site that benchmarks of reports load: what it must be like for their figures to mean something."""

import functools
from collections import defaultdict
from itertools import pairwise

from bench.site_slurmdbd import COLUMNS, table_line
from bench.site_year import ACCOUNTS, ALICE, DAY, KINDS, USERS, batches, users
from slurm_gpushare.accounting.report import concerns_us, match, share_of

END = 1_795_392_000
JOBS, DAYS = 11_000, 2
WORST_ERROR = 1e-6


@functools.cache
def year() -> tuple[list, list]:
    """Return two days at the density of the whole year."""
    found = list(batches("site", END, JOBS, DAYS))
    return [row for rows, _ in found for row in rows], [record for _, records in found for record in records]


def test_the_same_seed_gives_the_same_year_and_another_one_another():
    assert list(batches("site", END, 300, 1)) == list(batches("site", END, 300, 1))
    assert list(batches("site", END, 300, 1)) != list(batches("site", END, 300, 1, seed=8))


def test_runs_lie_in_the_year_in_order_and_have_ended():
    rows, _ = year()
    assert all(END - DAYS * DAY <= row.submit < row.start < row.end < END for row in rows)
    assert all(before.start <= after.start for before, after in pairwise(rows))
    assert len({row.key for row in rows}) == len(rows)


def test_every_record_belongs_to_a_run_and_is_of_its_share():
    rows, records = year()
    of_run, left = match(rows, records)
    assert not left
    by_key = {row.key: row for row in rows}
    for key, parts in of_run.items():
        share = share_of(by_key[key], parts)
        assert {part.fraction for part in parts} == {share.fraction}
        assert {part.backend for part in parts} == {share.backend}
        assert len(parts) == round(share.gpus * by_key[key].nodes)
    assert all(concerns_us(row, False) for row in rows)
    assert 0.95 < len(of_run) / len(rows) < 0.995  # some have none


def test_no_gpu_is_given_out_more_than_once():
    _, records = year()
    changes = defaultdict(list)
    for record in records:
        # The agent sees a run up to a second after it has begun; ends come first.
        changes[record.gpu] += [(record.ended, 0, -record.fraction), (record.started, 1, record.fraction)]
    assert len(changes) > sum(kind.nodes * kind.gpus for kind in KINDS) / 2
    for of_gpu in changes.values():
        held = 0.0
        for _, _, change in sorted(of_gpu):
            held += change
            assert held <= 1 + WORST_ERROR


def test_sums_of_each_record_agree():
    _, records = year()
    for one in records:
        asked = one.fraction * one.seconds_sampled
        assert abs(asked - one.gpu_seconds_idle + one.gpu_seconds_over - one.gpu_seconds_used) < WORST_ERROR
        assert 0 <= one.gpu_seconds_used <= one.seconds_sampled <= one.ended - one.started
        assert 0 < one.memory_peak_bytes <= one.memory_share_bytes


def test_it_has_what_a_site_has():
    rows, records = year()
    assert abs(len(records) / len(rows) - 1.5) < 0.05
    assert {row.state for row in rows} >= {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "REQUEUED"}
    assert max(row.restart for row in rows) >= 1
    assert 0.2 < sum(row.array_task_id is not None for row in rows) / len(rows) < 0.6
    assert {record.backend for record in records} == {"shard", "gpu", "bitfusion"}
    assert len({row.nodes for row in rows}) > 1
    everybody = users()
    assert len({user.name for user in everybody}) == len({user.uid for user in everybody}) == USERS
    assert len({user.account for user in everybody}) > len(ACCOUNTS) / 2
    assert ALICE in {(user.name, user.uid, user.account) for user in everybody}


def test_a_line_of_slurmdbds_table():
    ids = {"billing": 5, "cpu": 1, "mem": 2, "node": 4, "gres/gpu": 1002, "gres/shard": 1005, "license/bitfusion": 1006}
    rows, _ = year()
    first = next(row for row in rows if row.partition == "shared" and row.array_task_id is None)
    line = table_line(first, {(first.user, first.account): 42}, ids)
    fields = dict(zip(COLUMNS, line.removesuffix("\n").split("\t"), strict=True))
    slices = first.alloc_tres.partition("gres/shard=")[2].partition(",")[0]
    cpus = 4 if first.alloc_tres.startswith("billing=4,") else 8
    assert fields["tres_alloc"] == f"5={cpus},1={cpus},1005={slices},2={cpus * 4096},4=1"
    assert (fields["id_assoc"], fields["id_job"], fields["id_array_task"]) == ("42", str(first.job_id), "4294967294")
    assert fields["extra"] == first.extra
    assert fields["time_end"] == str(first.end)
