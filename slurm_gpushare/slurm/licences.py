"""Licences as `scontrol show licenses --json` tells them."""

import re
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
    free: int  # less than total - used where some are reserved or withheld
    remote: bool = False  # kept by slurmdbd, where sacctmgr changes it; else by slurm.conf
    withheld: int = 0  # what a remote one's LastConsumed takes from jobs (LastDeficit)


def parse_licences(text: str) -> dict[str, Licence]:
    """Read `scontrol show licenses --json`, by name; raises SlurmError when it is not that."""
    found = read_list(text, "licenses", _licence, "scontrol show licenses --json")
    return {licence.name: licence for licence in found}


def fetch_licences() -> dict[str, Licence]:
    """Ask slurmctld for all licences; raises SlurmError."""
    return parse_licences(run_slurm(["scontrol", "show", "licenses", "--json"], TIMEOUT))


def parse_choices(text: str) -> tuple[dict[str, int], ...]:
    """Read licences as jobs have them; each table is what would do: ``a:1,b`` is one of them, ``a:1|b:1`` are two.

    What a job was given is joined by semicolons (26.05). Raises ValueError when an item is not NAME or NAME:COUNT.
    """
    if not text:
        return ()
    return tuple(dict(_item(item) for item in re.split("[,;]", choice)) for choice in text.split("|"))


def _item(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"([^:=,|\s]+)(?:[:=]([0-9]+))?", text)
    if match is None:
        raise ValueError(f"{text!r} is not NAME:COUNT")
    return match[1], int(match[2] or 1)


def _licence(data: dict) -> Licence:
    return Licence(
        name=str(data["LicenseName"]),
        total=number(data.get("Total")) or 0,
        used=number(data.get("Used")) or 0,
        free=number(data.get("Free")) or 0,
        remote=data.get("Remote") is True,
        withheld=number(data.get("LastDeficit")) or 0,
    )
