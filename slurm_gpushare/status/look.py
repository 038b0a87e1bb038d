"""The doors of `gpushare status`: Slurm, which must answer; the service and the pool, without which less is known."""

import os
import time

from slurm_gpushare.drain.held import fetch_held
from slurm_gpushare.errors import GpushareError
from slurm_gpushare.node_policy import NodePolicy, read_node_policy
from slurm_gpushare.pool.compare import PoolState
from slurm_gpushare.slurm.licences import fetch_licences
from slurm_gpushare.slurm.nodes import fetch_nodes
from slurm_gpushare.status.compose import Look
from slurm_gpushare.status.jobs import fetch_jobs


def take_look(policy_file: str, node_policy: str, service: str | None) -> Look:
    """Ask all that can be asked here.

    Raises
    ------
    SlurmError
        Slurm cannot be asked.
    """
    warnings: list[str] = []
    nodes, jobs, held = fetch_nodes(), fetch_jobs(), fetch_held()
    try:
        policy = read_node_policy(node_policy)
    except GpushareError as error:
        policy = None
        warnings.append(f"what slices and pools there are is not known: {error}")
    licences = fetch_licences() if policy and any(each.servers for each in policy.backends.values()) else {}
    live = _ask_service(service or (policy and policy.service), warnings)
    pools = _ask_pools(policy_file, policy, warnings)
    return Look(time.time(), nodes, jobs, policy, live, licences, pools, tuple(warnings), held)


def _ask_service(service: str | None, warnings: list[str]) -> dict | None:
    from slurm_gpushare.accounting.client import live

    if service is None:
        warnings.append("what is measured is not known: the policy names no service (agent.service)")
        return None
    try:
        return live(service)
    except GpushareError as error:
        warnings.append(f"what is measured is not known: {error}")
        return None


def _ask_pools(policy_file: str, policy: NodePolicy | None, warnings: list[str]) -> dict[str, PoolState]:
    settings = policy and policy.backends.get("bitfusion")
    if settings is None:
        return {}
    # Only hosts with the pool's client, where root's token lies, can ask it; elsewhere Slurm's word is enough.
    if not settings.command or not os.access(settings.command, os.X_OK):
        return {}
    from slurm_gpushare.policy.load import load_policy
    from slurm_gpushare.pool import look
    from slurm_gpushare.pool.compare import compare

    try:
        full = load_policy(policy_file).policy
        pool = full.backends.bitfusion
        return {} if pool is None else {"bitfusion": compare(pool, full.slices_per_gpu, look.take_look(pool))}
    except (GpushareError, OSError) as error:
        warnings.append(f"what the pool says is not known: {error}")
        return {}
