"""`bn show`: a stored object, as what it is."""

from __future__ import annotations

import json
import sys

import click

from engine.cli.options import json_option, open_store, out, print_json
from store.cas import Cas
from store.digest import Digest, is_digest
from store.errors import OK, InputError
from store.index import Table
from store.objects import Directory, Entry, File, Link, Tree


@click.command()
@click.argument("name", metavar="DIGEST")
@json_option
def command(name: str, as_json: bool) -> int:
    """Print the tree, action, result or blob of a digest (or of its unique beginning)."""
    with open_store() as store:
        digest = complete(store.cas, name)
        if not store.cas.has(digest):
            raise InputError(f"nothing in the store has the digest {digest}")
        data = store.cas.get_bytes(digest)
        try:
            document = json.loads(data)
            kind = str(document["_"]).partition(".")[0]
        except (ValueError, TypeError, KeyError):
            if as_json:
                print_json({"kind": "blob", "digest": digest, "size": len(data)})
            else:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            return OK
        if as_json:
            print_json({"kind": kind, "digest": digest, "object": document})
        elif kind == "tree":
            for row, entry in Tree.decode(data).sorted():
                out(tree_line(row, entry))
        else:
            out(json.dumps(document, indent=2, ensure_ascii=False))
            result = store.index.get(Table.ACTION_CACHE, digest)
            if result is not None:
                out(f"result: {result.decode()}")
    return OK


def complete(cas: Cas, name: str) -> Digest:
    """Return the digest in the store that begins with `name`; raises InputError."""
    if is_digest(name):
        return Digest(name)
    if len(name) < 4 or not all(letter in "0123456789abcdef" for letter in name):
        raise InputError(f"{name!r} is not a digest", "give 64 hexadecimal digits, or at least 4")
    found = sorted(cas.digests(name))
    if len(found) != 1:
        what = f"{len(found)} digests begin with" if found else "nothing in the store begins with"
        raise InputError(f"{what} {name!r}", ", ".join(one[:16] for one in found[:4]))
    return found[0]


def tree_line(name: str, entry: Entry) -> str:
    """Return a tree's entry as a line: kind, digest, size, name."""
    match entry:
        case File(digest, size, executable):
            return f"{'exec' if executable else 'file'} {digest} {size:>10} {name}"
        case Directory(digest):
            return f"tree {digest} {'-':>10} {name}/"
        case Link(target):
            return f"link {'-':64} {'-':>10} {name} -> {target}"
