"""Policies of any length, of which no rule concerns the benchmarks' requests."""

import os

import yaml

from slurm_gpushare.policy.lua import shipped_etc


def others(count: int) -> list[dict]:
    """Return ``count`` rules about other people, by each of the criteria that a site would write them by."""
    criteria = (
        lambda number: {"accounts": [f"account{number}", f"project{number}"]},
        lambda number: {"users": [f"user{number}"]},
        lambda number: {"qos": [f"qos{number}"]},
        lambda number: {"accounts": [f"account{number}"], "partitions": ["bitfusion", "shard"]},
    )
    return [
        {"name": f"rule{number}", **criteria[number % len(criteria)](number), "maximum_fraction": 0.5}
        for number in range(count)
    ]


def policy_text(count: int, etc: str | None = None) -> str:
    """Return the YAML of the shipped policy with ``count`` rules more."""
    with open(os.path.join(etc or shipped_etc(), "gpushare.yaml"), encoding="utf-8") as stream:
        policy = yaml.safe_load(stream)
    return yaml.safe_dump(policy | {"rules": [*policy.get("rules", []), *others(count)]}, sort_keys=False)
