"""`bn store import`: take in a closure from a file."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli.options import json_option, note, open_store, out, print_json
from store.errors import OK
from store.unarchive import import_


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def command(file: Path, as_json: bool) -> int:
    """Take in what bn store export wrote, every digest checked, and print its roots.

    A file that is damaged, or holds anything else, is refused as a whole. Results of actions in it
    are believed: take them only from somebody whose builds you trust.
    """
    with open_store() as store:
        contents = import_(store, file)
    if as_json:
        print_json(
            {
                "roots": dict(contents.roots),
                "blobs": len(contents.blobs),
                "results": len(contents.actions),
            }
        )
        return OK
    for name, tree in sorted(contents.roots.items()):
        out(f"{tree} {name}")
    note(f"{len(contents.blobs)} blobs, {len(contents.actions)} results")
    return OK
