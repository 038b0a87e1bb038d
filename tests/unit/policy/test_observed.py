"""What slurmctld's log says of jobs on which the policy is not carried out yet."""

from slurm_gpushare.policy.observed import summarise

OURS = "lua: gpushare: observed:"
REFUSED = "would refuse by rule course: gpu:1: no: write gpu:0.5"
LOG = f"""\
[2026-03-29T01:59:59.123] sched: Allocate JobId=7 NodeList=n1 #CPUs=1 Partition=gpu
[2026-03-29T01:59:59.124] {OURS} user=alice account=course partition=gpu {REFUSED}
[2026-03-29T03:00:00.000] {OURS} user=bob account=course partition=gpu,b {REFUSED}
2026-03-29T03:00:01.500000+02:00 {OURS} user=alice account=- partition=gpu would grant by partition gpu: gres=shard:25
[2026-03-29T03:00:02.000] {OURS} user=alice account=- partition=gpu would dance by r: x
[2026-03-29T03:00:02.000] error: gpushare: observed: user=
"""


def test_jobs_are_counted_by_what_would_become_of_them() -> None:
    refused, granted = summarise(LOG.splitlines(keepends=True))
    assert refused == {
        "jobs": 2,
        "what": "refuse",
        "rule": "rule course",
        "detail": "gpu:1: no: write gpu:0.5",
        "users": ["alice", "bob"],
        "accounts": ["course"],
        "partitions": ["gpu", "gpu,b"],
        "last": "2026-03-29T03:00:00.000",
    }
    assert (granted["jobs"], granted["what"], granted["detail"]) == (1, "grant", "gres=shard:25")
    assert granted["last"] == "2026-03-29T03:00:01.500000+02:00"


def test_a_log_without_any() -> None:
    assert summarise([]) == summarise(["[x] nothing\n", "\n"]) == []
