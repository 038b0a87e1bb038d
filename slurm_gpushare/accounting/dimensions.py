"""What usage can be summed by. Standard library only: the command reads it, and starts quickly."""

from slurm_gpushare.errors import RequestError

DIMENSIONS = ("cluster", "user", "account", "partition", "qos", "backend", "gpu", "node")
CALENDAR = ("day", "week", "month")
BY = (*DIMENSIONS, *CALENDAR)


def parse_by(text: str) -> tuple[str, ...]:
    """Return the dimensions of a list such as ``account,month``; raises RequestError, which names what is none."""
    names = tuple(word.strip() for word in text.split(","))
    for name in names:
        if name not in BY:
            raise RequestError(f"{name!r} is nothing to sum by: write one or more of {', '.join(BY)}")
    if len(set(names)) != len(names) or len(set(names) & set(CALENDAR)) > 1:
        raise RequestError(f"{text!r}: each at most once, and of {', '.join(CALENDAR)} only one")
    return names
