"""On what the figures were measured, in words that name no machine."""

import os
import platform


def machine(slurm: str | None = None) -> str:
    """Return the class of this machine and how busy it is: cores, kernel, Python, Slurm where it took part, load."""
    words = [
        f"{len(os.sched_getaffinity(0))} cores ({platform.machine()})",
        f"Linux {'.'.join(platform.release().split('.')[:2])}",
        f"Python {platform.python_version()}",
    ]
    if slurm:
        words.append(slurm)
    return ", ".join([*words, f"load {os.getloadavg()[0]:.1f}"])
