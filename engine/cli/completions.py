"""`bn completions`: the script that lets a shell complete bn's commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from engine.cli.options import out
from store.errors import OK


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """Print the completion script for a shell.

    bash: eval "$(bn completions bash)" in ~/.bashrc. zsh: the same in ~/.zshrc.
    fish: bn completions fish > ~/.config/fish/completions/bn.fish
    """
    from engine.cli.commands import commands

    made = get_completion_class(shell)
    assert made is not None
    out(made(commands, {}, "bn", "_BN_COMPLETE").source())
    return OK
