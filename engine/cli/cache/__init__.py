"""`bn cache`: what the caches are good for."""

from __future__ import annotations

from typing import Final

import click

from engine.cli.lazy import LazyGroup

COMMANDS: Final = {
    "stat": "show hit rates and the time that they saved",
    "taint": "list all that was built from a bad entry",
}
"""Every sub-command with its one-line help; its module has its name."""


@click.group(cls=LazyGroup, table=COMMANDS, package="engine.cli.cache")
def command() -> None:
    """Look at what the caches are good for, here and on a server."""
