"""`bn store migrate`: move cold blobs to slower tiers, and hot ones to faster ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import click

from engine import upkeep
from engine.cli.options import json_option, note, open_store, out, print_json
from engine.units import show_size
from store.digest import Digest
from store.errors import OK, BnError
from store.heat import hot_blobs, warm
from store.migrate import Move, migrate, plan_migration
from store.store import Store


@click.command()
@click.option("-n", "--dry-run", is_flag=True, help="Say what would move, and move nothing.")
@json_option
def command(dry_run: bool, as_json: bool) -> int:
    """Move what was not used for long to slower tiers, and what is hot to faster ones.

    How long is long: cold_threshold_hours in bn.toml, or retention_days of the tier. A tier over
    its max_size is emptied further, what was used longest ago first.
    """
    with open_store() as store:
        moves = plan_migration(store)
        if dry_run:
            _show_plan(moves, as_json)
            return OK
        moved = migrate(store, moves)
        hot = list(hot_blobs(store.index, store.policy))
        promoted = sum(_promoted(store, digest) for digest in hot)
        copied = warm(store.cas, hot, seconds=60.0)
        upkeep.count(store)
        incidents = store.cas.incidents()
    if as_json:
        print_json(
            {
                "moved": {"blobs": moved.blobs, "bytes": moved.bytes},
                "kept": moved.kept,
                "promoted": promoted,
                "copied_to_ram": copied,
                "dropped": [{"tier": one.tier, "state": one.state} for one in incidents],
            }
        )
        return OK
    for one in incidents:
        note(f"tier {one.tier} is {one.state}: {one.reason}")
    out(
        f"{moved.blobs} blobs moved down ({show_size(moved.bytes)}), {promoted} moved up, "
        f"{copied} copied to the RAM disk"
    )
    if moved.kept:
        note(f"{moved.kept} stayed: used meanwhile, damaged, or their tier failed")
    return OK


def _promoted(store: Store, digest: Digest) -> bool:
    """Bring a hot blob to the primary tier; say whether it was not there."""
    if store.cas.primary.holds(digest):
        return False
    try:
        store.cas.promote(digest)
    except BnError:
        return False
    return True


def _show_plan(moves: list[Move], as_json: bool) -> None:
    if as_json:
        print_json({"moves": [_document(move) for move in moves]})
        return
    for line in _summary(moves):
        out(line)


def _document(move: Move) -> dict[str, object]:
    return {
        "digest": move.digest,
        "from": move.source.name,
        "to": move.target.name,
        "bytes": move.size,
        "why": move.why,
    }


def _summary(moves: list[Move]) -> Iterator[str]:
    counts: Counter[tuple[str, str, str]] = Counter()
    sizes: Counter[tuple[str, str, str]] = Counter()
    for move in moves:
        key = (move.source.name, move.target.name, move.why)
        counts[key] += 1
        sizes[key] += move.size
    for (source, target, why), count in sorted(counts.items()):
        size = show_size(sizes[source, target, why])
        yield f"{source} → {target}: {count} blobs, {size}, {why}"
    if not moves:
        yield "nothing to move"
