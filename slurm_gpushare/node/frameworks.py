"""The variables by which frameworks take no more of a GPU's memory than the job's share of it.

TensorFlow takes nearly all memory of a GPU at its start, unless TF_FORCE_GPU_ALLOW_GROWTH is true (its guide "Use a
GPU"); JAX takes the part that XLA_PYTHON_CLIENT_MEM_FRACTION says, by default three quarters (its page "GPU memory
allocation"). They are needed where a program is shown the whole card. PyTorch has no such variable, only a call:
GPUSHARE_MEMORY_FRACTION is what to give it. Standard library only: the launcher imports this for tasks that need it.
"""

# What XLA leaves of a whole GPU by default, it leaves of a share: contexts and libraries take memory of their own.
OF_THE_SHARE = 0.75

OURS = "GPUSHARE_MEMORY_FRACTION"
XLA, NEW_XLA = "XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION"


def variables(card_share: float, gpus: int, tasks: int, present) -> dict[str, str]:
    """Return the variables of one of ``tasks`` tasks that share ``card_share`` of each of ``gpus`` GPUs.

    ``present`` is called for the value that a variable has already, None for none: what the user has set stays. What a
    step or a job inherits from a task is ours, which OURS tells.
    """
    own = _values(card_share / max(1, -(-tasks // gpus)))
    try:
        inherited = _values(float(present(OURS)))
    except (TypeError, ValueError):
        inherited = {}
    given = {name: value for name, value in own.items() if present(name) in (None, inherited.get(name))}
    if present(NEW_XLA) is not None:
        given.pop(XLA, None)  # jaxlib ends a program that has both
    return {**given, OURS: own[OURS]}


def _values(share: float) -> dict[str, str]:
    return {"TF_FORCE_GPU_ALLOW_GROWTH": "true", XLA: _text(share * OF_THE_SHARE), OURS: _text(share)}


def _text(fraction: float) -> str:
    """Return ``fraction`` rounded down to four decimals, above 0."""
    return f"{max(1, int(fraction * 10_000 + 1e-6)) / 10_000:.4f}"
