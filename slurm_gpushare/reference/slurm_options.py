"""The options of sbatch, srun and salloc that are ours, from the table in spank/options.c."""

import re
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "spank/options.c"

_OPTION = re.compile(r"\t\[OPTION_\w+\] = \{\n(.*?)\n\t\},", re.DOTALL)
_FIELD = re.compile(r"\.(\w+) = (.*?),\n", re.DOTALL)
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class SlurmOption:
    """One option."""

    name: str  # without the dashes
    argument: str  # what its value looks like; empty: it takes none
    is_optional: bool  # whether the value may be left out
    meaning: str
    of_container: bool  # steps may have their own, and a variable sets it

    @property
    def written(self) -> str:
        """As it is typed."""
        value = f"={self.argument}" if self.argument else ""
        return f"--{self.name}{f'[{value}]' if self.is_optional else value}"

    @property
    def variable(self) -> str | None:
        """The variable of the user's environment that stands for it; None: there is none."""
        if not self.of_container or self.name.startswith("no-"):
            return None
        return "GPUSHARE_" + re.sub(r"[^a-z0-9]", "_", self.name).upper()


def slurm_options(text: str | None = None) -> list[SlurmOption]:
    """Read the table; raises ValueError where it is not of the form that this knows."""
    found = []
    for block in _OPTION.findall(SOURCE.read_text() if text is None else text):
        fields = dict(_FIELD.findall(block + "\n"))
        words = {key: "".join(_TEXT.findall(fields[key])) for key in ("name", "arginfo", "usage")}
        if not words["name"] or not words["usage"].startswith("[gpushare] "):
            raise ValueError(f"spank/options.c: {block!r} has no name, or a usage that does not begin with [gpushare]")
        found.append(
            SlurmOption(
                words["name"],
                words["arginfo"],
                fields["has_arg"] == "2",
                words["usage"].removeprefix("[gpushare] "),
                fields.get("for_task") == "true",
            )
        )
    if not found:
        raise ValueError("spank/options.c: no option found")
    return found
