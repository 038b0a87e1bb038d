from pathlib import Path

from slurm_gpushare import backends
from slurm_gpushare.backends import enforcement

PAGE = Path(__file__).parents[3] / "docs/enforcement.md"


def test_the_page_is_what_the_backends_declare():
    assert PAGE.read_text() == enforcement.page(), "python -m slurm_gpushare.backends.enforcement > docs/enforcement.md"


def test_every_mode_of_every_backend_has_a_line():
    lines = enforcement.table().splitlines()[2:]
    assert len(lines) == sum(len(backends.find(name).MODES) for name in backends.NAMES)
    assert all(line.count("|") == 7 for line in lines)


def test_what_holds_without_conditions_is_bold():
    (shard,) = [line for line in enforcement.table().splitlines() if line.startswith("| **`shard`**")]
    assert shard.endswith("| **none** | **none** | **none** | the card |")
