"""What is wrong between settings of the policy that are right by themselves."""

from decimal import Decimal

from slurm_gpushare.policy import profiles
from slurm_gpushare.policy.schema import DIVIDED, POOLS, SHARED

FRACTIONS = ("minimum_fraction", "maximum_fraction")


def conflicts(data: object) -> list[tuple[tuple, str]]:
    """Return what is wrong between settings, as (place, remedy); ``data`` is the YAML as read, valid or not."""
    if not isinstance(data, dict):
        return []
    backends = _mapping(data, "backends")
    known = ", ".join(sorted(map(str, backends))) or "none"
    found = [
        (place, f"no such backend in this file: write one of its backends ({known})")
        for place, backend in _backends_named(data)
        if not isinstance(backend, str) or backends.get(backend) is None
    ]
    for name in POOLS:
        if _mapping(backends, name).get("gres") in ("gpu", "shard", "mps"):
            found.append((("backends", name, "gres"), f"Slurm's own gres of that name is another thing: write {name}"))
    found += _server_conflicts(backends)
    rules = [rule if isinstance(rule, dict) else {} for rule in _sequence(data, "rules")]
    for place, section in [((), data), *((("rules", index), rule) for index, rule in enumerate(rules))]:
        found += _off_grid(place, section, data.get("slices_per_gpu", 100))
    for backend in SHARED:
        types = _mapping(_mapping(backends, backend), "types")
        for name, kind in types.items() if len(types) > 1 else ():
            if not (isinstance(kind, dict) and kind.get("feature")):
                remedy = "one of several types: write feature, its nodes' own"
                found.append((("backends", backend, "types", name), remedy))
    found += _off_grid(("backends", "mps"), _mapping(backends, "mps"), data.get("slices_per_gpu", 100), ("fraction",))
    for way in DIVIDED:
        for name, kind in _mapping(_mapping(backends, way), "types").items():
            found += _profile_conflicts(("backends", way, "types", name), way, kind)
    for index, limit in enumerate(_sequence(data, "running_limits")):
        found += _limit_conflicts(("running_limits", index), limit, data.get("slices_per_gpu", 100))
    found += _idle_conflicts(_mapping(data, "idle"), _mapping(data, "agent"))
    found += _rate_conflicts(_mapping(data, "service"))
    names: dict[object, int] = {}
    for index, rule in enumerate(rules):
        name = rule.get("name")
        if isinstance(name, str) and names.setdefault(name, index) != index:
            found.append((("rules", index, "name"), f"rules[{names[name]}] has that name: write another"))
        for number, dataset in enumerate(_sequence(rule, "datasets")):
            if isinstance(dataset, str) and dataset not in _mapping(data, "datasets"):
                known = ", ".join(sorted(map(str, _mapping(data, "datasets")))) or "none"
                found.append((("rules", index, "datasets", number), f"no such dataset in this file: known are {known}"))
    return found


def _mapping(data: dict, name: str) -> dict:
    return data[name] if isinstance(data.get(name), dict) else {}


def _sequence(data: dict, name: str) -> list:
    return data[name] if isinstance(data.get(name), list) else []


def _profile_conflicts(place: tuple, way: str, kind: object) -> list[tuple[tuple, str]]:
    """Return what is not in the table of profiles."""
    gpu, profile = (kind.get(name) for name in ("gpu", "profile")) if isinstance(kind, dict) else (None, None)
    if not (isinstance(gpu, str) and isinstance(profile, str)):
        return []  # the schema says so
    if gpu not in profiles.models(way):
        return [((*place, "gpu"), f"no model with {way} profiles: known are {', '.join(profiles.models(way))}")]
    if profile not in (known := profiles.names(way, gpu)):
        return [((*place, "profile"), f"no profile of {gpu}: known are {', '.join(known)}")]
    return []


