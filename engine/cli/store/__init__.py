"""`bn store`: look after what is kept."""

from __future__ import annotations

from typing import Final

import click

from engine.cli.lazy import LazyGroup

COMMANDS: Final = {
    "stat": "show the tiers: used, limit, measured speed",
    "ls": "list the blobs",
    "du": "say what holds the space, by root",
    "roots": "list what is kept for good, or let go of it",
    "gc": "remove what nothing needs any more",
    "verify": "check every blob and every entry of the index",
    "rebuild-index": "make the index again from the files alone",
    "export": "write a closure to one file",
    "import": "take in a closure from such a file",
    "add": "add a tier",
    "remove": "take a tier out of use",
    "clear": "empty a tier",
    "migrate": "move blobs between tiers",
    "browse": "look around in the store",
}
"""Every sub-command with its one-line help; its module has the name with `_` for `-`, and
`import_` for `import`."""


@click.group(cls=LazyGroup, table=COMMANDS, package="engine.cli.store")
def command() -> None:
    """Look after what is kept: tiers, roots, garbage, damage, archives."""
