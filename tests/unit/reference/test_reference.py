"""The generated pages and manuals are what the code says, and what they are made of is whole."""

import re
import shutil
import subprocess
from dataclasses import dataclass

import click
import pytest

from slurm_gpushare import errors
from slurm_gpushare.reference import commands, fields, roff
from slurm_gpushare.reference.pages import PAGES
from slurm_gpushare.reference.slurm_options import slurm_options
from slurm_gpushare.reference.statuses import STATUSES
from slurm_gpushare.reference.variables import INTERNAL, VARIABLES
from tests.documented import ROOT


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == PAGES[name](), "python -m slurm_gpushare.reference docs docs"


def test_every_field_says_what_it_is() -> None:
    assert [line for line in fields.page().splitlines() if line.endswith("|  |")] == []


def test_every_option_says_what_it_is() -> None:
    assert [(one.path, name) for one in commands.commands() for name, meaning in one.options if not meaning] == []


def test_meanings_come_from_comments() -> None:
    @dataclass
    class Example:
        # What is said before it,
        # in two lines.
        before: int | None
        behind: tuple[int, ...]  # None where unknown
        times: "float"

    assert fields.described(Example) == [
        ("before", "whole number, null", "What is said before it, in two lines."),
        ("behind", "list", "null where unknown"),
        ("times", "object", ""),
    ]


def test_every_exit_status_has_a_meaning() -> None:
    ours = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert ours <= set(STATUSES)


def test_every_variable_has_a_meaning() -> None:
    known = {*VARIABLES, *INTERNAL, *(one.variable for one in slurm_options())}
    found = set()
    for folder in ("slurm_gpushare", "etc", "spank", "job_scripts", "docs"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in {".py", ".lua", ".c", ".h", ".md", ".sbatch", ".sh", ".env", ".service"}:
                found |= set(re.findall(r"\bGPUSHARE_[A-Z_]*[A-Z]\b", file.read_text()))
    assert found - known == set(), "say what it is in slurm_gpushare/reference/variables.py"
    assert set(VARIABLES) <= found


def test_the_options_are_those_of_the_plugin() -> None:
    text = (ROOT / "spank/gpushare.h").read_text()
    listed = re.findall(r"^\tOPTION_(?!COUNT)\w+", text, re.MULTILINE)
    assert len(slurm_options()) == len(listed) > 9
    named = {one.name: one for one in slurm_options()}
    assert named["container-image"].variable == "GPUSHARE_CONTAINER_IMAGE"
    assert named["container-mount-home"].written == "--container-mount-home[=yes|no]"
    assert named["gpu-share"].variable is None
    with pytest.raises(ValueError, match="no option found"):
        slurm_options("")


def test_daemons_are_those_that_hand_their_arguments_on() -> None:
    context = click.Context(commands.cli, info_name="gpushare")
    handed_on = {
        f"gpushare {name}"
        for name in commands.cli.list_commands(context)
        if commands.cli.get_command(context, name).context_settings.get("ignore_unknown_options")
        and not commands.cli.get_command(context, name).add_help_option
    }
    assert handed_on == set(commands.DAEMONS)


def test_manuals_are_there_for_every_command() -> None:
    made = roff.manuals()
    assert {"gpushare.1", "gpushare-report-jobs.1", "gpushare.yaml.5", "gpushare.7"} <= set(made)
    assert r"\fB\-\-user\fR" not in made["gpushare-why.1"] and r"\-\-format" in made["gpushare-why.1"]


def test_escapes() -> None:
    assert roff.escaped(".TH a-b\n.x \\n 'q' …") == r"\&.TH a\-b" + "\n" + r"\&.x \en \(aqq\(aq \[u2026]"


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_nothing_against_the_manuals() -> None:
    # One run for all: each begins with .TH.
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-z"],
        input="".join(roff.manuals().values()),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
