"""Jobs on the nodes of the local backends."""

import json

from tests.lab.cluster import Cluster

HOME = "/home/alice"
# What the job found in its environment, one JSON line, then a load that lasts long enough to be measured.
LOOK = 'import json, os; print(json.dumps({k: v for k, v in os.environ.items() if "BASH" not in k}), flush=True)'
LOAD = "gpu-workload --gpu 0 --sm 20 --memory 1G --seconds 4"


def submit(lab: Cluster, partition: str, request: str, *options: str, lines: tuple[str, ...] = ()) -> int:
    """Submit a job of alice's that looks at its environment and then does ``lines``."""
    script = lab.script("alice", f"python3 {HOME}/look.py", *(lines or (f"exec {LOAD}",)))
    return lab.sbatch("alice", "-p", partition, f"--gres={request}", "-D", HOME, *options, script=script)


def output(lab: Cluster, job: int) -> str:
    return lab.read(f"{HOME}/slurm-{job}.out")


def uuids(lab: Cluster, node: str) -> list[str]:
    return [gpu["uuid"] for gpu in json.loads(lab.read(f"/etc/lab/gpu-{node}.json"))["gpus"]]
