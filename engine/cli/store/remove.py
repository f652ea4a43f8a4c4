"""`bn store remove`: a tier is no longer used, and nothing is lost."""

from __future__ import annotations

import click

from engine import upkeep
from engine.cli.options import json_option, note, open_store, out, print_json
from engine.cli.store.tables import remove_table, tier_named
from engine.config import load_config
from engine.units import show_size
from store.errors import OK, HostError, InputError
from store.leases import holders
from store.migrate import Moved, migrate, plan_departure
from store.store import Store
from store.tiers import State, Tier


@click.command()
@click.argument("name")
@click.option(
    "--force", is_flag=True, help="Even if what it alone has is lost, as when it is gone."
)
@json_option
def command(name: str, force: bool, as_json: bool) -> int:
    """Take the tier NAME out of use; what only it has moves to the others first.

    Its directory stays, as links to results may lead there.
    """
    with open_store() as store:
        tier = tier_named(store, name)
        config = load_config(store.root)
        if tier.root == store.root:
            raise InputError(
                f"tier {tier.name} is the store's own directory", "move the store with BN_STORE"
            )
        if tier.name not in config.configured:
            raise InputError(f"tier {tier.name} is nowhere configured", "bn chose it by itself")
        moved = _depart(store, tier, force=force)
        files = [path for path in config.files if remove_table(path, tier.name)]
    if as_json:
        said = {"name": tier.name, "blobs": moved.blobs, "bytes": moved.bytes}
        print_json({**said, "files": [str(path) for path in files]})
        return OK
    if moved.blobs:
        out(f"{moved.blobs} blobs moved to other tiers ({show_size(moved.bytes)})")
    out(f"tier {tier.name} removed from {', '.join(map(str, files))}")
    note(f"{tier.root} is left as it is; delete it when no ./result leads there")
    return OK


def _depart(store: Store, tier: Tier, *, force: bool) -> Moved:
    """Move what only this tier has. Raises HostError where something would be lost."""
    if not tier.durable or tier.state is State.ABSENT:
        return Moved()
    if not tier.readable:
        if force:
            return Moved()
        raise HostError(
            f"tier {tier.name} is {tier.state}: what only it has cannot be moved",
            "bring it back, or say --force: what was lost is built again",
        )
    users = holders(store.root)
    if users:
        raise HostError(
            f"the store is in use ({users[0].purpose}, process {users[0].pid})", "try again later"
        )
    if not tier.writable and tier.state is not State.READ_ONLY and not force:
        raise HostError(f"tier {tier.name} is {tier.state}", "mend it, or say --force")
    moves = [] if force else plan_departure(store, tier)
    moved = migrate(store, moves)
    upkeep.count(store)
    if moved.kept:
        raise HostError(
            f"tier {tier.name} keeps {moved.kept} blobs that could not be moved",
            "bn store verify tells which are damaged; --force gives them up",
        )
    return moved
