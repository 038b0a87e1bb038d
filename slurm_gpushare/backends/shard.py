"""A share of a GPU of the node, as gres/shard counts it.

Slurm packs the shards and shows the job its GPU alone; neither it nor the driver holds the job to its share of it. Only
the memory watcher, where the policy has it end jobs, does something about it, after the fact.
"""

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
MODES = {
    "placement alone (`over_memory: off` or `warn`)": ENFORCES,
    "the memory watcher ends jobs (`over_memory: kill`), while it runs": WATCHED,
}
REMOTE = False
SAMPLED = False
SEES = "card"


def begin(record, settings, environment: dict[str, str]) -> dict:
    """Return what holds the job to its share: nothing, or the memory watcher."""
    return {"enforces": WATCHED} if settings.over_memory == "kill" else {}
