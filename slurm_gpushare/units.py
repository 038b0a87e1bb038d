"""Amounts as people write and read them: memory, nodes.

Standard library only: the job's path may import this file.
"""

import re

MIB = 1024**2

# Slurm's suffixes are powers of 1024 (slurm.conf, sbatch --mem), and so are nvidia-smi's MiB.
_MEMORY_UNITS = {"k": 1024, "m": MIB, "g": 1024**3, "t": 1024**4}
_MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGTkmgt])(iB)?")
_SLURM_MEMORY = re.compile(r"([0-9]{1,12})([KMGTkmgt])?[Bb]?")
_NODES = re.compile(r"([0-9]+)(?:-([0-9]+))?")


def parse_memory(text: str) -> int:
    """Return the bytes that ``text`` names, such as ``16280 MiB``, ``16 GiB`` or Slurm's ``16G`` (1024 based).

    Raises
    ------
    ValueError
        The text has no unit, a decimal one (MB, GB), is no amount, or is not a whole number of bytes above 0.
    """
    match = _MEMORY.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not an amount of memory: write it with its unit, such as 16280 MiB or 16 GiB")
    amount = float(match[1]) * _MEMORY_UNITS[match[2].lower()]
    if amount < 1 or amount != int(amount):
        raise ValueError(f"{text!r} is not a whole number of bytes above 0: write it in MiB, such as 16280 MiB")
    return int(amount)


def parse_slurm_memory(text: str) -> int:
    """Return the MiB that sbatch's ``--mem`` names: ``500`` (MiB), ``500M``, ``2G``, ``1T``.

    Raises
    ------
    ValueError
        The text is not such an amount.
    """
    match = _SLURM_MEMORY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not an amount of memory: write it as sbatch does, such as 500M or 2G")
    return -(-int(match[1]) * _MEMORY_UNITS[(match[2] or "m").lower()] // MIB)


def format_memory(size: int) -> str:
    """Return ``size`` bytes in MiB, rounded to a tenth where it is not whole: ``4070 MiB``."""
    return f"{size // MIB} MiB" if size % MIB == 0 else f"{size / MIB:.1f} MiB"


def format_fraction(fraction: float) -> str:
    """Return a fraction as users write it: ``0.25``, ``1``."""
    return f"{fraction:.6f}".rstrip("0").rstrip(".")


def parse_nodes(text: str) -> tuple[int, int]:
    """Return the least and the most nodes that sbatch's ``-N`` names: ``2`` (2, 2), ``1-3`` (1, 3).

    Raises
    ------
    ValueError
        The text is not a number of nodes or a range.
    """
    match = _NODES.fullmatch(text.strip())
    if match is None or int(match[1]) < 1:
        raise ValueError(f"{text!r} is not a number of nodes: write a number from 1 on, such as 2")
    low = int(match[1])
    high = low if match[2] is None else int(match[2])
    if high < low:
        raise ValueError(f"{text!r} is a range that ends before it begins: write {high}-{low}")
    return low, high
