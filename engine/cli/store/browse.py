"""`bn store browse`: a walk through roots and the trees below them."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click
from attrs import frozen

from engine.cli.options import json_option, note, open_store, out, print_json
from engine.spec.faults import nearest
from engine.units import show_size
from store.cas import Cas
from store.digest import Digest, is_digest
from store.errors import OK, BnError, InputError
from store.objects import Directory, Entry, File, Link
from store.roots import roots
from store.store import Store
from store.trees import find

SHOWN_BYTES = 4000
"""Bytes of a file that a walk shows."""


@frozen
class Place:
    """Where a walk stands: at the roots, or at a path below one of them."""

    root: str = ""
    path: str = ""

    def below(self, name: str) -> Place:
        """Return the place of an entry here."""
        if not self.root:
            return Place(name)
        return Place(self.root, f"{self.path}/{name}" if self.path else name)

    def above(self) -> Place:
        """Return the place that this one is in."""
        if not self.path:
            return Place()
        return Place(self.root, self.path.rpartition("/")[0])

    def __str__(self) -> str:
        return "/".join(filter(None, (self.root, self.path))) or "roots"


@click.command()
@click.argument("path", required=False, metavar="[ROOT[/PATH]]")
@json_option
def command(path: str | None, as_json: bool) -> int:
    """Look at what the roots hold: walk with numbers and names, or list one place.

    ROOT is the name of an artifact (bn store roots) or the digest of a tree. Without a terminal
    the place is listed.
    """
    with open_store() as store:
        trees = _trees(store)
        place = _place(trees, path or "")
        if as_json:
            print_json([_document(store.cas, *row) for row in listing(store.cas, trees, place)])
        elif sys.stdin.isatty() and sys.stdout.isatty():
            _walk(store.cas, trees, place)
        else:
            for name, entry in listing(store.cas, trees, place):
                out(_line(store.cas, name, entry))
    return OK


def _trees(store: Store) -> dict[str, Digest]:
    """Return the live roots by name."""
    return {root.name: root.tree for root in roots(store.index) if root.live}


def _place(trees: dict[str, Digest], text: str) -> Place:
    """Return the place that `ROOT/PATH` names; a digest becomes a root. Raises InputError."""
    text = text.rstrip("/")
    if not text:
        return Place()
    head = text.partition("/")[0]
    if is_digest(head):
        trees[head] = Digest(head)
    fitting = [name for name in trees if text == name or text.startswith(f"{name}/")]
    if not fitting:
        raise InputError(f"there is no root {head!r}", nearest(head, trees, "roots"))
    root = max(fitting, key=len)
    return Place(root, text[len(root) + 1 :])


def listing(cas: Cas, trees: dict[str, Digest], place: Place) -> Iterator[tuple[str, Entry]]:
    """Yield what is at a place: its entries if it is a directory, else itself.

    Raises InputError where nothing is there.
    """
    if not place.root:
        for name, tree in sorted(trees.items()):
            yield name, Directory(tree)
        return
    entry = find(cas, trees[place.root], place.path)
    if entry is None:
        raise InputError(f"{place}: there is no such file or directory")
    if isinstance(entry, Directory):
        yield from cas.get_tree(entry.digest).sorted()
    else:
        yield place.path.rpartition("/")[2], entry


def _line(cas: Cas, name: str, entry: Entry) -> str:
    match entry:
        case File(digest, size, executable):
            where = _tiers(cas, digest)
            return f"{'exec' if executable else 'file'} {show_size(size):>8}  {name}  {where}"
        case Directory():
            return f"tree {'':>8}  {name}/"
        case Link(target):
            return f"link {'':>8}  {name} -> {target}"


def _tiers(cas: Cas, digest: Digest) -> str:
    """Return in which tiers a blob lies."""
    found = [tier.name for tier in cas.tier_set.readable() if tier.holds(digest)]
    return f"({', '.join(found)})" if found else "(missing)"


def _document(cas: Cas, name: str, entry: Entry) -> dict[str, object]:
    match entry:
        case File(digest, size, executable):
            tiers = [tier.name for tier in cas.tier_set.readable() if tier.holds(digest)]
            return {
                "name": name,
                "kind": "file",
                "digest": digest,
                "size": size,
                "executable": executable,
                "tiers": tiers,
            }
        case Directory(digest):
            return {"name": name, "kind": "tree", "digest": digest}
        case Link(target):
            return {"name": name, "kind": "link", "target": target}


def _walk(cas: Cas, trees: dict[str, Digest], place: Place) -> None:
    """Show places and ask where to go, until that is nowhere."""
    while True:
        try:
            rows = list(listing(cas, trees, place))
        except BnError as error:
            note(error.render())
            place = place.above()
            continue
        _show(cas, place, rows)
        answer = click.prompt(
            "number or name, .. for up, q to quit", default="q", show_default=False
        )
        if answer == "q":
            return
        if answer == "..":
            place = place.above()
            continue
        names = [name for name, _ in rows]
        if answer.isdigit() and answer not in names and 0 < int(answer) <= len(names):
            answer = names[int(answer) - 1]
        if answer.rstrip("/") not in names:
            note(f"there is no {answer!r} here")
            continue
        name = answer.rstrip("/")
        entry = dict(rows)[name]
        if isinstance(entry, Directory):
            place = place.below(name)
        elif isinstance(entry, File):
            _show_file(cas, entry)


def _show(cas: Cas, place: Place, rows: list[tuple[str, Entry]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=str(place), title_justify="left", box=None, show_header=False)
    for number, (name, entry) in enumerate(rows, 1):
        line = _line(cas, name, entry)
        style = "bold" if isinstance(entry, Directory) else ""
        table.add_row(str(number), Text(line, style=style))
    Console().print(table)


def _show_file(cas: Cas, file: File) -> None:
    out(f"{file.digest}  {show_size(file.size)}  {cas.path(file.digest, file.executable)}")
    data = cas.get_bytes(file.digest)[:SHOWN_BYTES]
    if b"\0" in data:
        note("not text")
    else:
        out(click.style(data.decode(errors="replace"), dim=True))
