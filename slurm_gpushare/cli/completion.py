"""`gpushare completion`: what makes a shell complete the commands and options of gpushare."""

import click
from click.shell_completion import get_completion_class

# Where shells look for it, below a prefix's `share`.
FILES = {
    "bash": "bash-completion/completions/gpushare",
    "zsh": "zsh/site-functions/_gpushare",
    "fish": "fish/vendor_completions.d/gpushare.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(tuple(FILES)))
def completion(shell: str) -> None:
    """Print the completion of gpushare for a shell, such as: source <(gpushare completion bash)

    `make install` puts it where bash, zsh and fish find it by themselves when the prefix's bin is in PATH.
    """
    click.echo(script(shell), nl=False)


def script(shell: str) -> str:
    """Return the script for one of FILES."""
    found = get_completion_class(shell)
    made = found(click.Command("gpushare"), {}, "gpushare", "_GPUSHARE_COMPLETE")
    # source() of bash would start the bash of this host to ask for its version.
    return made.source_template % made.source_vars() + "\n"
