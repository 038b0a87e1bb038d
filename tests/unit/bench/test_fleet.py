from bench.fleet import AGENTS, JOBS
from bench.inside.fleet import record
from slurm_gpushare.accounting.incoming import check
from slurm_gpushare.usage import MOST_GAPS, MOST_POINTS, usage_to_json


def test_the_records_of_the_fleet_are_valid_distinct_and_as_large_as_they_become():
    records = [record(agent, job) for agent in range(AGENTS) for job in range(JOBS)]
    assert len({one.key for one in map(check, records)}) == AGENTS * JOBS
    assert len({one.gpu_seconds_used for one in records}) == AGENTS * JOBS
    assert all(len(one.gaps) == MOST_GAPS and len(one.series["sm"]) == MOST_POINTS for one in records)
    assert min(len(usage_to_json(one)) for one in records) > 5000
