"""The value of every setting and where it comes from."""

from collections.abc import Iterator

from pydantic import BaseModel

from slurm_gpushare.policy.load import LoadedPolicy, key_text
from slurm_gpushare.policy.schema import AMOUNT_OF_MEMORY
from slurm_gpushare.units import format_memory


def effective_settings(loaded: LoadedPolicy) -> Iterator[dict[str, object]]:
    """Yield one row for each setting: key, value, unit, source (line of the file, or default), meaning."""
    yield from _section(loaded.policy, (), loaded.lines)


def _section(section: BaseModel, place: tuple, lines: dict[tuple, int]) -> Iterator[dict[str, object]]:
    for name, field in type(section).model_fields.items():
        extra = field.json_schema_extra or {}
        for row in _value(getattr(section, name), (*place, name), lines):
            yield {"unit": extra.get("unit"), "meaning": field.description} | row


def _value(value: object, place: tuple, lines: dict[tuple, int]) -> Iterator[dict[str, object]]:
    if isinstance(value, BaseModel):
        yield from _section(value, place, lines)
    elif isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _value(item, (*place, name), lines)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _value(item, (*place, index), lines)
    else:
        if value is not None and place[-1] in AMOUNT_OF_MEMORY:
            value = format_memory(value)
        source = f"line {lines[place]}" if place in lines else "default"
        yield {"key": key_text(place), "value": value, "source": source}
