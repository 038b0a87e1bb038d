"""What `gpushare policy slurm-limits` prints is what Slurm takes and keeps."""

from tests.lab.cluster import Cluster, until

POLICY = """
backends:
  shard: {}
  bitfusion:
    servers: [{address: "10.77.0.10:56001", gpus: 1, gpu_memory: 16 GiB}]
running_limits:
  - qos: [normal]
    per_user: 3
  - accounts: [biology]
    per_user: 0.3
    together: 0.5
"""


def test_slurm_keeps_what_is_printed(cluster: Cluster) -> None:
    cluster.run("sh", "-c", "cat > /tmp/limits.yaml", stdin=POLICY)
    commands = cluster.out("gpushare", "policy", "slurm-limits", "/tmp/limits.yaml").splitlines()
    jobs = []
    try:
        for command in commands:
            cluster.run("sh", "-c", command)
        for _ in range(2):
            script = cluster.script("bob", "sleep 300")
            jobs.append(cluster.sbatch("bob", "--gres=gpu:0.25", "-o/dev/null", script=script))
        cluster.wait_running(jobs[0])
        until("the limit as the reason", lambda: cluster.job(jobs[1])["Reason"] == "AssocGrpGRES")
    finally:
        cluster.run("scancel", *map(str, jobs))
        for command in commands:
            words = command.split()
            column, _, tres = words[-1].partition("=")
            words[-1] = column + "=" + ",".join(item.partition("=")[0] + "=-1" for item in tres.split(","))
            cluster.run(*words)
    for job in jobs:
        cluster.wait(job)
