"""What checks are made of: files, what commands print, and answers of services. `host.py` gathers them from a host."""

import re
from dataclasses import dataclass, field

FETCHED = "/run/slurm/conf"

_SETTING = re.compile(r"^(\w+)(?:\[\d+\])?\s*=\s*(.*?)\s*$", re.MULTILINE)


class Unseen(Exception):
    """What a check needs cannot be seen from here, and why."""


class Missing(Unseen):
    """There is no such file."""


@dataclass(frozen=True)
class File:
    """A file or folder. ``data`` is None where it was not to be read; ``denied`` says why."""

    data: bytes | None = None
    uid: int = 0
    mode: int = 0o644  # permission bits, setuid among them
    mtime: float = 0.0
    denied: str = ""


@dataclass
class Facts:
    """What was seen of one host. Keys of ``files`` are paths, of ``outputs`` words of a command, of ``values`` names.

    A value that is an Unseen is raised when it is asked for.
    """

    roles: frozenset[str]
    root: bool = True
    files: dict[str, File] = field(default_factory=dict)
    outputs: dict[tuple[str, ...], str | Unseen] = field(default_factory=dict)
    values: dict[str, object] = field(default_factory=dict)

    def file(self, path: str) -> File:
        """Return what is at ``path``; raises Missing, or Unseen."""
        if path not in self.files:
            raise Missing(f"{path}: no such file")
        return self.files[path]

    def text(self, path: str) -> str:
        """Return the text at ``path``; raises Missing, or Unseen."""
        file = self.file(path)
        if file.data is None:
            raise Unseen(f"{path}: {file.denied or 'not read'}" + ("" if self.root else " (not root)"))
        return file.data.decode("utf-8", "replace")

    def out(self, *argv: str) -> str:
        """Return what a command prints; raises Unseen."""
        said = self.outputs.get(argv, Unseen(f"{' '.join(argv)}: not run"))
        if isinstance(said, Unseen):
            raise said
        return said

    def value(self, name: str) -> object:
        """Return an answer by its name; raises Unseen."""
        value = self.values.get(name, Unseen(f"{name}: not known"))
        if isinstance(value, Unseen):
            raise value
        return value

    def config(self) -> dict[str, list[str]]:
        """Return slurm.conf as it runs: each setting's values, "(null)" left out; raises Unseen."""
        found: dict[str, list[str]] = {}
        for name, value in _SETTING.findall(self.out("scontrol", "show", "config")):
            found.setdefault(name, []).extend([] if value == "(null)" else [value])
        return found

    def listed(self, name: str) -> list[str]:
        """Return a setting of slurm.conf that is a list with commas; raises Unseen."""
        return [word for value in self.config().get(name, []) for word in value.split(",") if word]

    def place(self, path: str) -> str:
        """Return where a file of Slurm's configuration is: at ``path``, or where Slurm keeps what a configless host
        has fetched (slurm.conf(5), "configless"); raises Missing.
        """
        fetched = f"{FETCHED}/{path.rpartition('/')[2]}"
        for each in (path, fetched):
            if each in self.files:
                return each
        raise Missing(f"{path}: no such file")

    def policy(self) -> dict:
        """Return the policy that this host knows, as node.json writes it; raises Unseen."""
        return self.value("node_policy")
