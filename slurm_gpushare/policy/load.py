"""Reading the policy's YAML: all errors at once, each with file, line, key, value and remedy."""

import difflib
from dataclasses import dataclass
from typing import Annotated, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from slurm_gpushare.errors import PolicyError
from slurm_gpushare.policy.conflicts import conflicts
from slurm_gpushare.policy.schema import Policy


@dataclass(frozen=True)
class LoadedPolicy:
    """A valid policy and where each of its settings stands."""

    policy: Policy
    path: str
    lines: dict[tuple, int]  # place of a setting: its line, from 1; settings that are not written have none


def load_policy(path: str) -> LoadedPolicy:
    """Read and check the policy at ``path``.

    Raises
    ------
    PolicyError
        It cannot be read or is not valid; the text has one line for each error.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}: name the policy's file") from None
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: not UTF-8 at byte {error.start}: save it as UTF-8") from None
    return parse_policy(text, path)


def parse_policy(text: str, path: str = "gpushare.yaml") -> LoadedPolicy:
    """Check the policy ``text``; ``path`` names it in messages. Raises PolicyError, one line for each error."""
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        data = None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise PolicyError(
            f"{path}:{mark.line + 1 if mark else 1}: not YAML: {error.problem or error.context}"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PolicyError(f"{path}:1: not YAML: {' '.join(str(error).split())}") from None
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        raise PolicyError(f"{path}:1: the file has no settings: begin with those of the shipped gpushare.yaml")

    lines: dict[tuple, int] = {}
    errors: list[tuple[int, str]] = []
    _walk(root, (), lines, errors)
    for place, remedy in conflicts(data):
        errors.append((_line(place, lines), f"{key_text(place)}: {_value(data, place)!r}: {remedy}"))
    policy = None
    try:
        policy = Policy.model_validate(data)
    except ValidationError as error:
        for item in error.errors(include_url=False, include_context=False):
            errors.append(_describe(item, data, lines))
    if errors:
        raise PolicyError("\n".join(f"{path}:{line}: {text}" for line, text in sorted(set(errors))))
    return LoadedPolicy(policy, path, lines)


def _walk(node: yaml.Node, place: tuple, lines: dict[tuple, int], errors: list[tuple[int, str]]) -> None:
    """Note the line of every setting, and keys that stand twice (YAML would take the last)."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*place, key.value)
            line = key.start_mark.line + 1
            if here in lines:
                errors.append((line, f"{key_text(here)}: stands twice, first in line {lines[here]}: keep one of them"))
            lines.setdefault(here, line)
            _walk(value, here, lines, errors)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*place, index)] = value.start_mark.line + 1
            _walk(value, (*place, index), lines, errors)


def _describe(item: dict, data: object, lines: dict[tuple, int]) -> tuple[int, str]:
    place = tuple(part for part in item["loc"] if part != "[key]")
    known, meaning = _fields(place[:-1]), None
    if known is not None and place[-1] in known:
        meaning = known[place[-1]].description
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(place[-1]), known or [], 1)
        remedy = (
            f"is not a setting: did you mean {near[0]}?"
            if near
            else f"is not a setting: known are {', '.join(known or [])}"
        )
        return _line(place, lines), f"{key_text(place)}: {remedy}"
    if item["type"] == "missing":
        return _line(place, lines), f"{key_text(place)}: is missing: write {meaning}"
    text = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if item["type"] in ("model_type", "dict_type"):
        text = "is no section: write its settings below it, NAME: VALUE"
    elif item["type"] == "too_short":
        text = "is empty: write at least one entry, or leave the setting away"
    value = repr(_value(data, place))
    text = text.removeprefix(f"{value} ")
    return _line(place, lines), f"{key_text(place)}: {value}: {text}" + (f" ({meaning})" if meaning else "")


def _fields(place: tuple) -> dict | None:
    """Return the known settings of the section at ``place``, None where there is no such section."""
    model: object = Policy
    for part in place:
        model = _bare(model)
        if isinstance(model, type) and issubclass(model, BaseModel):
            if part not in model.model_fields:
                return None
            model = model.model_fields[part].annotation
        else:
            model = get_args(model)[-1] if get_origin(model) in (dict, list) else None
    model = _bare(model)
    return model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else None


def _bare(model: object) -> object:
    """Return a type without its null and its annotations."""
    while get_origin(model) in (Union, type(int | None), Annotated):
        model = get_args(model)[0]
    return model


def _line(place: tuple, lines: dict[tuple, int]) -> int:
    """Return the line of ``place``, or of the nearest section around it that is written."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 1)


def key_text(place: tuple) -> str:
    """Return a place as people write it: ``backends.bitfusion.servers[0].gpus``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _value(data: object, place: tuple) -> object:
    for part in place:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data
