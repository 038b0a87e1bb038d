"""docs/install.md as a program: its fenced blocks of sh, each with the host that its first line names."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.lab.cluster import Cluster

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


BLOCKS = read_guide(GUIDE.read_text())


def do(lab: Cluster, block: Block, nodes: tuple[str, ...], timeout: float = 120) -> str:
    """Run a block as it stands, where it says; every command of it must succeed. Returns what it printed."""
    # Hosts of the lab share one file system: what is installed on one is on every host.
    where = {"on every node": [{"node": node} for node in nodes], "as a user": [{"user": "alice"}]}
    said = ""
    for options in where.get(block.host, [{}]):
        done = lab.run("bash", "-e", stdin=block.text, check=False, timeout=timeout, **options)
        assert done.returncode == 0, f"{block.section}, {block.host}, {options}:\n{done.stdout}\n{done.stderr}"
        said += done.stdout + done.stderr
    return said


def follow(lab: Cluster, begins: str, nodes: tuple[str, ...] = ("n1", "n2"), timeout: float = 120) -> str:
    """Run all blocks of the section whose heading begins so. Returns what they printed."""
    blocks = [block for block in BLOCKS if block.section.startswith(begins)]
    assert blocks, begins
    return "".join(do(lab, block, nodes, timeout) for block in blocks)
