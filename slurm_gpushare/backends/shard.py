"""A share of a GPU of the node, as gres/shard counts it.

Slurm packs the shards and shows the job its GPU alone; neither it nor the driver holds the job to its share of it. Only
the memory watcher, where the policy has it end jobs, does something about it, after the fact.
"""

from slurm_gpushare.backends import watched
from slurm_gpushare.backends.gpu import agrees, binds, epilog, finish, prepare, task_argv, task_environment

__all__ = [
    "ENFORCES",
    "MODES",
    "REMOTE",
    "SAMPLED",
    "SEES",
    "agrees",
    "begin",
    "binds",
    "epilog",
    "finish",
    "prepare",
    "task_argv",
    "task_environment",
]

ENFORCES = {"memory": "none", "compute": "none", "faults": "none"}
WATCHED = {**ENFORCES, "memory": "advisory"}
LIMITED = {**ENFORCES, "memory": "enforced"}
MODES = {
    "placement alone (`over_memory: off` or `warn`)": ENFORCES,
    "the memory watcher ends jobs (`over_memory: kill`), while it runs": WATCHED,
    watched.CONDITION: LIMITED,
}
REMOTE = False
SAMPLED = False
SEES = "card"


def begin(record, settings, environment: dict[str, str]) -> dict:
    """Return what holds the job to its share: nothing, the memory watcher, or the driver for it."""
    if settings.over_memory != "kill":
        return {}
    return {"enforces": LIMITED if watched.limits(record.node, settings) else WATCHED}
