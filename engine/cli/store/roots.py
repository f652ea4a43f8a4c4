"""`bn store roots`: list what is kept for good, or let go of it."""

from __future__ import annotations

import time

import click

from engine.cli.options import json_option, note, open_store, out, print_json
from engine.spec.faults import nearest
from engine.units import show_size
from store.census import Census
from store.errors import OK, InputError
from store.index import Table
from store.roots import Root, roots
from store.space import size_of
from store.store import Store


@click.command()
@click.option("--remove", "removed", multiple=True, metavar="ROOT", help="Let go of a root.")
@json_option
def command(removed: tuple[str, ...], as_json: bool) -> int:
    """List what the collector keeps for good: the last result of each artifact, what ./result links
    lead to, what was imported.

    A link is a root while it is there: remove the link to let go of its result.
    """
    with open_store() as store:
        if removed:
            _remove(store, removed)
        census = Census(store.cas)
        rows = [
            {
                "root": root.key,
                "tree": root.tree,
                "time": root.time,
                "size": size_of(store, census, root),
                "live": root.live,
            }
            for root in roots(store.index)
        ]
    if as_json:
        print_json(rows)
        return OK
    for row in rows:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(float(str(row["time"]))))
        size = show_size(int(str(row["size"])))
        gone = "" if row["live"] else "  (leads elsewhere now)"
        out(f"{when} {size:>9} {str(row['tree'])[:16]} {row['root']}{gone}")
    return OK


def find_root(store: Store, name: str) -> Root | None:
    """Return the root whose key or name is `name`."""
    found = [root for root in roots(store.index) if name in (root.key, root.name)]
    return found[0] if found else None


def _remove(store: Store, names: tuple[str, ...]) -> None:
    known = [root.key for root in roots(store.index)]
    for name in names:
        root = find_root(store, name)
        if root is None:
            raise InputError(f"there is no root {name!r}", nearest(name, known, "roots"))
        store.index.edit(Table.ROOTS, [root.key], lambda key, value: None)
        note(f"let go of {root.key}; bn store gc frees what nothing else needs")