def _server_conflicts(backends: dict) -> list[tuple[tuple, str]]:
    """Return the servers of pools whose GPUs could not have licences of their own."""
    found: list[tuple[tuple, str]] = []
    first: dict[str, str] = {}  # where each name was met
    for pool in (name for name in POOLS if isinstance(backends.get(name), dict)):
        placement = backends[pool].get("placement", POOLS[pool].model_fields["placement"].default)
        for index, server in enumerate(_sequence(backends[pool], "servers")):
            name = server.get("name") if isinstance(server, dict) else None
            place, here = ("backends", pool, "servers", index, "name"), f"backends.{pool}.servers[{index}]"
            if isinstance(name, str) and first.setdefault(name, here) != here:
                found.append((place, f"{first[name]} has that name: write another"))
            elif name is None and isinstance(server, dict) and placement != "flat":
                found.append((place, f"with placement {placement} each GPU has licences, gpu0@NAME: write a name"))
    return found


def _backends_named(data: dict) -> list[tuple[tuple, object]]:
    """Return every place that names a backend, with the name."""
    named = []
    for name, value in _mapping(data, "partitions").items():
        here = ("partitions", name)
        if isinstance(value, dict):
            named += [((*here, "default"), value["default"])] if isinstance(value.get("default"), str) else []
            named += [((*here, "allowed", index), item) for index, item in enumerate(_sequence(value, "allowed"))]
        elif not isinstance(value, list):
            named.append((here, value))
    for index, rule in enumerate(_sequence(data, "rules")):
        if isinstance(rule, dict):
            named += [(("rules", index, "backends", at), item) for at, item in enumerate(_sequence(rule, "backends"))]
    return named


def _limit_conflicts(place: tuple, limit: object, slices: object) -> list[tuple[tuple, str]]:
    if not isinstance(limit, dict):
        return []
    found = _off_grid(place, limit, slices, ("per_user", "together"))
    if not any(limit.get(name) for name in ("qos", "accounts", "users")):
        found.append((place, "holds for nobody: write qos, accounts or users"))
    if limit.get("per_user") is None and limit.get("together") is None:
        found.append((place, "limits nothing: write per_user or together"))
    if limit.get("users") and limit.get("together") is not None:
        found.append(((*place, "together"), "is for the users of a QOS or account: write per_user"))
    return found


def _rate_conflicts(service: dict) -> list[tuple[tuple, str]]:
    """Return the rates that never hold, since an earlier one fits all that they fit."""
    found = []
    rates = [rate if isinstance(rate, dict) else {} for rate in _sequence(service, "rates")]
    for index, rate in enumerate(rates):
        for earlier, other in enumerate(rates[:index]):
            criteria = {name: other.get(name) for name in ("backend", "gpu", "account") if other.get(name) is not None}
            if all(rate.get(name) == value for name, value in criteria.items()):
                found.append(
                    (("service", "rates", index), f"never holds, service.rates[{earlier}] fits before it: move it up")
                )
                break
    return found


def _idle_conflicts(idle: dict, agent: dict) -> list[tuple[tuple, str]]:
    found = []
    if idle.get("action", "off") in ("warn", "end", "requeue") and agent.get("service") is None:
        found.append((("idle", "action"), "needs what agents measure: write agent.service too, or off"))
    for index, exempt in enumerate(_sequence(idle, "exempt")):
        if isinstance(exempt, dict) and not any(exempt.values()):
            found.append((("idle", "exempt", index), "would be every job: write accounts, qos, users or partitions"))
    return found


def _off_grid(
    place: tuple, section: dict, slices: object, names: tuple[str, ...] = FRACTIONS
) -> list[tuple[tuple, str]]:
    found = []
    for name in names:
        value = section.get(name)
        numbers = isinstance(value, (int, float)) and isinstance(slices, int) and 0 < value < 1e9 and slices >= 1
        if numbers and (Decimal(str(value)) * slices) % 1:
            found.append(((*place, name), f"is no multiple of 1/{slices}: write one, or change slices_per_gpu"))
    return found
