"""Launch records for the tests of the agent."""

import os

from slurm_gpushare.grant import Grant
from slurm_gpushare.launch import LaunchRecord, record_to_json
from slurm_gpushare.paths import job_dir


def launch(
    job_id=1, fraction=0.25, gpus=(0,), backend="shard", started=1000.0, uid=0, gid=0, sluid=None, count=1, **more
):
    """Return a launch record; ``fraction`` None is a job with whole GPUs."""
    grant = None
    if fraction is not None:
        grant = Grant(backend, count, fraction, int(fraction * 100), None, 1, "test", f"gpu:{fraction}", "")
    values = {"user": "alice", "node": "n1", "cluster": "lab"} | more
    return LaunchRecord(job_id, uid, gid, started=started, grant=grant, gpus=tuple(gpus), sluid=sluid, **values)


def write(run_dir, record):
    """Leave ``record`` where prolog leaves it; return the job's folder."""
    folder = job_dir(record.node, record.job_id, str(run_dir))
    os.makedirs(os.path.join(folder, "work"), exist_ok=True)
    with open(os.path.join(folder, "launch.json"), "w", encoding="utf-8") as stream:
        stream.write(record_to_json(record))
    return folder
