"""Slurm's TRES strings: ``billing=2,cpu=2,gres/gpu=2,gres/gpu:a100=2,mem=1000M,node=2``."""


def parse_tres(text: str) -> dict[str, str]:
    """Return name → amount as written; an empty text is an empty table."""
    pairs = (item.partition("=") for item in text.split(",") if item)
    return {name.strip(): amount.strip() for name, _, amount in pairs}


def gres_count(tres: dict[str, str], name: str) -> int:
    """Return how many of ``gres/name`` there are, 0 where there are none.

    Slurm lists typed GPUs beside their sum (``gres/gpu=2,gres/gpu:a100=2``): types count only where no sum stands.
    """
    whole = tres.get(f"gres/{name}")
    if whole is not None:
        return _count(whole)
    return sum(_count(amount) for key, amount in tres.items() if key.startswith(f"gres/{name}:"))


def gres_types(tres: dict[str, str], name: str) -> list[str]:
    """Return the types of ``gres/name`` in ``tres``."""
    prefix = f"gres/{name}:"
    return [key.removeprefix(prefix) for key in tres if key.startswith(prefix)]


def _count(amount: str) -> int:
    return int(amount) if amount.isascii() and amount.isdigit() else 0
