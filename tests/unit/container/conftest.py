"""The container's first program, compiled."""

import subprocess
from pathlib import Path

import pytest

INSIDE = Path(__file__).parents[3] / "etc/libexec/inside"


@pytest.fixture(scope="session")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """gpushare-inside, built as an administrator builds it, with warnings as errors."""
    build = tmp_path_factory.mktemp("inside")
    argv = ["make", "-C", str(INSIDE), f"BUILD={build}", "CFLAGS=-O2 -Werror"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return build / "gpushare-inside"


@pytest.fixture
def first_program(inside: Path):
    """Run it with words before the command, which is `true` unless another is given."""

    def run(*words: str, command: tuple[str, ...] = ("true",), **options: object) -> subprocess.CompletedProcess:
        argv = [str(inside), *words, "--", *command]
        return subprocess.run(argv, capture_output=True, text=True, check=False, **options)

    return run
