"""Every command of `gpushare` as click, and the daemons' own parsers, declare it: docs/commands.md."""

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import click

from slurm_gpushare.cli.main import cli

# Commands that become a process of their own, whose parser is argparse's.
DAEMONS = {
    "gpushare agent": "slurm_gpushare.metrics.agent",
    "gpushare idle": "slurm_gpushare.idle.keeper",
    "gpushare watch": "slurm_gpushare.watch.watcher",
}
HEAD = """\
# Commands

*Written by `python -m slurm_gpushare.reference docs docs` from the commands themselves; do not edit.*

Each answers `--help`. Exit statuses are in [reference.md](reference.md), the fields of `--format json` in
[json.md](json.md).
"""


@dataclass(frozen=True)
class Command:
    """One command as a manual shows it."""

    path: str  # as it is typed: gpushare report jobs
    usage: str  # what may follow
    text: tuple[str, ...]  # paragraphs
    options: tuple[tuple[str, str], ...]  # how an option is written, and what it means
    below: tuple[str, ...]  # the names of its commands

    @property
    def summary(self) -> str:
        """The first sentence, without its full stop."""
        return self.text[0].split(". ")[0].rstrip(".")


def commands() -> list[Command]:
    """Return all commands, each group before what it holds."""
    return list(_walk(cli, None, "gpushare"))


def page() -> str:
    """Return docs/commands.md."""
    return HEAD + "".join(map(_section, commands()))


def _walk(command: click.Command, parent: click.Context | None, name: str) -> Iterator[Command]:
    context = click.Context(command, parent=parent, info_name=name)
    below = command.list_commands(context) if isinstance(command, click.Group) else []
    text = tuple(" ".join(part.split()) for part in inspect.cleandoc(command.help or "").split("\n\n"))
    path = context.command_path
    if path in DAEMONS:
        usage, options = "[OPTIONS]", tuple(_argparse_options(DAEMONS[path]))
    else:
        usage = " ".join(command.collect_usage_pieces(context))
        options = tuple(_click_options(command, context))
    yield Command(path, usage, text, options, tuple(below))
    for name in below:
        yield from _walk(command.get_command(context, name), context, name)


def _click_options(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    for parameter in command.params:
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)) is not None:
            yield record[0], " ".join(record[1].split())


def _argparse_options(module: str) -> Iterator[tuple[str, str]]:
    for action in importlib.import_module(module).build_parser()._actions:
        if action.dest != "help":
            # The default of --node is this very host.
            default = "the host's" if action.dest == "node" else action.default
            metavar = action.metavar or action.dest.replace("_", "-").upper()
            yield f"{', '.join(action.option_strings)} {metavar}", action.help % {"default": default}


def _section(command: Command) -> str:
    lines = ["", f"## `{command.path}`", "", f"`{command.path} {command.usage}`", ""]
    for paragraph in command.text:
        lines += [paragraph, ""]
    if command.options:
        lines += ["| option | meaning |", "|---|---|"]
        lines += [f"| `{cell(name)}` | {cell(meaning)} |" for name, meaning in command.options]
    elif command.below:
        lines.append("Commands: " + ", ".join(f"`{name}`" for name in command.below))
    return "\n".join(lines).rstrip() + "\n"


def cell(text: str) -> str:
    """Return the text as it stands in a table of Markdown."""
    return text.replace("|", "\\|")
