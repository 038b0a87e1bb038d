"""`gpushare report job`, `efficiency` and `chargeback` over real jobs, on both Slurm versions."""

import csv
import io
import json

import pytest

from tests.lab.cluster import Cluster, until

SHARE = ("-pshard", "-N1", "--gres=gpu:0.25", "-o/dev/null")
BUSY, PAUSE = 10, 5  # seconds


@pytest.fixture(scope="module", params=["cluster", "new_cluster"])
def lab(request: pytest.FixtureRequest) -> Cluster:
    return request.getfixturevalue(request.param)


def report(lab: Cluster, name: str, *options: str, user: str = "root") -> object:
    return json.loads(lab.out("gpushare", "report", name, *options, "--format", "json", user=user))


def ended(lab: Cluster, *refs: str, runs: int) -> list[dict]:
    """Return the runs of jobs when all have ended and the agent's records are there."""

    def found() -> list[dict]:
        seen = report(lab, "job", ",".join(refs))
        whole = [one for one in seen if one["end"] is not None and one["measured"]]
        return whole if len(whole) == runs else []

    return until(f"records of {refs}", found, 60)


def test_the_course_of_a_job_is_what_it_did(lab: Cluster) -> None:
    work = f"gpu-workload --gpu 0 --sm 20 --memory 2G --seconds {BUSY}\nsleep {PAUSE}"
    job = lab.sbatch("alice", *SHARE, script=lab.script("alice", work))
    assert lab.wait(job) == "COMPLETED"
    (run,) = ended(lab, str(job), runs=1)
    (part,) = run["measured"]
    course = part["course"]
    points = [value for value in course["sm"] if value is not None]
    # A point is a second; at the ends of each part of the work it may have something of both.
    assert max(points) == pytest.approx(0.2, abs=0.03)
    assert sum(abs(value - 0.2) < 0.03 for value in points) >= BUSY - 4
    assert sum(value < 0.01 for value in points[BUSY:]) >= PAUSE - 3
    assert max(value or 0 for value in course["memory"]) == 2 << 30 == part["memory_peak_bytes"]
    assert sum(points) * course["every"] == pytest.approx(part["gpu_seconds_used"], abs=0.3)

    text = lab.out("env", "LC_ALL=C.UTF-8", "COLUMNS=90", "gpushare", "report", "job", str(job), user="alice")
    assert f"Job {job}: COMPLETED" in text and "use; ╌ the share, 25 %" in text and "█" in text
    assert max(map(len, text.splitlines()[:-1])) == 90 and text.splitlines()[-1].startswith("Slurm counted ")
    plain = lab.out("env", "LC_ALL=C", "gpushare", "report", "job", str(job), user="alice")
    assert plain.isascii() and "#" in plain
    said = lab.out("gpushare", "report", "job", str(job), user="bob")
    assert said == f"No run of job {job} had a share of a GPU, or it is not yours to see."


def test_tasks_of_an_array_and_parts_of_a_heterogeneous_job(lab: Cluster) -> None:
    script = lab.script("alice", "sleep 3")
    array = lab.sbatch("alice", *SHARE, "--array=3-4", script=script)
    both = lab.sbatch("alice", *SHARE, ":", *SHARE, script=script)
    assert {run["job"] for run in ended(lab, str(array), runs=2)} == {f"{array}_3", f"{array}_4"}
    assert {run["job"] for run in ended(lab, str(both), runs=2)} == {f"{both}+0", f"{both}+1"}
    for ref in (f"{array}_4", f"{both}+1"):
        (run,) = report(lab, "job", ref, user="alice")
        assert (run["job"], run["user"], run["request"]) == (ref, "alice", "gpu:0.25")
    # What a text says of a job is its own, whichever of its numbers it was asked by.
    (run,) = report(lab, "job", str(run["job_id"]), user="alice")
    assert run["job"] == f"{both}+1"


def test_who_held_a_gpu_without_a_process_and_what_it_costs(lab: Cluster) -> None:
    job = lab.sbatch("bob", *SHARE, script=lab.script("bob", "sleep 8"))
    assert lab.wait(job) == "COMPLETED"
    (run,) = ended(lab, str(job), runs=1)
    start = ("-S", "now-1hour")
    parts = report(lab, "efficiency", *start, "-n", "1000", user="bob")
    assert {line["name"] for line in parts["ranks"]} == {"bob"}
    everybody = report(lab, "efficiency", *start, "-n", "1000")
    (own,) = (line for line in everybody["ranks"] if line["name"] == "bob")
    assert parts["ranks"] == [own] and own["of"] >= own["rank"]
    (held,) = (one for one in parts["holders"] if one["job"] == str(job))
    assert held["gpu_seconds_without_process"] == pytest.approx(run["gpu_seconds_reserved"], abs=0.5)
    assert {one["user"] for one in [*parts["wasters"], *parts["holders"]]} == {"bob"}

    done = lab.run("gpushare", "report", "chargeback", *start, "--format", "csv", user="bob")
    lines = list(csv.DictReader(io.StringIO(done.stdout)))
    hours = sum(float(line["gpu_hours"]) for line in lines)
    assert {line["user"] for line in lines} == {"bob"} and {line["amount"] for line in lines} == {""}
    assert hours * 3600 >= run["gpu_seconds_reserved"] - 0.01
    assert "nothing has a price" in done.stderr
