"""What the profiles of MIG and vGPU are: profiles.yaml beside this file, by the model of the GPU."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import yaml

from slurm_gpushare.errors import PolicyError
from slurm_gpushare.units import MIB

WAYS = ("mig", "vgpu")


@dataclass(frozen=True)
class GpuProfile:
    """A part into which a GPU of one model can be divided."""

    gpu: str  # the model
    way: str  # mig | vgpu
    name: str
    fraction: Fraction  # of one GPU
    memory: int | None  # bytes; None where it is not known


@cache
def table() -> dict[tuple[str, str, str], GpuProfile]:
    """Return all profiles by way, model and name, in the order of the file."""
    with open(os.path.join(os.path.dirname(__file__), "profiles.yaml"), encoding="utf-8") as stream:
        models = yaml.safe_load(stream)
    return {
        (way, gpu, name): GpuProfile(
            gpu, way, name, Fraction(row["fraction"]), None if row["memory"] is None else row["memory"] * MIB
        )
        for gpu, ways in models.items()
        for way, rows in ways.items()
        for name, row in rows.items()
    }


def models(way: str) -> list[str]:
    """Return the models that are divided by ``way``."""
    return list(dict.fromkeys(gpu for known, gpu, _ in table() if known == way))


def names(way: str, gpu: str) -> list[str]:
    """Return the profiles of a model, none where it is not known."""
    return [name for known, model, name in table() if (known, model) == (way, gpu)]


def find_profile(way: str, gpu: str, name: str) -> GpuProfile:
    """Return one profile; raises PolicyError when the table has none of that name."""
    found = table().get((way, gpu, name))
    if found is None:
        raise PolicyError(f"{gpu} {name} is no {way} profile: write one that `gpushare policy profiles` lists")
    return found


def rows() -> Iterator[dict]:
    """Yield the profiles as `gpushare policy profiles` prints them."""
    for each in table().values():
        yield {
            "gpu": each.gpu,
            "backend": each.way,
            "profile": each.name,
            "fraction": f"{each.fraction.numerator}/{each.fraction.denominator}" if each.fraction < 1 else "1",
            "memory_mib": None if each.memory is None else each.memory // MIB,
        }
