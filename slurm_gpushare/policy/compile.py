"""The policy as slurmctld reads it (a Lua table) and as nodes read it (JSON)."""

import json
import math
import os
import tempfile
import time

from slurm_gpushare import node_policy
from slurm_gpushare.policy.lua import Gpushare
from slurm_gpushare.policy.schema import Bitfusion, Policy
from slurm_gpushare.request import Request
from slurm_gpushare.units import MIB

LUA_VERSION = 1  # POLICY_VERSION in etc/slurm/gpushare.lua
LUA_FILE = "gpushare_policy.lua"
SUBMIT_FILE = "job_submit.lua"


def pool_memory(pool: Bitfusion) -> int | None:
    """Return the bytes of each GPU of the pool, None where servers differ or one is not known."""
    sizes = {server.gpu_memory for server in pool.servers}
    return sizes.pop() if len(sizes) == 1 else None


def to_lua(policy: Policy) -> str:
    """Return the policy as a Lua chunk that returns a table, the same text for the same policy."""
    backends: dict[str, dict] = {}
    if policy.backends.bitfusion is not None:
        pool = policy.backends.bitfusion
        backends["bitfusion"] = {
            "licence": pool.licence,
            "gres": pool.gres,
            "servers": [server.gpus for server in pool.servers],
            "gpu_memory_mib": _mib(pool_memory(pool)),
        }
    if policy.backends.shard is not None:
        backends["shard"] = {"gpu_memory_mib": _mib(policy.backends.shard.gpu_memory)}
    table = {
        "v": LUA_VERSION,
        "slices_per_gpu": policy.slices_per_gpu,
        "minimum_slices": policy.minimum_slices,
        "partitions": dict(policy.partitions),
        "backends": backends,
        "images": list(policy.containers.images),
        "mounts": list(policy.containers.mounts),
        "datasets": dict.fromkeys(policy.datasets, True),
    }
    return (
        f"-- Written by `gpushare policy compile` from the policy's YAML; do not edit.\nreturn {lua_literal(table)}\n"
    )


def to_node_json(policy: Policy) -> str:
    """Return the policy as nodes read it (slurm_gpushare/node_policy.py)."""
    backends: dict[str, dict] = {}
    if policy.backends.bitfusion is not None:
        pool = policy.backends.bitfusion
        backends["bitfusion"] = {
            "command": pool.command,
            "licence": pool.licence,
            "gres": pool.gres,
            "gpu_memory": pool_memory(pool),
        }
    if policy.backends.shard is not None:
        backends["shard"] = {"gpu_memory": policy.backends.shard.gpu_memory}
    data = {
        "v": node_policy.VERSION,
        "slices_per_gpu": policy.slices_per_gpu,
        "container": policy.containers.model_dump(include={"runtime", "images", "mounts", "pid_namespace"}),
        "datasets": {name: dataset.model_dump() for name, dataset in policy.datasets.items()},
        "backends": backends,
        "agent": {"interval": float(policy.agent.interval), "service": policy.agent.service},
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def lua_literal(value: object, depth: int = 0) -> str:
    """Return ``value`` (dict, list, text, whole number, bool) as a Lua literal; None values of dicts are left away."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return lua_string(value)
    inner, outer = "  " * (depth + 1), "  " * depth
    if isinstance(value, dict):
        items = [
            f"[{lua_string(key)}] = {lua_literal(item, depth + 1)}" for key, item in value.items() if item is not None
        ]
    elif isinstance(value, list):
        items = [lua_literal(item, depth + 1) for item in value]
    else:
        raise TypeError(f"{value!r} has no Lua literal here")
    return "{" + "".join(f"\n{inner}{item}," for item in items) + (f"\n{outer}" if items else "") + "}"


def lua_string(text: str) -> str:
    """Return ``text`` as a Lua string literal of printable ASCII: every other byte is a three-digit decimal escape."""
    out = []
    for byte in text.encode("utf-8", "surrogateescape"):
        char = chr(byte)
        out.append(char if " " <= char <= "~" and char not in '"\\' else f"\\{byte:03d}")
    return '"' + "".join(out) + '"'


def compile_policy(policy: Policy, slurm_dir: str, node_file: str) -> list[str]:
    """Write the policy where slurmctld and nodes read it; return the paths that were written.

    Both texts are made and tried before the first file changes, and each file is replaced in one step. On a host
    without ``job_submit.lua`` in ``slurm_dir`` (a compute node) only the nodes' file is written.
    """
    table, nodes = to_lua(policy), to_node_json(policy)
    Gpushare(table).decide(Request())
    node_policy.node_policy_from_json(nodes)
    written = []
    submit = os.path.join(slurm_dir, SUBMIT_FILE)
    if os.path.isfile(submit):
        written.append(os.path.join(slurm_dir, LUA_FILE))
        replace_file(written[0], table)
        # slurmctld reads the script again when its time stamp, in whole seconds, is later than at its last reading:
        # a change within the same second, or after a stamp that lies ahead, would be missed.
        later = math.floor(max(time.time(), os.stat(submit).st_mtime)) + 1
        os.utime(submit, (later, later))
    replace_file(node_file, nodes)
    return written + [node_file]


def replace_file(path: str, text: str, mode: int = 0o644) -> None:
    """Put ``text`` at ``path`` in one step: readers see the old file or the new one, whole."""
    folder = os.path.dirname(os.path.abspath(path))
    descriptor, temporary = tempfile.mkstemp(prefix="." + os.path.basename(path), dir=folder)
    try:
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(text)
            os.fchmod(stream.fileno(), mode)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _mib(size: int | None) -> int | None:
    return None if size is None else size // MIB
