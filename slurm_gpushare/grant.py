"""The grant: what the cluster gave a job, as it stands in the job's ``extra``.

job_submit.lua writes it (etc/slurm/gpushare.lua, ``encode_grant``), prolog, agent and reports read it here.
Standard library only, and neither dataclasses nor json: the launcher imports this file for every task, and each costs
it 10 ms.
"""

from slurm_gpushare import quickjson
from slurm_gpushare.errors import GrantError
from slurm_gpushare.record import Record

VERSION = 1

# Slurm refuses a longer `extra` (1024 accepted, 1025 refused: tried on 24.11.5 and 26.05.5).
MAX_BYTES = 1024

# Only text that begins with exactly these bytes is a grant. job_submit.lua refuses a user's `--extra` that
# begins so; any other spelling of the same JSON (white space, escapes) is no grant for any reader.
PREFIX = '{"v":'


class Grant(Record):
    """One job's share. Amounts are for each node of the job, and for each of ``tasks`` allocations there."""

    backend: str
    gpus: int  # GPUs of each allocation, at least 1
    fraction: float  # of each GPU, 0 < fraction <= 1
    slices: int  # tasks * gpus * fraction * granularity, as Slurm's shards or licences count them on a node
    memory: int | None  # bytes of each GPU's memory, None where the policy does not know its size
    nodes: int  # nodes that the amount was multiplied for at submission
    rule: str  # name of the policy's rule that decided
    request: str  # what the user wrote, such as "gpu:0.25"
    extra: str  # the user's own --extra text, "" when there was none
    tasks: int = 1  # allocations on each node: more than 1 where each task has one of its own


def looks_like_grant(text: str | None) -> bool:
    """Tell whether ``text`` has our form, valid or not."""
    return bool(text) and text.startswith(PREFIX)


def _need(value: object, kind: type | tuple, name: str, low: float | None = None, high: float | None = None) -> object:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise GrantError(f"grant: {name} is {value!r}, which is not a {getattr(kind, '__name__', 'number')}")
    # Written so that NaN, which JSON's reader takes and which compares as false, is out of range.
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        raise GrantError(f"grant: {name} is {value!r}, which is out of range")
    return value


def decode_grant(text: str) -> Grant:
    """Read a grant.

    Raises
    ------
    GrantError
        The text is not a grant, is longer than 1024 bytes, has another version (named in the message) or a
        value out of range.
    """
    if not looks_like_grant(text):
        raise GrantError("grant: the job's extra does not begin with " + PREFIX)
    if len(text.encode("utf-8", "surrogateescape")) > MAX_BYTES:
        raise GrantError(f"grant: longer than {MAX_BYTES} bytes")
    try:
        data = quickjson.loads(text)
    except (ValueError, RecursionError) as error:
        raise GrantError(f"grant: not JSON: {error}") from None
    return grant_from_dict(data)


def grant_from_dict(data: dict) -> Grant:
    """Return the grant of a JSON object; raises GrantError for another version or a value out of range."""
    version = data.get("v")
    if version != VERSION or isinstance(version, bool):
        raise GrantError(
            f"grant: version {version!r} is not known here, only {VERSION}: upgrade slurm-gpushare on this host"
        )
    memory = data.get("memory")
    if memory is not None:
        memory = _need(memory, int, "memory", 1)
    return Grant(
        backend=str(_need(data.get("backend"), str, "backend")),
        gpus=_need(data.get("gpus"), int, "gpus", 1),
        fraction=float(_need(data.get("fraction"), (int, float), "fraction", 1e-6, 1.0)),
        slices=_need(data.get("slices"), int, "slices", 1),
        memory=memory,
        nodes=_need(data.get("nodes", 1), int, "nodes", 1),
        rule=str(_need(data.get("rule", ""), str, "rule")),
        request=str(_need(data.get("request", ""), str, "request")),
        extra=str(_need(data.get("extra", ""), str, "extra")),
        tasks=_need(data.get("tasks", 1), int, "tasks", 1),
    )


def grant_to_dict(grant: Grant) -> dict:
    """Return the JSON object of ``grant`` with its keys in the order in which Lua writes them."""
    return {
        "v": VERSION,
        "backend": grant.backend,
        "gpus": grant.gpus,
        "fraction": grant.fraction,
        "slices": grant.slices,
        "memory": grant.memory,
        "nodes": grant.nodes,
        "rule": grant.rule,
        "request": grant.request,
        "extra": grant.extra,
        **({"tasks": grant.tasks} if grant.tasks > 1 else {}),
    }
