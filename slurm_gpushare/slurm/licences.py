"""Licences as `scontrol show licenses --json` tells them."""

from dataclasses import dataclass

from slurm_gpushare.slurm.command import run_slurm
from slurm_gpushare.slurm.jsondata import number, read_list

TIMEOUT = 10.0  # seconds


@dataclass(frozen=True)
class Licence:
    """One kind of licence now."""

    name: str
    total: int
    used: int
    free: int  # less than total - used where some are reserved


def parse_licences(text: str) -> dict[str, Licence]:
    """Read `scontrol show licenses --json`, by name; raises SlurmError when it is not that."""
    found = read_list(text, "licenses", _licence, "scontrol show licenses --json")
    return {licence.name: licence for licence in found}


def fetch_licences() -> dict[str, Licence]:
    """Ask slurmctld for all licences; raises SlurmError."""
    return parse_licences(run_slurm(["scontrol", "show", "licenses", "--json"], TIMEOUT))


def _licence(data: dict) -> Licence:
    return Licence(
        name=str(data["LicenseName"]),
        total=number(data.get("Total")) or 0,
        used=number(data.get("Used")) or 0,
        free=number(data.get("Free")) or 0,
    )
