"""Limits on what may be in use at one time, as the sacctmgr commands that make Slurm keep them. Pure.

Slurm counts whole GPUs (gres/gpu), shares of the nodes' GPUs (gres/shard) and shares of a pool (the pool's gres) apart;
a part of a GPU that MIG or vGPU made is one of gres/gpu. AccountingStorageTRES must name each of them, and
AccountingStorageEnforce must have `limits`.
"""

from collections.abc import Iterator
from decimal import Decimal

from slurm_gpushare.policy.schema import Policy

# Where sacctmgr(1) keeps each: an account's limit for every user of it stands in the users' own associations.
PER_USER = {
    "qos": ("qos", "name", "MaxTRESPerUser"),
    "accounts": ("user", "account", "GrpTRES"),
    "users": ("user", "name", "GrpTRES"),
}
TOGETHER = {
    "qos": ("qos", "name", "GrpTRES"),
    "accounts": ("account", "name", "GrpTRES"),
}


def tres(gpus: float, policy: Policy) -> str:
    """Return ``gpus`` GPUs as Slurm's TRES list; whole GPUs are rounded down, for no part of one is given whole."""
    slices = int(Decimal(str(gpus)) * policy.slices_per_gpu)
    counts = {"gpu": int(gpus)}
    if policy.backends.shared:
        counts["shard"] = slices
    counts |= {pool.gres: slices for pool in policy.backends.pools.values()}
    return ",".join(f"gres/{name}={count}" for name, count in counts.items())


def sacctmgr_commands(policy: Policy) -> Iterator[list[str]]:
    """Yield the commands that set the policy's running limits, each an argv array, in the order of the file."""
    for limit in policy.running_limits:
        for table, gpus in ((TOGETHER, limit.together), (PER_USER, limit.per_user)):
            if gpus is None:
                continue
            for criterion, (what, where, column) in table.items():
                for name in getattr(limit, criterion) or ():
                    yield [
                        *["sacctmgr", "-i", "modify", what, "where", f"{where}={name}"],
                        *["set", f"{column}={tres(gpus, policy)}"],
                    ]
