"""`bn timeline`: what happened in builds."""

from __future__ import annotations

from typing import Final

import click

from engine.cli.lazy import LazyGroup

COMMANDS: Final = {
    "list": "list the recorded builds",
    "show": "show what happened in a build",
    "export": "write a build's events to a file",
    "verify": "check that every event is there as it was written",
    "diff": "compare two builds",
}
"""Every sub-command with its one-line help; its module has its name."""


@click.group(cls=LazyGroup, table=COMMANDS, package="engine.cli.timeline")
def command() -> None:
    """Look at what happened in builds: every event, in order, as it was written then.

    A BUILD is its id or how only that one begins, `last`, or `last~2` for the second before it.
    """
