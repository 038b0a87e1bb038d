"""The command line's frame: lazy commands, one line for each error, exit statuses."""

import importlib
import subprocess
import sys

import click
import pytest

from slurm_gpushare.cli import main as module
from slurm_gpushare.errors import RefusedError


def run(*argv: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        module.main(list(argv))
    return caught.value.code


def command(monkeypatch, action) -> None:
    """Make `gpushare explain` a command that does ``action``."""
    fake = click.Command("explain", callback=action)
    monkeypatch.setattr(importlib, "import_module", lambda name: type("M", (), {"explain": fake}))


def test_help_names_every_command_and_imports_none(capsys) -> None:
    assert run("--help") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in module.COMMANDS)
    code = (
        "import sys; from slurm_gpushare.cli.main import main\n"
        "try: main(['--help'])\nfinally: print([m for m in sys.modules if 'cli.' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['slurm_gpushare.cli.lazy', 'slurm_gpushare.cli.main']"


def test_version(capsys) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("gpushare, version ")


@pytest.mark.parametrize("argv", [["nonsense"], ["--nonsense"], ["policy", "nonsense"], ["explain", "--nonsense"], []])
def test_wrong_usage_is_one_line_and_2(capsys, argv: list[str]) -> None:
    assert run(*argv) == 2
    if argv:
        err = capsys.readouterr().err
        assert err.startswith("gpushare: ") and err.count("\n") == 1 and "--help" in err


def test_a_command_that_cannot_be_imported_fails_when_used(capsys, monkeypatch) -> None:
    monkeypatch.setitem(module.COMMANDS, "agent", ("slurm_gpushare.cli.nothing_here:agent", "x"))
    assert run("--help") == 0
    capsys.readouterr()
    assert run("agent") == 78
    err = capsys.readouterr().err
    assert err.startswith("gpushare: `gpushare agent` cannot be used: ") and err.count("\n") == 1


@pytest.mark.parametrize("name", sorted(module.COMMANDS))
def test_every_command_is_where_the_table_says(name: str) -> None:
    place, _, attribute = module.COMMANDS[name][0].partition(":")
    assert isinstance(getattr(importlib.import_module(place), attribute), click.Command)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (RefusedError("no: write yes"), 77, "gpushare: no: write yes\n"),
        (FileNotFoundError(2, "No such file or directory", "/x"), 1, "gpushare: /x: No such file or directory\n"),
        (KeyboardInterrupt(), 130, ""),
        (click.ClickException("bad"), 1, "gpushare: bad\n"),
    ],
)
def test_errors_are_lines_and_statuses(capsys, monkeypatch, error: BaseException, status: int, line: str) -> None:
    def action() -> None:
        raise error

    command(monkeypatch, action)
    assert run("explain") == status
    assert capsys.readouterr().err.endswith(line)


def test_a_command_sets_its_own_status(monkeypatch) -> None:
    command(monkeypatch, lambda: click.get_current_context().exit(3))
    assert run("explain") == 3
    command(monkeypatch, lambda: None)
    assert run("explain") == 0


def test_a_reader_that_left_is_no_traceback() -> None:
    code = (
        "import sys, click\nfrom slurm_gpushare.cli.main import main, cli\n"
        "@cli.command()\ndef many():\n [click.echo('x' * 1000) for _ in range(1000)]\n"
        "import slurm_gpushare.cli.lazy as m\nm.LazyGroup.get_command = click.Group.get_command\nmain(['many'])"
    )
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    writer.stdout.close()
    _, err = writer.communicate()
    assert writer.returncode == 1 and err == ""
