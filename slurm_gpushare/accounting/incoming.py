"""Usage records and GPU hours as they arrive: each line is checked by itself, so that a bad one holds up no other."""

import json
from collections.abc import Sequence
from dataclasses import fields
from math import isfinite

from slurm_gpushare.errors import GrantError
from slurm_gpushare.gpu_hour import GpuHour, hour_from_dict, is_hour
from slurm_gpushare.usage import (
    ESTIMATED,
    MEASURED,
    MOST_GAPS,
    MOST_POINTS,
    UNKNOWN,
    UsageRecord,
    enforces_of,
    usage_from_dict,
)

# What the store's columns hold.
LENGTHS = {"cluster": 64, "node": 128, "gpu": 128, "gpu_name": 128, "backend": 64, "user": 128, "source": 32}
LENGTHS |= {"enforces": 64, "image": 4300}
_QUALITIES = (MEASURED, ESTIMATED, UNKNOWN)
_WHOLE = ("job_id", "uid", "gpu_index", "memory_peak_bytes", "processes_seen", "memory_share_bytes")
_WHOLE += ("memory_mean_bytes", "memory_p50_bytes", "memory_p95_bytes")
_SHARES = ("sm_mean", "sm_p50", "sm_p95", "sm_max")  # of the GPU
_AMOUNTS = ("fraction", "started", "ended", "seconds_sampled", "gpu_seconds_reserved", "gpu_seconds_used")
_AMOUNTS += ("gpu_seconds_idle", "gpu_seconds_over", "energy_joules", "gpu_seconds_without_process", "gpu_seconds_read")
_NEEDED = {"cluster", "node", "gpu", "backend", "user", "source", "job_id", "uid", "fraction", "started", "ended"}
_NEEDED |= {"seconds_sampled", "gpu_seconds_reserved", "hour"}
_HOUR_LENGTHS = {name: LENGTHS[name] for name in ("cluster", "node", "gpu", "source", "gpu_name")}
_HOUR_AMOUNTS = [item.name for item in fields(GpuHour) if item.name not in {*_HOUR_LENGTHS, "quality"}]
_MOST = 2**63 - 1
_LONGEST_WHY = 200  # characters of the reason of a gap


def parse_lines(body: bytes) -> tuple[list[UsageRecord | GpuHour], list[tuple[int, str]]]:
    """Return the valid records of a body of JSON lines, and (index from 0, reason) of the others."""
    records, rejected = [], []
    for index, line in enumerate(body.split(b"\n")):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            records.append(check_hour(hour_from_dict(data)) if is_hour(data) else check(usage_from_dict(data)))
        except GrantError as error:
            rejected.append((index, str(error)))
        except (ValueError, RecursionError) as error:
            rejected.append((index, f"usage record: not JSON: {error}"))
    return records, rejected


def check(record: UsageRecord) -> UsageRecord:
    """Return ``record`` when its values are of the right kind and range; raises GrantError, which names the value."""
    _check_values("usage record", record, LENGTHS, _WHOLE, _AMOUNTS)
    for name in _SHARES:
        value = getattr(record, name)
        if value is not None and not (_is_amount(value) and value <= 1):
            raise GrantError(f"usage record: {name} is {value!r}, not a share from 0 to 1")
    if not 0 < record.fraction <= 1:
        raise GrantError(f"usage record: fraction is {record.fraction!r}, not above 0 and at most 1")
    if record.ended < record.started:
        raise GrantError(f"usage record: ended {record.ended!r} lies before started {record.started!r}")
    if record.gaps is not None and not _are_gaps(record.gaps):
        raise GrantError(f"usage record: gaps is {record.gaps!r:.200}, not up to {MOST_GAPS} of [offset, seconds, why]")
    if record.series is not None and not _is_series(record.series):
        raise GrantError(f"usage record: series is {record.series!r:.200}, not of up to {MOST_POINTS} points")
    try:
        enforces_of([record.enforces])
    except ValueError as error:
        raise GrantError(f"usage record: enforces is {record.enforces!r}: {error}") from None
    return record


def check_hour(hour: GpuHour) -> GpuHour:
    """Return ``hour`` when its values are of the right kind and range; raises GrantError, which names the value."""
    _check_values("GPU hour", hour, _HOUR_LENGTHS, (), _HOUR_AMOUNTS)
    return hour


def _check_values(
    what: str, record: UsageRecord | GpuHour, lengths: dict[str, int], whole: Sequence[str], amounts: Sequence[str]
) -> None:
    for name, length in lengths.items():
        value = getattr(record, name)
        if value is None and name not in _NEEDED:
            continue
        if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= length:
            raise GrantError(f"{what}: {name} is {value!r}, not a text of 1 to {length} printable characters")
    for name in (*whole, *amounts):
        value = getattr(record, name)
        if not _is_amount(value, name in whole) and (value is not None or name in _NEEDED):
            raise GrantError(f"{what}: {name} is {value!r}, not a {'whole ' * (name in whole)}number from 0 on")
    if record.quality not in _QUALITIES:
        raise GrantError(f"{what}: quality is {record.quality!r}, not one of {', '.join(_QUALITIES)}")


def _is_amount(value: object, whole: bool = False) -> bool:
    kinds = (int,) if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and 0 <= value <= _MOST


def _are_gaps(gaps: object) -> bool:
    return (
        isinstance(gaps, list)
        and len(gaps) <= MOST_GAPS
        and all(isinstance(gap, list) and len(gap) == 3 and all(_is_amount(each) for each in gap[:2]) for gap in gaps)
        and all(isinstance(why, str) and why.isprintable() and len(why) <= _LONGEST_WHY for _, _, why in gaps)
    )


def _is_series(series: object) -> bool:
    if not isinstance(series, dict) or set(series) != {"every", "sm", "memory"} or not _is_amount(series["every"]):
        return False
    points = (series["sm"], series["memory"])
    if any(not isinstance(each, list) or not 0 < len(each) <= MOST_POINTS for each in points):
        return False
    known = [[value for value in each if value is not None] for each in points]
    return (
        series["every"] > 0
        and len(points[0]) == len(points[1])
        and _are_amounts(known[0], {int, float}, 1)
        and _are_amounts(known[1], {int}, _MOST)
    )


def _are_amounts(values: list, kinds: set[type], most: int) -> bool:
    """Tell whether all are numbers from 0 to ``most``; hundreds in a fifth of the time that _is_amount takes."""
    if not values:
        return True
    # Neither min nor max sees a NaN that is not the first.
    return {*map(type, values)} <= kinds and min(values) >= 0 and max(values) <= most and all(map(isfinite, values))
