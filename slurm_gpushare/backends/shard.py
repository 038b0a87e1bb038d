"""A share of a GPU of the node, as gres/shard counts it.

Slurm packs the shards and shows the job its GPU alone; neither it nor the driver holds the job to its share of it.
"""

from slurm_gpushare.backends.gpu import agrees, binds, epilog, prepare, task_argv, task_environment

__all__ = ["ENFORCES", "REMOTE", "SAMPLED", "agrees", "binds", "epilog", "prepare", "task_argv", "task_environment"]

ENFORCES = {"memory": "advisory", "compute": "advisory", "faults": "none"}
REMOTE = False
SAMPLED = False
