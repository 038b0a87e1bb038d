"""A group of commands that are imported when they are used."""

import importlib

import click
from click.shell_completion import CompletionItem

from slurm_gpushare.errors import EXIT_BROKEN, GpushareError


class LazyGroup(click.Group):
    """A group that knows its subcommands by name and imports one only when it is used."""

    def __init__(self, *args: object, lazy: dict[str, tuple[str, str]], **options: object):
        """``lazy`` has for each name (module:object, what --help says without importing it)."""
        super().__init__(*args, **options)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        module, _, name = self._lazy[cmd_name][0].partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except ImportError as error:
            path = ctx.command_path + " " + cmd_name
            failure = GpushareError(f"`{path}` cannot be used: {error}; install slurm-gpushare again here")
            failure.exit_status = EXIT_BROKEN
            raise failure from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._lazy[name][1]) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin so, without importing the commands."""
        found = [CompletionItem(name, help=self._lazy[name][1]) for name in self.list_commands(ctx)]
        return [item for item in found if item.value.startswith(incomplete)] + click.Command.shell_complete(
            self, ctx, incomplete
        )
