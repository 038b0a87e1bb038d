"""`sacct` as a table and as JSON tell the same rows, of real jobs of every kind and with both versions of Slurm."""

import json

import pytest

from slurm_gpushare.lab.params import SLURM_VERSIONS
from tests.lab.cluster import Cluster, until

BOTH = """
import json, sys
from dataclasses import asdict
from slurm_gpushare.slurm import sacct, sacct_json
start, end, *jobs = map(int, sys.argv[1:])
print(json.dumps([[asdict(row) for row in form.fetch_jobs(start, end, jobs)] for form in (sacct, sacct_json)]))
"""
SHARE = "--gres=gpu:0.25"


@pytest.fixture(params=["cluster", "new_cluster"], ids=SLURM_VERSIONS)
def lab(request: pytest.FixtureRequest) -> Cluster:
    """A lab of each version."""
    return request.getfixturevalue(request.param)


def both(lab: Cluster, *arguments: int) -> tuple[dict, dict]:
    """Return the rows of both forms by run, without what a moment changes."""
    said = lab.out("/opt/gpushare/bin/python3", "-c", BOTH, *map(str, arguments))
    table, parsed = json.loads(said)
    for row in table + parsed:
        if row["end"] is None:
            row["elapsed_seconds"] = None
    return tuple({(row["job_id"], row["submit"], row["restart"]): row for row in rows} for rows in (table, parsed))


def test_rows_of_both_forms_are_equal(lab: Cluster) -> None:
    def submit(*options: str, lines: str = "exit 0") -> int:
        return lab.sbatch("alice", "-o/dev/null", *options, script=lab.script("", lines))

    array = submit(SHARE, "--array=3-4")
    waiting_array = submit(SHARE, "--array=1-30%4", "--hold")
    held = submit(SHARE, "--hold")
    running = submit(SHARE, lines="sleep 600")
    requeued = submit(SHARE, "--requeue", lines="sleep 600")
    cancelled = submit(SHARE, lines="sleep 600")
    failed = submit(SHARE, lines="exit 3")
    killed = submit(SHARE, "--extra=a\tb|\u00e9\"'\\{\n", lines="kill -9 $$")
    licensed = submit("-pbitfusion", SHARE)
    two_nodes = submit("-N2", SHARE)
    without = submit("--comment=none of ours")
    waited_in_vain = lab.sbatch("alice", "-o/dev/null", SHARE, "--hold", script=lab.script("", "exit 0"))
    parts = ["-o/dev/null", SHARE, ":", SHARE, "-o/dev/null"]
    het = int(lab.out("sbatch", "--parsable", *parts, user="alice", stdin=lab.script("", "sleep 2")).split(";")[0])
    lab.run("scancel", str(waited_in_vain), user="alice")
    try:
        for job in (running, requeued, cancelled):
            lab.wait_running(job)
        lab.run("scontrol", "requeue", str(requeued))
        lab.run("scancel", str(cancelled), user="alice")
        reason = f"jobid={failed}", "set", "systemcomment=gpushare: ended, for a test"
        assert lab.wait(failed) == "FAILED"
        until(
            "its comment",
            lambda: not lab.run("sacctmgr", "-i", "modify", "job", "where", *reason, check=False).returncode,
        )
        for job in (cancelled, killed, licensed, two_nodes, without, het):
            lab.wait(job)
        until("the end of the array", lambda: all(r["State"] == "COMPLETED" for r in lab.sacct(array, "State")))
        until("the second run", lambda: len(lab.sacct(requeued, "State")) == 2)
        jobs = (array, waiting_array, held, running, requeued, cancelled, failed, killed, licensed, two_nodes, without)
        table, parsed = both(lab, 0, 0, *jobs, waited_in_vain, het)
        for key in table:
            assert parsed[key] == table[key]
        assert set(parsed) == set(table)
        rows = list(table.values())
        assert {(row["array_task_id"], row["state"]) for row in rows if row["array_job_id"] == array} == {
            (3, "COMPLETED"),
            (4, "COMPLETED"),
        }
        assert [row["het_offset"] for row in rows if row["het_job_id"] == het] == [0, 1]
        first, second = sorted((row for row in rows if row["job_id"] == requeued), key=lambda row: row["restart"])
        assert (first["state"], first["restart"], second["restart"]) == ("REQUEUED", 0, 1)
        of = {row["job_id"]: row for row in rows}
        assert of[cancelled]["state"] == "CANCELLED" and of[running]["end"] is None and of[held]["start"] is None
        assert (of[failed]["exit_code"], of[failed]["reason"]) == ("3:0", "ended, for a test")
        assert of[killed]["exit_code"] == "0:9" and of[two_nodes]["nodes"] == 2
        assert "license/bitfusion=25" in of[licensed]["alloc_tres"]
        assert {row["uid"] for row in rows} == {1001}
        # By time, as the service asks.
        start, end = min(row["submit"] for row in rows), max(row["submit"] for row in rows) + 60
        table, parsed = both(lab, start, end)
        assert parsed == table and set(of) & {key[0] for key in table}
    finally:
        lab.run("scancel", *map(str, (waiting_array, held, running, requeued)), check=False)
