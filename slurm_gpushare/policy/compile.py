"""The policy as slurmctld reads it (a Lua table) and as nodes read it (JSON)."""

import json
import math
import os
import tempfile
import time
from collections.abc import Callable

from slurm_gpushare import node_policy
from slurm_gpushare.backends import find
from slurm_gpushare.policy.lua import Gpushare
from slurm_gpushare.policy.members import group_members
from slurm_gpushare.policy.profiles import GpuProfile, find_profile
from slurm_gpushare.policy.schema import Bitfusion, Idle, Lupine, Mig, Policy, Rule, Settings, Shard, Vgpu
from slurm_gpushare.request import Request
from slurm_gpushare.units import MIB

LUA_VERSION = 1  # POLICY_VERSION in etc/slurm/gpushare.lua
LUA_FILE = "gpushare_policy.lua"
SUBMIT_FILE = "job_submit.lua"
CRITERIA = ("users", "accounts", "qos", "partitions")  # of rules, the most selective first; groups become users


def pool_memory(pool: Bitfusion | Lupine) -> int | None:
    """Return the bytes of each GPU of the pool, None where servers differ or one is not known."""
    sizes = {server.gpu_memory for server in pool.servers}
    return sizes.pop() if len(sizes) == 1 else None


def shared_memory(shared: Shard) -> int | None:
    """Return the bytes of each GPU of the nodes, None where they differ or it is not known.

    Where limits are set by it, the memory that all types have does too.
    """
    sizes = {kind.gpu_memory for kind in shared.types.values()} if type(shared) is not Shard else set()
    return shared.gpu_memory or (sizes.pop() if len(sizes) == 1 else None)


def types_of(way: str, section: Mig | Vgpu) -> dict[str, GpuProfile]:
    """Return what each of Slurm's types of the section is; raises PolicyError when there is no such profile."""
    return {name: find_profile(way, kind.gpu, kind.profile) for name, kind in section.types.items()}


def advice(name: str, section: Settings) -> str | None:
    """Return what the user of a share is told of its limits, None where they are the hardware's or the hypervisor's."""
    enforces = find(name).ENFORCES
    advisory = [what for what in ("memory", "compute") if enforces[what] == "advisory"]
    holds = [f"programs can undo those of {' and '.join(advisory)}"] if advisory else []
    if getattr(section, "fraction", None) is not None:
        holds = ["programs can undo them on a GPU that is not in compute mode EXCLUSIVE_PROCESS"]
    if enforces["memory"] != "enforced" and getattr(section, "over_memory", None) == "kill":
        holds.append("the watcher ends a job over its memory")
    if holds:
        return "its limits are advisory: " + ", and ".join(holds)
    return "nothing holds a job to its share" if enforces["memory"] == enforces["compute"] == "none" else None


def to_lua(
    policy: Policy,
    members: Callable[[str], list[str]] = group_members,
    realpath: Callable[[str], str] = os.path.realpath,
) -> str:
    """Return the policy as a Lua chunk that returns a table, the same text for the same policy.

    ``members`` expands a group. Raises PolicyError when it has no such group. ``realpath`` says where a folder of the
    policy leads on this host, for advice to users.
    """
    rules = [lua_rule(policy, rule, members) for rule in policy.rules]
    table = {
        "v": LUA_VERSION,
        "mode": None if policy.mode == "enforce" else policy.mode,
        "enforce": {name: dict.fromkeys(names, True) for name, names in policy.enforce.model_dump().items()},
        "operators": dict.fromkeys(policy.operators, True),
        "slices_per_gpu": policy.slices_per_gpu,
        "require_client": policy.require_client,
        "partitions": {name: partition.choices for name, partition in policy.partitions.items()},
        "backends": _lua_backends(policy),
        "datasets": {
            name: True if dataset.groups is None else _expand(dataset.groups, members)
            for name, dataset in policy.datasets.items()
        },
        "limits": {
            "minimum_slices": policy.minimum_slices,
            "maximum_slices": policy.maximum_fraction and policy.slices(policy.maximum_fraction),
            "whole_gpus": policy.whole_gpus,
            "host_memory_mib": _mib(policy.host_memory_per_gpu),
            "container_required": policy.containers.required,
            "images": list(policy.containers.images),
            "mounts": list(policy.containers.mounts),
            "writable": policy.containers.writable,
        },
        "real": _links([*_all(policy, "images"), *_all(policy, "mounts")], realpath) or None,
        "rules": rules,
        "index": index_rules(rules),
    }
    return (
        f"-- Written by `gpushare policy compile` from the policy's YAML; do not edit.\nreturn {lua_literal(table)}\n"
    )


def lua_rule(policy: Policy, rule: Rule, members: Callable[[str], list[str]]) -> dict:
    """Return one rule as rules.lua reads it: sets of names for its criteria, and the limits that it states."""
    users = None if rule.users is None else dict.fromkeys(rule.users, True)
    if rule.groups is not None:
        expanded = _expand(rule.groups, members)
        users = expanded if users is None else {name: True for name in users if name in expanded}
    return {
        "name": rule.name,
        "users": users,
        **{
            name: None if (names := getattr(rule, name)) is None else dict.fromkeys(names, True)
            for name in CRITERIA[1:]
        },
        "minimum_slices": rule.minimum_fraction and policy.slices(rule.minimum_fraction),
        "maximum_slices": rule.maximum_fraction and policy.slices(rule.maximum_fraction),
        "host_memory_mib": _mib(rule.host_memory_per_gpu),
        "datasets": None if rule.datasets is None else dict.fromkeys(rule.datasets, True),
        **{name: getattr(rule, name) for name in ("whole_gpus", "container_required", "backends", "images", "mounts")},
    }


