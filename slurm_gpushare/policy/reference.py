"""The reference page of the policy, docs/policy.md, from the schema itself."""

from collections.abc import Iterator
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from slurm_gpushare.policy.schema import AMOUNT_OF_MEMORY, Partition, Policy

HEAD = """# The policy: every setting of gpushare.yaml

Written by `gpushare policy reference` from the definition in `slurm_gpushare/policy/schema.py`; do not edit.

One YAML file rules which shares of GPUs are given, to whom, where, and in which containers. `gpushare policy check`
tries it and names every error with its line, `gpushare policy show` prints what holds and where it comes from,
`gpushare policy compile` puts it in force: slurmctld takes it up without a restart, an invalid file changes nothing.
`gpushare explain --gres gpu:0.25 --user alice` says what a request would become, and by which rule.

Memory is written with its unit, in powers of 1024: `16280 MiB`, `16 GiB`, `16G`. Paths are absolute. Every setting may
be left out unless it is marked *needed*; unknown settings are refused.

## How a rule is found

Rules are tried from the top. A rule matches when each of its criteria (`users`, `groups`, `accounts`, `qos`,
`partitions`) that is written names the job's; the first rule that matches wins, what it leaves out is as in the rest
of the file. Where none matches, the rest of the file holds. Groups are looked up when the policy is compiled:
`gpushare-policy.timer` in `etc/systemd/` does that every ten minutes. At submission a rule's own `images` and `mounts`
hold; the nodes hold each step to what any of the rules allows.

"""


def reference() -> str:
    """Return the page as Markdown."""
    return HEAD + "\n".join(_section(Policy, "", "The file"))


def _section(model: type[BaseModel], place: str, title: str) -> Iterator[str]:
    yield f"## {title}\n"
    yield " ".join((model.__doc__ or "").split()) + "\n"
    yield "| setting | type | default | meaning |"
    yield "|---|---|---|---|"
    inner = []
    for name, field in model.model_fields.items():
        yield f"| `{place}{name}` | {_kind(field.annotation, name)} | {_default(field)} | {_meaning(field)} |"
        if (below := _below(field.annotation, f"{place}{name}")) is not None:
            inner.append(below)
    yield ""
    for kind, where in inner:
        yield from _section(kind, where + ".", f"`{where}`")


def _bare(kind: object) -> object:
    while get_origin(kind) in (Annotated, Union, type(int | None)):
        kind = get_args(kind)[0]
    return kind


def _below(kind: object, place: str) -> tuple[type[BaseModel], str] | None:
    """Return the section that a setting holds, and how its place is written."""
    kind = _bare(kind)
    if get_origin(kind) is dict:
        kind, place = _bare(get_args(kind)[1]), place + ".NAME"
    elif get_origin(kind) is list:
        kind, place = _bare(get_args(kind)[0]), place + "[]"
    return (kind, place) if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _kind(kind: object, name: str) -> str:
    kind = _bare(kind)
    if name in AMOUNT_OF_MEMORY:
        return "memory"
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) is list:
        return f"list of {_kind(get_args(kind)[0], '')}"
    if get_origin(kind) is dict:
        short = "backend, or section" if _bare(get_args(kind)[1]) is Partition else "section"
        return f"{short} by name"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "section"
    return {int: "whole number", float: "number", bool: "`true`, `false`", str: "text"}[kind]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*needed*"
    value = field.default
    if isinstance(value, BaseModel):
        return ""
    if value is None or isinstance(value, bool):
        return f"`{'null' if value is None else str(value).lower()}`"
    return f"`{value}`" if value or value == 0 else "none"


def _meaning(field: FieldInfo) -> str:
    unit = (field.json_schema_extra or {}).get("unit")
    text = (field.description or "").replace("|", "\\|")
    return f"{text} ({unit})" if unit and unit not in ("with its unit",) else text
