"""docs/install.md as a program: its fenced blocks of sh, each with the host that its first line names."""

import re
from dataclasses import dataclass
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs/install.md"
HOSTS = {
    "on a build host", "on every host", "on every host, by make", "on the controller", "on the accounting host",
    "on every node", "as a user",
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """The commands of one fenced block."""

    section: str  # the heading above it
    host: str  # one of HOSTS
    text: str


def read_guide(text: str) -> list[Block]:
    """Return the blocks in order; raises ValueError for one that names no host."""
    blocks, section = [], ""
    for part in re.split(r"^(## .*|```sh\n(?:.*\n)*?```)$", text, flags=re.MULTILINE):
        if part.startswith("## "):
            section = part[3:].strip()
        elif part.startswith("```sh\n"):
            first, _, rest = part.removeprefix("```sh\n").removesuffix("```").partition("\n")
            host = first.removeprefix("# ")
            if host not in HOSTS:
                raise ValueError(f"{section}: {first!r}: write one of {sorted(HOSTS)}")
            blocks.append(Block(section, host, rest))
    return blocks
