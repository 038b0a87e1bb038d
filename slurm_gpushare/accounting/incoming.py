"""Usage records as they arrive: each line is checked by itself, so that a bad one holds up no other."""

import json

from slurm_gpushare.errors import GrantError
from slurm_gpushare.usage import ESTIMATED, MEASURED, UNKNOWN, UsageRecord, enforces_of, usage_from_dict

# What the store's columns hold.
LENGTHS = {"cluster": 64, "node": 128, "gpu": 128, "gpu_name": 128, "backend": 64, "user": 128, "source": 32}
LENGTHS |= {"enforces": 64}
_QUALITIES = (MEASURED, ESTIMATED, UNKNOWN)
_MAY_BE_NONE = {"gpu_index", "gpu_name", "memory_peak_bytes", "energy_joules", "processes_seen", "enforces"}
_MAY_BE_NONE |= {"gpu_seconds_used", "gpu_seconds_idle", "gpu_seconds_over"}
_WHOLE = ("job_id", "uid", "gpu_index", "memory_peak_bytes", "processes_seen")
_AMOUNTS = ("fraction", "started", "ended", "seconds_sampled", "gpu_seconds_reserved", "gpu_seconds_used")
_AMOUNTS += ("gpu_seconds_idle", "gpu_seconds_over", "energy_joules")
_MOST = 2**63 - 1


def parse_lines(body: bytes) -> tuple[list[UsageRecord], list[tuple[int, str]]]:
    """Return the valid records of a body of JSON lines, and (index from 0, reason) of the others."""
    records, rejected = [], []
    for index, line in enumerate(body.split(b"\n")):
        if not line.strip():
            continue
        try:
            records.append(check(usage_from_dict(json.loads(line))))
        except GrantError as error:
            rejected.append((index, str(error)))
        except (ValueError, RecursionError) as error:
            rejected.append((index, f"usage record: not JSON: {error}"))
    return records, rejected


def check(record: UsageRecord) -> UsageRecord:
    """Return ``record`` when its values are of the right kind and range; raises GrantError, which names the value."""
    for name, length in LENGTHS.items():
        value = getattr(record, name)
        if value is None and name in _MAY_BE_NONE:
            continue
        if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= length:
            raise GrantError(f"usage record: {name} is {value!r}, not a text of 1 to {length} printable characters")
    for name in _WHOLE + _AMOUNTS:
        value = getattr(record, name)
        if value is None and name in _MAY_BE_NONE:
            continue
        kinds = (int,) if name in _WHOLE else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value <= _MOST:
            raise GrantError(f"usage record: {name} is {value!r}, not a {'whole ' * (name in _WHOLE)}number from 0 on")
    if not 0 < record.fraction <= 1:
        raise GrantError(f"usage record: fraction is {record.fraction!r}, not above 0 and at most 1")
    if record.ended < record.started:
        raise GrantError(f"usage record: ended {record.ended!r} lies before started {record.started!r}")
    try:
        enforces_of([record.enforces])
    except ValueError as error:
        raise GrantError(f"usage record: enforces is {record.enforces!r}: {error}") from None
    if record.quality not in _QUALITIES:
        raise GrantError(f"usage record: quality is {record.quality!r}, not one of {', '.join(_QUALITIES)}")
    return record
