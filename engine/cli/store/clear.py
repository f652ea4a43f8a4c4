"""`bn store clear`: a tier is emptied."""

from __future__ import annotations

import click

from engine import upkeep
from engine.cli.options import json_option, note, open_store, out, print_json
from engine.cli.store.tables import tier_named
from engine.units import show_size
from store.departure import Cleared, clear
from store.errors import OK, HostError
from store.leases import holders


@click.command()
@click.option(
    "--tier", "name", required=True, metavar="NAME|LEVEL", help="Which; 0 is the RAM disk."
)
@click.option("--force", is_flag=True, help="Remove even what no other tier has: it is lost.")
@json_option
def command(name: str, force: bool, as_json: bool) -> int:
    """Remove what a tier holds, as far as others have it, too.

    The RAM disk holds only copies, so it can always be cleared.
    """
    with open_store() as store:
        tier = tier_named(store, name)
        users = holders(store.root)
        if force and tier.durable and users:
            raise HostError(
                f"the store is in use ({users[0].purpose}, process {users[0].pid})",
                "what is only in this tier cannot go now: try again later",
            )
        done = clear(store, tier, force=force) if tier.readable else Cleared()
        upkeep.count(store)
    if as_json:
        print_json(
            {
                "tier": tier.name,
                "removed": done.removed,
                "bytes": done.bytes,
                "kept": done.kept,
                "lost": done.lost,
            }
        )
        return OK
    out(f"tier {tier.name}: {done.removed} blobs removed ({show_size(done.bytes)})")
    if done.kept:
        note(f"{done.kept} stayed: no other tier has them; --force removes them, and they are lost")
    if done.lost:
        note(f"{done.lost} of them are lost: what needs them is built or fetched again")
    return OK
