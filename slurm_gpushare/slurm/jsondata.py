"""Slurm's JSON (`--json` of its commands), read so that every version's form will do."""

import json
from collections.abc import Callable
from typing import TypeVar

from slurm_gpushare.slurm.command import SlurmError

T = TypeVar("T")


def number(value: object) -> int | None:
    """Return a number; None where Slurm has none. Some versions write {"set":…, "infinite":…, "number":…}."""
    if isinstance(value, dict):
        value = value.get("number") if value.get("set") and not value.get("infinite") else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def words(value: object) -> tuple[str, ...]:
    """Return a list of words; some versions write one word where others write a list."""
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(str(item) for item in value) if isinstance(value, list) else ()


def read_list(text: str, key: str, read: Callable[[dict], T], what: str) -> list[T]:
    """Return ``read`` of each object below ``key``.

    Raises
    ------
    SlurmError
        The text is not JSON, or not of that form; ``what`` names the command.
    """
    try:
        return [read(item) for item in json.loads(text)[key]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SlurmError(f"{what}: not readable: {type(error).__name__} {error}") from None
