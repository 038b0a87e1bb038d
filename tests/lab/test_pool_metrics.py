"""A pool job measured twice, in its allocation and on the server: two records, of which a report counts one source."""

import json
from collections.abc import Iterator

import pytest

from tests.lab.cluster import Cluster, until

# What the service keeps, read as it is: a report has one source alone.
RECORDS = """
import json, sqlite3, sys
store = sqlite3.connect("/var/lib/gpushare/usage.sqlite")
store.row_factory = sqlite3.Row
print(json.dumps([dict(row) for row in store.execute("select * from gpushare_usage where job_id = ?", sys.argv[1:])]))
"""
POOL = ("-pbitfusion", "-o/dev/null", "-t5")
SECONDS = 20


@pytest.fixture
def pool(pinned_cluster: Cluster) -> Iterator[Cluster]:
    """A pool that nobody uses."""
    until("an empty pool", lambda: not any(pinned_cluster.pool(server)["allocations"] for server in (1, 2, 3)))
    yield pinned_cluster
    pinned_cluster.run("scancel", "--user=alice")
    until("an empty queue", lambda: not pinned_cluster.out("squeue", "-h"), 60)


def _load(pool: Cluster, sm: int) -> str:
    return pool.script("alice", f"exec gpu-workload --gpu 0 --sm {sm} --memory 2G --seconds {SECONDS}")


def _rows(pool: Cluster, job: int) -> list[dict]:
    return json.loads(pool.out("/opt/gpushare/bin/python3", "-c", RECORDS, str(job)))


def _records(pool: Cluster, job: int) -> dict[str, dict]:
    """Wait for the job's record of each source and return them."""

    def both() -> dict[str, dict] | None:
        rows = _rows(pool, job)
        found = {row["source"]: row for row in rows}
        assert len(found) == len(rows)
        return found if set(found) == {"allocation", "server"} else None

    return until(f"both records of job {job}", both, 60)


def _report(pool: Cluster, job: int) -> dict:
    (report,) = pool.report("--job", str(job))
    return report


def test_a_whole_gpu_is_measured_alike_from_both_sides_and_counted_once(pool: Cluster) -> None:
    job = pool.sbatch("alice", *POOL, "--gres=gpu:1", script=_load(pool, 40))
    assert pool.wait(job, 90) == "COMPLETED"
    records = _records(pool, job)
    inside, server = records["allocation"], records["server"]
    licence = pool.job(job)["Licenses"].partition(":")[0]
    assert f"gpu{server['gpu_index']}@{server['node']}" == licence
    assert (inside["gpu"], inside["gpu_name"], inside["fraction"]) == (server["gpu"], server["gpu_name"], 1.0)
    for record in records.values():
        assert record["quality"] == "measured"
        # The workload's own seconds: what comes before and after them uses nothing.
        assert record["gpu_seconds_used"] == pytest.approx(0.4 * SECONDS, rel=0.25)
    assert inside["gpu_seconds_used"] == pytest.approx(server["gpu_seconds_used"], rel=0.2)
    assert inside["memory_peak_bytes"] == server["memory_peak_bytes"] == 2 << 30
    assert server["energy_joules"] == pytest.approx(inside["energy_joules"], rel=0.3)
    report = _report(pool, job)
    for name in ("gpu_seconds_used", "gpu_seconds_reserved", "energy_joules"):
        assert report[name] == pytest.approx(server[name], abs=0.01)


def test_of_quarters_on_one_gpu_the_server_knows_nothing_and_the_allocation_is_believed(pool: Cluster) -> None:
    # One more than there are GPUs: two of them are given the same one.
    given: dict[str, list[int]] = {}
    for _ in range(7):
        job = pool.sbatch("alice", *POOL, "--hold", "--gres=gpu:0.25", script=_load(pool, 30))
        given.setdefault(pool.job(job)["Licenses"], []).append(job)
    jobs = next(together for together in given.values() if len(together) > 1)[:2]
    others = [job for together in given.values() for job in together if job not in jobs]
    pool.run("scancel", *map(str, others))
    for each in jobs:
        pool.run("scontrol", "release", str(each))
    assert [pool.wait(each, 90) for each in jobs] == ["COMPLETED"] * 2
    for each in jobs:
        records = _records(pool, each)
        inside, server = records["allocation"], records["server"]
        assert server["gpu_seconds_reserved"] == pytest.approx(0.25 * SECONDS, rel=0.25)
        # Only what one of them had for itself, before the other came or after it went, is known.
        assert server["seconds_sampled"] < 0.4 * inside["seconds_sampled"]
        assert server["gpu_seconds_used"] is None or server["gpu_seconds_used"] < 0.4 * inside["gpu_seconds_used"]
        assert inside["gpu_seconds_used"] == pytest.approx(0.3 * SECONDS, rel=0.25)
        assert _report(pool, each)["gpu_seconds_used"] == pytest.approx(inside["gpu_seconds_used"], abs=0.01)
    assert [_rows(pool, other) for other in others] == [[]] * 5  # they never ran
