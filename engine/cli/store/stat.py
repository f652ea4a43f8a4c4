"""`bn store stat`: the tiers, how full and how fast they are."""

from __future__ import annotations

import time
from typing import Any, Final

import click
from attrs import field, frozen

from engine.cli.options import json_option, open_store, out, print_json
from engine.units import show_size
from store.errors import OK
from store.heat import hot_blobs
from store.measure import Speed, measure_tier, measured, score
from store.roots import roots
from store.store import Store
from store.tiers import LEVEL_NAMES, State, Tier

BAR: Final = 20


@frozen(kw_only=True)
class Row:
    """A tier as it is now; sizes in bytes, `cold` counts blobs not used for long."""

    tier: Tier
    blobs: int
    used: int
    limit: int
    cold: int
    speed: Speed | None
    digests: frozenset[str] = field(repr=False)


@click.command()
@click.option("--measure", is_flag=True, help="Measure the speed of the tiers again.")
@json_option
def command(measure: bool, as_json: bool) -> int:
    """Show each tier: how much it holds and may hold, how fast it is, what is hot and cold.

    A tier is measured when it is first shown; that takes less than a second.
    """
    with open_store() as store:
        rows = [_row(store, tier, measure) for tier in store.cas.tiers]
        digests = frozenset[str]().union(*(row.digests for row in rows))
        hot = sum(digest in digests for digest in hot_blobs(store.index, store.policy))
        rooted = sum(root.live for root in roots(store.index))
        whole: dict[str, Any] = {
            "path": str(store.root),
            "blobs": len(digests),
            "bytes": sum(row.used for row in rows if row.tier.durable),
            "limit": store.policy.limit(store.root),
            "roots": rooted,
            "hot": hot,
        }
    if as_json:
        print_json({"store": whole, "tiers": [document(row) for row in rows]})
        return OK
    out(
        f"{whole['path']}: {len(digests)} blobs, {show_size(whole['bytes'])} of "
        f"{show_size(whole['limit'])}, {rooted} roots, {hot} hot blobs"
    )
    width = max(len(row.tier.name) for row in rows)
    for row in rows:
        for line in lines(row, width):
            out(line)
    return OK


def _row(store: Store, tier: Tier, again: bool) -> Row:
    held = list(tier.held()) if tier.readable else []
    oldest = time.time() - store.policy.cold_hours * 3600
    speed = None if again else measured(store.index, tier)
    if speed is None and tier.state is State.OK and not store.read_only:
        speed = measure_tier(store.index, tier)
    primary = store.cas.primary is tier and tier.spec.max_size is None
    return Row(
        tier=tier,
        blobs=len(held),
        used=sum(one.size for one in held),
        limit=store.policy.limit(tier.root) if primary else _limit(tier),
        cold=sum(one.used < oldest for one in held),
        speed=speed,
        digests=frozenset(one.digest for one in held),
    )


def _limit(tier: Tier) -> int:
    try:
        return tier.limit()
    except OSError:
        return 0


def lines(row: Row, width: int) -> list[str]:
    """Return what is shown of a tier: its bar, and below it its speed and its place."""
    tier = row.tier
    share = row.used / row.limit if row.limit else 0.0
    bar = "█" * min(BAR, round(share * BAR))
    room = f"{show_size(row.used)} of {show_size(row.limit)}" if row.limit else "nothing"
    counts = f"{row.blobs} files, {row.cold} cold"
    points = f"score {score(row.speed, tier.level)}"
    points += "" if tier.state is State.OK else f"  {tier.state}"
    return [
        f"{tier.name:<{width}}  {bar:░<{BAR}} {share:4.0%}  {room}, {counts}  {points}",
        f"{'':<{width}}  {LEVEL_NAMES[tier.level]}, {_speed(row.speed)}, {tier.root}",
    ]


def _speed(speed: Speed | None) -> str:
    if speed is None:
        return "not measured"
    return (
        f"reads {show_size(speed.read)}/s, writes {show_size(speed.write)}/s, "
        f"4 KiB in {speed.latency * 1e6:.0f} µs"
    )


def document(row: Row) -> dict[str, Any]:
    """Return the JSON form of a row: bytes, bytes a second, seconds."""
    tier, speed = row.tier, row.speed
    return {
        "name": tier.name,
        "level": tier.level,
        "type": LEVEL_NAMES[tier.level],
        "path": str(tier.root),
        "state": str(tier.state),
        "files": row.blobs,
        "used": row.used,
        "limit": row.limit,
        "cold": row.cold,
        "score": score(speed, tier.level),
        "read": speed and round(speed.read),
        "write": speed and round(speed.write),
        "latency": speed and speed.latency,
        "measured": speed and speed.time,
    }
