"""`bn store stat`: the tiers, how full and how fast they are."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

import click
from attrs import field, frozen

from engine.cli.options import json_option, open_store, out, print_json
from engine.units import show_size
from store.errors import OK, BnError
from store.heat import hot_blobs
from store.roots import roots
from store.store import Store
from store.tiers import LEVEL_NAMES, State, Tier

if TYPE_CHECKING:
    from engine.resources.benchmark.results import Run

BAR: Final = 20


@frozen(kw_only=True)
class Row:
    """A tier as it is now; sizes in bytes, `cold` counts blobs not used for long."""

    tier: Tier
    blobs: int
    used: int
    limit: int
    cold: int
    score: int
    measured: Run | None
    digests: frozenset[str] = field(repr=False)


@click.command()
@click.option("--measure", is_flag=True, help="Measure the speed of the tiers again.")
@json_option
def command(measure: bool, as_json: bool) -> int:
    """Show each tier: how much it holds and may hold, how fast it is, what is hot and cold.

    A tier is measured when it is first shown, which takes about a second, and again by
    bn benchmark --storage.
    """
    from engine.resources.benchmark.kept import history

    with open_store() as store:
        runs = history(store.root)
        rows = [_row(store, tier, runs, measure) for tier in store.cas.tiers]
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


def _row(store: Store, tier: Tier, runs: list[Run], again: bool) -> Row:
    from engine.resources.benchmark.tiers import score, speed_of

    held = list(tier.held()) if tier.readable else []
    oldest = time.time() - store.policy.cold_hours * 3600
    here = os.uname().nodename
    run = speed_of(runs, tier.root, here)
    if (run is None or again) and tier.state is State.OK and not store.read_only:
        run = _measured(store, tier) or run
    primary = store.cas.primary is tier and tier.spec.max_size is None
    return Row(
        tier=tier,
        blobs=len(held),
        used=sum(one.size for one in held),
        limit=store.policy.limit(tier.root) if primary else _limit(tier),
        cold=sum(one.used < oldest for one in held),
        score=score(run, tier.level),
        measured=run,
        digests=frozenset(one.digest for one in held),
    )


def _measured(store: Store, tier: Tier) -> Run | None:
    """Measure a tier and keep the result; None where that cannot be done now."""
    from engine.resources.benchmark.kept import directory
    from engine.resources.benchmark.session import Setting, Wanted, run_all
    from engine.resources.benchmark.tiers import keep_storage
    from engine.resources.discover import discover_compute

    setting = Setting(kept=directory(store.root), brief=True)
    try:
        (run,) = run_all(discover_compute(), Wanted(storage=(tier.root,)), setting, _silent)
        keep_storage(run, store.root, store.index)
    except BnError:
        return None
    return run


def _silent(_: str) -> None:
    """Say nothing."""


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
    points = f"score {row.score}"
    points += "" if tier.state is State.OK else f"  {tier.state}"
    return [
        f"{tier.name:<{width}}  {bar:░<{BAR}} {share:4.0%}  {room}, {counts}  {points}",
        f"{'':<{width}}  {LEVEL_NAMES[tier.level]}, {_speed(row.measured)}, {tier.root}",
    ]


def _speed(run: Run | None) -> str:
    if run is None:
        return "not measured"
    read, write, wait = (_value(run, name) or 0.0 for name in ("read", "write", "latency"))
    return (
        f"reads {show_size(read)}/s, writes {show_size(write)}/s, 4 KiB in {wait * 1e6:.0f} µs, "
        f"measured {time.strftime('%Y-%m-%d', time.localtime(run.time))}"
    )


def _value(run: Run | None, name: str) -> float | None:
    return run.value(f"storage.{name}") if run else None


def document(row: Row) -> dict[str, Any]:
    """Return the JSON form of a row: bytes, bytes a second, seconds."""
    tier = row.tier
    read, write = (_value(row.measured, name) for name in ("read", "write"))
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
        "score": row.score,
        "read": None if read is None else round(read),
        "write": None if write is None else round(write),
        "latency": _value(row.measured, "latency"),
        "measured": row.measured.time if row.measured else None,
    }
