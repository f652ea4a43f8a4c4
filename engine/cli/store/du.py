"""`bn store du`: say what holds the space, by root."""

from __future__ import annotations

import click
from attrs import asdict

from engine.cli.options import json_option, open_store, out, print_json
from engine.retention import claims
from engine.units import show_size
from store.errors import OK
from store.space import shares


@click.command()
@json_option
def command(as_json: bool) -> int:
    """Say how many bytes each root needs, and how many nothing else needs.

    What recent builds need counts together. What nothing needs goes with the next bn store gc.
    """
    with open_store() as store:
        rows = shares(store, claims(store)[0])
    if as_json:
        print_json([asdict(row) for row in rows])
        return OK
    out(f"{'total':>9} {'alone':>9} {'blobs':>8}  needed by")
    for row in rows:
        sizes = f"{show_size(row.bytes):>9} {show_size(row.alone):>9}"
        out(f"{sizes} {row.blobs:>8}  {row.name}")
    return OK
