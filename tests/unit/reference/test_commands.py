"""Every command in the pages, as far as it can be tried without a cluster: the real parsers take it."""

import importlib
import re

import click
import pytest
import yaml

from slurm_gpushare.cli.main import cli
from slurm_gpushare.policy.load import load_policy
from slurm_gpushare.reference.commands import DAEMONS
from slurm_gpushare.reference.pages import PAGES as GENERATED
from slurm_gpushare.reference.slurm_options import slurm_options
from tests.documented import PAGES, ROOT, SUBMIT, Typed, blocks, is_placeholder, typed

# The first words of commands that are read here and no more, and why.
ONLY_READ = {
    "apt-get": "installs packages; in docs/install.md tests/lab/test_install.py runs it",
    "cat": "the reader's own files; docs/install.md likewise",
    "cp": "as cat",
    "echo": "as cat",
    "find": "as cat",
    "ln": "as cat",
    "reportseff": "a program of others",
    "rm": "as cat",
    "sacctmgr": "changes a site's database; each lab with a placed pool runs it (lab/pool.py)",
    "scontrol": "changes Slurm; docs/install.md likewise",
    "sed": "as cat",
    "systemctl": "needs systemd; docs/install.md likewise",
    "test": "as cat",
    "case": "of the shell",
}
# Files in YAML that are no policy, by their first key.
NOT_A_POLICY = {"scrape_configs", "groups"}
OURS = re.compile(r"--(?:no-)?(?:gpushare-)?(?:container-(?!id$)|dataset|gpu-share|gpu-mem|gpu-backend)[a-z-]*")

COMMANDS = typed()


def gpushare_words(command: Typed) -> list[str] | None:
    """Return what follows `gpushare`; None where it is another command."""
    words = command.words
    return words[1:] if words and words[0].rpartition("/")[2] == "gpushare" else None


def complaint(words: list[str], is_whole: bool) -> str | None:
    """Return what the real parser says against the words; None: nothing."""
    command, context = cli, click.Context(cli, info_name="gpushare")
    while isinstance(command, click.Group) and words and not words[0].startswith("-") and not is_placeholder(words[0]):
        name, *words = words
        if "|" in name:
            name = name.split("|")[0]
        command = command.get_command(context, name)
        if command is None:
            return f"{context.command_path} has no command {name}"
        context = click.Context(command, parent=context, info_name=name)
    if context.command_path in DAEMONS:
        known = importlib.import_module(DAEMONS[context.command_path]).build_parser()._option_string_actions
        return next((word for word in words if word.startswith("--") and word.partition("=")[0] not in known), None)
    words = [word.split("|")[0] for word in words if word[0] != "["]
    try:
        values, _, _ = command.make_parser(context).parse_args(list(words))
        for parameter in command.params:
            value = values.get(parameter.name)
            if isinstance(value, str) and not is_placeholder(value):
                parameter.type_cast_value(context, (value,) if parameter.multiple else value)
            elif is_whole and parameter.required and not (isinstance(value, (str, tuple, list)) and value):
                return f"{parameter.name} is missing"
    except click.ClickException as error:
        return error.format_message()
    return None


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_what_is_written_can_be_typed(command: Typed) -> None:
    words = command.words
    ours = gpushare_words(command)
    if ours is not None:
        assert complaint(ours, command.is_whole) is None
        if "--" in ours:
            inner = ours[ours.index("--") + 1 :]
            assert inner[0] != "gpushare" or complaint(inner[1:], command.is_whole) is None
    elif words[0] == "make":
        text = (ROOT / "Makefile").read_text() + (ROOT / "packaging/install.mk").read_text()
        targets = [word for word in words[1:] if re.fullmatch(r"[a-z-]{3,}", word)]
        assert all(re.search(rf"^(?:[a-z-]+ )*{name}(?: [a-z-]+)*:", text, re.MULTILINE) for name in targets)
    elif words[0] in SUBMIT:
        pass  # below; of Slurm's own options tests/lab/test_documented.py asks the real command
    else:
        first = next((word for word in words if not re.fullmatch(r"[A-Z_]+=.*", word)), "")
        assert first.rpartition("/")[2] in ONLY_READ, f"{command}: say in ONLY_READ why it is not run"


def test_a_wrong_command_is_found() -> None:
    for words in (["reprot"], ["report", "jobs", "--frmat=json"], ["report", "usage", "--format", "xml"], ["why"]):
        assert complaint(words, True) is not None
    assert complaint(["agent", "--nod", "n1"], True) is not None
    assert complaint(["why", "12"], True) is None


def test_our_options_of_sbatch_exist() -> None:
    known = {f"--{one.name}" for one in slurm_options()}
    known |= {f"--gpushare-{one.name}" for one in slurm_options() if one.of_container}
    pages = [page for page in PAGES if page.name not in GENERATED]
    found = {name for page in pages for name in OURS.findall(page.read_text())}
    assert found - known - {"--container-", "--gpushare-container-", "--no-container-"} == set()
    assert {"--gpu-share", "--container-image", "--dataset"} <= found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_policy_shown_is_valid(page, tmp_path) -> None:
    for number, block in enumerate(blocks(page, "yaml")):
        data = yaml.safe_load(block)
        if not NOT_A_POLICY & set(data):
            file = tmp_path / f"{number}.yaml"
            file.write_text(block)
            load_policy(str(file))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_lists_every_page() -> None:
    listed = set(re.findall(r"\]\(docs/([a-z-]+\.md)\)", (ROOT / "README.md").read_text()))
    assert {page.name for page in PAGES} - {"README.md"} - listed == set()
