"""`gpushare completion`: the real shells complete by it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_gpushare.cli.completion import FILES, script
from slurm_gpushare.cli.main import main

BIN = str(Path(sys.executable).parent)


def in_bash(line: str) -> list[str]:
    """Return what bash offers after ``line``, whose last word is being typed."""
    words = line.split(" ")
    text = (
        f"{script('bash')}\nCOMP_WORDS=({' '.join(map(repr, words))})\nCOMP_CWORD={len(words) - 1}\n"
        "$(complete -p gpushare | sed 's/.*-F \\([^ ]*\\) .*/\\1/') gpushare\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    # -O extglob and no files of the user's: what is tried is the script alone.
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", text],
        env={"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": "/"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_options_and_values() -> None:
    assert in_bash("gpushare st") == ["status", "study"]
    assert in_bash("gpushare report eff") == ["efficiency"]
    assert "--format" in in_bash("gpushare report jobs --fo")
    assert in_bash("gpushare report jobs --format c") == ["csv"]
    assert in_bash("gpushare completion z") == ["zsh"]


@pytest.mark.parametrize("shell", FILES)
def test_each_shell_can_read_its_script(shell: str, capsys, tmp_path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", shell])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and text == script(shell) and "_GPUSHARE_COMPLETE" in text
    if shutil.which(shell) is not None:
        (tmp_path / "script").write_text(text)
        subprocess.run([shell, "-n", tmp_path / "script"], check=True)


def test_another_shell_is_refused(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", "csh"])
    assert ended.value.code == 2 and "csh" in capsys.readouterr().err


def test_completing_imports_no_command() -> None:
    code = (
        "import sys, click\nfrom slurm_gpushare.cli.main import cli\n"
        "found = cli.shell_complete(click.Context(cli), 'r')\n"
        "print([item.value for item in found], 'slurm_gpushare.cli.report' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['report'] False\n"