def index_rules(rules: list[dict]) -> dict:
    """Return, for each value of each rule's most selective criterion, the numbers (from 1) of its rules."""
    index: dict[str, dict[str, list[int]]] = {name: {} for name in CRITERIA}
    anybody = []
    for number, rule in enumerate(rules, start=1):
        criterion = next((name for name in CRITERIA if rule[name] is not None), None)
        if criterion is None:
            anybody.append(number)
        for value in rule[criterion] if criterion else ():
            index[criterion].setdefault(value, []).append(number)
    return {**index, "any": anybody}


def _expand(groups: list[str], members: Callable[[str], list[str]]) -> dict[str, bool]:
    return dict.fromkeys(sorted({user for group in groups for user in members(group)}), True)


def _lua_backends(policy: Policy) -> dict[str, dict]:
    backends: dict[str, dict] = {}
    for name, pool in policy.backends.pools.items():
        backends[name] = {
            "placement": pool.placement,
            "licence": pool.licence if pool.placement == "flat" else None,
            "gres": pool.gres,
            "servers": [
                {"name": server.name, "gpus": server.gpus, "gpu_memory_mib": _mib(server.gpu_memory)}
                for server in pool.servers
            ],
            "gpu_memory_mib": _mib(pool_memory(pool)),
            "advice": advice(name, pool),
        }
    for name, shared in policy.backends.shared.items():
        fraction = getattr(shared, "fraction", None)
        backends[name] = {
            "gres": "shard",
            "gpu_memory_mib": _mib(shared_memory(shared)),
            "types": {
                kind_name: {"gpu_memory_mib": _mib(kind.gpu_memory), "feature": kind.feature}
                for kind_name, kind in shared.types.items()
            }
            or None,
            "fixed_slices": fraction and policy.slices(fraction),
            "exclusive": getattr(shared, "users", None) == "one_per_node" or None,
            "advice": advice(name, shared),
        }
    for name, divided in policy.backends.divided.items():
        types = types_of(name, divided)
        # The smallest first, as fixed.lua takes them.
        order = sorted(types, key=lambda each: (types[each].fraction, types[each].memory or 0, each))
        backends[name] = {
            "gres": "gpu",
            "profiles": [
                {
                    "type": each,
                    "num": types[each].fraction.numerator,
                    "den": types[each].fraction.denominator,
                    "memory_mib": _mib(types[each].memory),
                }
                for each in order
            ],
            "advice": advice(name, divided),
        }
    return backends


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
            "placement": pool.placement,
            "servers": {server.name: server.address for server in pool.servers if server.name is not None},
            "client": pool.client,
            "wait": float(pool.wait),
            "requeue_limit": pool.requeue_limit if pool.on_failure == "requeue" else 0,
            "requeue_delay": float(pool.requeue_delay),
        }
    if policy.backends.lupine is not None:
        pool = policy.backends.lupine
        backends["lupine"] = {
            "libraries": pool.libraries,
            "gres": pool.gres,
            "gpu_memory": pool_memory(pool),
            "placement": pool.placement,
            "servers": {server.name: server.address for server in pool.servers},
        }
    for name, shared in policy.backends.shared.items():
        backends[name] = {"gpu_memory": shared_memory(shared), "over_memory": shared.over_memory}
    if policy.backends.mps is not None:
        backends["mps"] |= {"users": policy.backends.mps.users, "fraction": policy.backends.mps.fraction}
    if policy.backends.hami is not None:
        backends["hami"]["library"] = policy.backends.hami.library
    for name, divided in policy.backends.divided.items():
        types = types_of(name, divided)
        backends[name] = {
            "types": {
                each: {"fraction": float(profile.fraction), "memory": profile.memory} for each, profile in types.items()
            }
        }
    data = {
        "v": node_policy.VERSION,
        "slices_per_gpu": policy.slices_per_gpu,
        "container": {
            "runtime": policy.containers.runtime,
            # A node does not know which rule let a job in: it takes what any of them allows, job_submit the rule's own.
            "images": _all(policy, "images"),
            "mounts": _all(policy, "mounts"),
            **policy.containers.model_dump(include={"pid_namespace", "owners", "writable", "defaults"}),
        },
        "datasets": {name: dataset.model_dump(exclude={"groups"}) for name, dataset in policy.datasets.items()},
        "backends": backends,
        "framework_memory": policy.framework_memory,
        "agent": policy.agent.model_dump(),
        "idle": _idle(policy.idle),
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def _idle(idle: Idle) -> dict | None:
    if idle.action == "off":
        return None
    return idle.model_dump() | {"exempt": [each.model_dump(exclude_none=True) for each in idle.exempt]}


def _links(folders: list[str], realpath: Callable[[str], str]) -> dict[str, str]:
    """Return where those of ``folders`` lead that are links, or lie behind one."""
    plain = (folder for folder in folders if folder.startswith("/") and not {"*", "?"} & set(folder))
    return {folder: real for folder in plain if (real := realpath(folder)) != folder}


def _all(policy: Policy, name: str) -> list[str]:
    lists = [getattr(policy.containers, name), *(getattr(rule, name) or [] for rule in policy.rules)]
    return list(dict.fromkeys(item for items in lists for item in items))


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
