"""The generated pages of docs/ by their names."""

from collections.abc import Callable

from slurm_gpushare.reference import commands, fields
from slurm_gpushare.reference.commands import cell
from slurm_gpushare.reference.slurm_options import slurm_options
from slurm_gpushare.reference.statuses import STATUSES
from slurm_gpushare.reference.variables import VARIABLES

HEAD = """\
# Reference

*Written by `python -m slurm_gpushare.reference docs docs` from the code; do not edit.*

Elsewhere: [commands](commands.md), [settings of the policy](policy.md), [metrics](metrics.md), [JSON and CSV](json.md),
[what is enforced](enforcement.md). `make man` makes manual pages of the same.

## Options of sbatch, srun and salloc

Shares are also written in Slurm's own options: [requests.md](requests.md). Of an option with `[=…]` the value may be
left out, which means `yes`. The command line wins over the variable, the variable over the policy.
What an administrator's `prefix` does to the names: [coexistence.md](coexistence.md).
"""


def reference() -> str:
    """Return docs/reference.md."""
    options = [
        (f"`{one.written}`", f"`{one.variable}`" if one.variable else "", one.meaning) for one in slurm_options()
    ]
    variables = [(f"`{name}`", *what) for name, what in VARIABLES.items()]
    statuses = [(f"{status}", *what) for status, what in STATUSES.items()]
    return "\n".join(
        (
            HEAD,
            _table(("option", "variable", "meaning"), options),
            "\n## Variables\n\nBeside those of the options above:\n",
            _table(("variable", "set by", "meaning"), variables),
            "\n## Exit statuses\n\nThe line on stderr begins with `gpushare:`. All others are the program's own.\n",
            _table(("status", "meaning", "of", "what to do"), statuses),
            "",
        )
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(map(cell, row)) + " |" for row in rows])


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands.page,
    "reference.md": reference,
    "json.md": fields.page,
}
