"""All checks in the order in which they are printed, and the table of docs/doctor.md."""

from slurm_gpushare.doctor import check, install, node, services, slurmconf
from slurm_gpushare.doctor.check import ROLES

_ORDER = [module.__name__ for module in (slurmconf, install, services, node)]
CHECKS = sorted(check.CHECKS, key=lambda one: _ORDER.index(one.function.__module__))


def table() -> str:
    """Return the table of docs/doctor.md."""
    lines = ["| check | where | what it means | remedy |", "|---|---|---|---|"]
    lines += [
        f"| `{one.name}` | {'all' if one.roles == ROLES else ', '.join(one.roles)} | {one.meaning} | {one.remedy} |"
        for one in CHECKS
    ]
    return "\n".join(lines) + "\n"
