"""``python -m slurm_gpushare.reference docs|man|completion FOLDER``: writes what is generated into a folder."""

import sys
from pathlib import Path

from slurm_gpushare.cli.completion import FILES, script
from slurm_gpushare.reference.pages import PAGES
from slurm_gpushare.reference.roff import manuals

WHAT = {
    "docs": lambda: {name: page() for name, page in PAGES.items()},
    "man": lambda: {f"man{name[-1]}/{name}": text for name, text in manuals().items()},
    "completion": lambda: {path: script(shell) for shell, path in FILES.items()},
}


def main(argv: list[str]) -> int:
    """Write; return the exit status."""
    if len(argv) != 2 or argv[0] not in WHAT:
        print(__doc__, file=sys.stderr)
        return 2
    for name, text in WHAT[argv[0]]().items():
        path = Path(argv[1], name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
