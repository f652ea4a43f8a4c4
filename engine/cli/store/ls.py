"""`bn store ls`: list the blobs."""

from __future__ import annotations

import time

import click

from engine.cli.options import json_option, open_store, out, print_json
from store.census import Census
from store.errors import OK, InputError
from store.rebuild import kind_of


@click.command()
@click.argument("prefix", default="")
@json_option
def command(prefix: str, as_json: bool) -> int:
    """List the blobs whose digest begins with PREFIX, by default all of them.

    Shown are the digest, the bytes on disk, the kind, the tiers, and when it was used last.
    """
    if not all(letter in "0123456789abcdef" for letter in prefix):
        raise InputError(f"{prefix!r} is no beginning of a digest", "give hexadecimal digits")
    with open_store() as store:
        census = Census(store.cas, prefix)
        rows = [
            {
                "digest": digest,
                "size": sum(held.size for _, held in files),
                "kind": kind_of(*files[0]),
                "tiers": sorted({tier.name for tier, _ in files}),
                "used": round(census.last_use(digest), 3),
            }
            for digest, files in sorted(census.files.items())
        ]
    if as_json:
        print_json(rows)
        return OK
    for row in rows:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(float(str(row["used"]))))
        tiers = ",".join(map(str, row["tiers"])) if isinstance(row["tiers"], list) else ""
        out(f"{row['digest']} {row['size']:>12} {row['kind']:<11} {used} {tiers}")
    return OK
