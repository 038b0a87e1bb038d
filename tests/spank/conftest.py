"""The plugin, built for each Slurm that is tried: as Slurm loads it, and with a mock of Slurm under the sanitizers."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SPANK = HERE.parents[1] / "spank"
sys.path.insert(0, str(HERE))  # pytest imports by path, so the folder's own modules must be findable

import slurm_headers  # noqa: E402

SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
WARNINGS = ["-std=gnu11", "-Wall", "-Wextra", "-Wshadow", "-Werror"]


@dataclass(frozen=True)
class Headers:
    """One Slurm to build against."""

    include: Path
    version: tuple[int, int]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that needs Slurm's headers once for each set of them; nothing is fetched before a test runs."""
    if "headers" in metafunc.fixturenames:
        sources = [str(path) for path in slurm_headers.given()] or list(slurm_headers.SUITES)
        metafunc.parametrize("headers", sources, indirect=True, scope="session")


@pytest.fixture(scope="session")
def headers(request: pytest.FixtureRequest) -> Headers:
    """Slurm's headers; a machine that cannot get them skips the test, continuous integration fails it."""
    try:
        include = Path(request.param) if slurm_headers.given() else slurm_headers.fetch(request.param)
    except slurm_headers.HeadersMissing as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
    return Headers(include, slurm_headers.version(include))


@pytest.fixture(scope="session")
def plugin(headers: Headers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """gpushare.so, built as an administrator builds it, with warnings as errors."""
    build = tmp_path_factory.mktemp("plugin")
    argv = ["make", "-C", str(SPANK), f"BUILD={build}", f"SLURM_INCLUDE={headers.include}", "CFLAGS=-O2 -g -Werror"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return build / "gpushare.so"


@dataclass(frozen=True)
class Outcome:
    """What the plugin did under the mock."""

    status: int
    stderr: str
    lines: tuple[tuple[str, ...], ...]

    def all(self, kind: str) -> list[tuple[str, ...]]:
        """Return the reported lines of one kind, without the kind."""
        return [line[1:] for line in self.lines if line[0] == kind]

    @property
    def argv(self) -> list[str]:
        """The words that were put in front of the task's command."""
        return [word for (word,) in self.all("argv")]

    @property
    def errors(self) -> list[str]:
        """What slurm_error() was told."""
        return [text for level, text in self.all("log") if level == "error"]

    @property
    def notices(self) -> list[str]:
        """What slurm_info() was told."""
        return [text for level, text in self.all("log") if level == "info"]

    @property
    def forwarded(self) -> dict[str, str]:
        """The options that Slurm would send on to the node."""
        return dict(self.all("forward"))

    @property
    def calls(self) -> int:
        """How many calls into Slurm or for memory the plugin made."""
        return int(self.all("calls")[0][0])


@dataclass(frozen=True)
class Driver:
    """The plugin linked with the mock."""

    program: Path

    def __call__(self, *words: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> Outcome:
        """Run the driver with ``words``; a report of a sanitizer or of the mock itself fails the test."""
        done = subprocess.run(
            [str(self.program), *words],
            capture_output=True,
            text=True,
            cwd=cwd,
            env={"PATH": "/usr/bin:/bin", **(env or {})},
        )
        assert done.returncode in (0, 1, 78), f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
        lines = tuple(tuple(line.split("\t")) for line in done.stdout.splitlines())
        return Outcome(done.returncode, done.stderr, lines)


@pytest.fixture(scope="session")
def driver(headers: Headers, tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """The plugin's own sources with the mock, under AddressSanitizer and UndefinedBehaviorSanitizer."""
    build = tmp_path_factory.mktemp("driver")
    (build / "slurm").symlink_to(headers.include / "slurm")
    program = build / "driver"
    sources = [str(path) for path in sorted([*SPANK.glob("*.c"), HERE / "mock_spank.c", HERE / "driver.c"])]
    argv = ["gcc", "-g", "-O1", *WARNINGS, *SANITIZE, "-isystem", str(build), *sources]
    argv += ["-Wl,--wrap=strdup,--wrap=asprintf", "-o", str(program)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Driver(program)
