"""The main job: a fraction asked for, placed, run in a container with its data, measured, and reported."""

import json

import pytest

from tests.lab.cluster import Cluster

IMAGE = "--container-image=/data/images/digits.sif"
TRAIN = "exec gpu-workload --gpu 0 --sm 20 --memory 3G -- python3 /opt/digits/digits.py --epochs 1000"


@pytest.fixture(scope="module")
def quarters(cluster: Cluster) -> list[int]:
    """Five quarters of the pool's one GPU, submitted at once by two users, all ended."""
    jobs = [
        cluster.sbatch(
            user,
            "-pbitfusion",
            "--gres=gpu:0.25",
            IMAGE,
            "--dataset=digits",
            f"-o/home/{user}/quarter-%j.out",
            script=cluster.script(user, TRAIN),
        )
        for user in ("alice", "bob", "alice", "bob", "alice")
    ]
    for job in jobs:
        assert cluster.wait(job, 120) == "COMPLETED", cluster.read(f"/home/alice/quarter-{job}.out")
    return jobs


def test_four_quarters_share_the_gpu_and_the_fifth_waits(cluster: Cluster, quarters: list[int]) -> None:
    rows = [cluster.sacct(job, "Start", "End")[0] for job in quarters]
    spans = sorted((int(row["Start"]), int(row["End"])) for row in rows)
    first_four, fifth = spans[:4], spans[4]
    assert max(start for start, _ in first_four) < min(end for _, end in first_four), spans
    assert fifth[0] >= min(end for _, end in first_four), spans


def test_each_job_trained_on_the_data(cluster: Cluster, quarters: list[int]) -> None:
    for job, user in zip(quarters, ("alice", "bob", "alice", "bob", "alice"), strict=True):
        assert "1797 images, 1000 epochs" in cluster.read(f"/home/{user}/quarter-{job}.out")


def test_slurm_accounts_the_share(cluster: Cluster, quarters: list[int]) -> None:
    for job in quarters:
        tres = cluster.sacct(job, "AllocTRES")[0]["AllocTRES"].split(",")
        assert "license/bitfusion=25" in tres
        assert "gres/bitfusion=25" in tres
        assert '"request":"gpu:0.25"' in cluster.sacct(job, "Extra")[0]["Extra"]


def test_the_report_agrees_with_sacct(cluster: Cluster, quarters: list[int]) -> None:
    lines = {line["job_id"]: line for line in cluster.report()}
    for job in quarters:
        line, elapsed = lines[job], int(cluster.sacct(job, "ElapsedRaw")[0]["ElapsedRaw"])
        assert (line["backend"], line["gpus"], line["fraction"], line["request"]) == ("bitfusion", 1, 0.25, "gpu:0.25")
        assert abs(line["gpu_seconds_reserved"] - 0.25 * elapsed) <= 2 * 0.25 + 1
        assert line["quality"] == "measured"
        # Each job keeps 20 % of the multiprocessors busy while it trains, on a GPU that four of them do not fill.
        assert 0 < line["gpu_seconds_used"] <= 0.2 * (elapsed + 1)
        assert line["memory_peak_bytes"] == 3 * 1024**3


def test_sums_are_those_of_the_runs(cluster: Cluster, quarters: list[int]) -> None:
    def sums(*options: str, user: str = "root") -> list[dict]:
        argv = ["gpushare", "report", "usage", "--format", "json", "-r", "bitfusion", "-s", "CD", *options]
        return json.loads(cluster.out(*argv, user=user))

    runs = cluster.report("-r", "bitfusion", "-s", "CD", "-S", "00:00")
    for name in ("user", "account"):
        for line in sums("--by", f"{name},day"):
            mine = [run for run in runs if run[name] == line[name] and run["start"].startswith(line["day"])]
            assert line["runs"] == len(mine) > 0
            for amount in ("gpu_seconds_reserved", "gpu_seconds_used"):
                known = [run[amount] for run in mine if run[amount] is not None]
                assert known and line[amount] == pytest.approx(sum(known), abs=0.01)
    assert {line["user"] for line in sums("--by", "user", user="bob")} == {"bob"}


def test_a_user_sees_own_jobs_alone(cluster: Cluster, quarters: list[int]) -> None:
    seen = {line["user"] for line in cluster.report(user="bob")}
    assert seen == {"bob"}


def test_whole_gpu_and_half_on_the_nodes_own(cluster: Cluster) -> None:
    load = "exec gpu-workload --gpu 0 --sm {} --memory {} --seconds 6"
    whole = cluster.sbatch("alice", "--gres=gpu:1", "-o/dev/null", script=cluster.script("", load.format(80, "8G")))
    half = cluster.sbatch(
        "bob", "--gres=gpu:0.5", IMAGE, "-o/dev/null", script=cluster.script("", load.format(30, "2G"))
    )
    assert cluster.wait(whole) == "COMPLETED"
    assert cluster.wait(half) == "COMPLETED"
    assert "gres/gpu=1" in cluster.sacct(whole, "AllocTRES")[0]["AllocTRES"].split(",")
    assert "gres/shard=50" in cluster.sacct(half, "AllocTRES")[0]["AllocTRES"].split(",")
    lines = {line["job_id"]: line for line in cluster.report()}
    assert (lines[whole]["backend"], lines[whole]["fraction"]) == ("gpu", 1)
    assert lines[whole]["memory_peak_bytes"] == 8 * 1024**3
    assert 3 <= lines[whole]["gpu_seconds_used"] <= 6.5
    assert (lines[half]["backend"], lines[half]["fraction"]) == ("shard", 0.5)
    assert lines[half]["memory_peak_bytes"] == 2 * 1024**3
    assert 1 <= lines[half]["gpu_seconds_used"] <= 2.4


def test_the_container_has_the_data_read_only_and_not_the_hosts_root(cluster: Cluster) -> None:
    look = cluster.run(
        "srun",
        "-pbitfusion",
        "--gres=gpu:0.25",
        IMAGE,
        "--dataset=digits",
        "sh",
        "-c",
        "ls /datasets/digits; (touch /datasets/digits/x; ls -d /etc/slurm /data /opt/gpushare /opt/digits) 2>&1; true",
        user="alice",
    )
    assert "digits.csv" in look.stdout
    assert "Read-only file system" in look.stdout
    for gone in ("/etc/slurm", "/data", "/opt/gpushare"):
        assert f"cannot access '{gone}'" in look.stdout
    assert "\n/opt/digits\n" in look.stdout


def test_whole_gpus_of_the_pool(cluster: Cluster) -> None:
    seen = cluster.run("srun", "-pbitfusion", "--gres=gpu:1", "bitfusion", "list_gpus", user="alice")
    assert "free memory (0 / 16280MiB)" in seen.stdout


def test_a_cpu_job_is_untouched(cluster: Cluster) -> None:
    job = cluster.sbatch("alice", "-o/home/alice/cpu.out", script=cluster.script("", "env; ls /run/gpushare/*/jobs"))
    assert cluster.wait(job) == "COMPLETED"
    row = cluster.sacct(job, "AllocTRES", "Extra")[0]
    assert "gres" not in row["AllocTRES"] and row["Extra"] == ""
    assert str(job) not in [line.strip() for line in cluster.read("/home/alice/cpu.out").splitlines()]
    assert job not in {line["job_id"] for line in cluster.report()}
