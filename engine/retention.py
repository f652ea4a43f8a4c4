"""Retention: what recent builds are kept for, and the store held to its size after each build."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from engine.timeline.log import NAME, builds
from store.action_cache import USED
from store.closure import Claim, Kind, Needed
from store.digest import Digest, is_digest
from store.index import Table
from store.store import Store

if TYPE_CHECKING:
    from store.gc import Report

SHARE: Final = 0.8
"""The share of its limit down to which a store is collected that is over it."""

BOUNDED: Final = "bounded"
"""The small fact in the index that says how many bytes the last such collection left."""

DAY: Final = 86400.0

_STEP: Final = re.compile(rb'\{"event":"Step(Cached|sCached|Started|Finished)"')
_NAMED: Final = re.compile(rb'"(action|outputs|log)":"([0-9a-f]{64})"')
_KINDS: Final = {b"action": Kind.ACTION, b"outputs": Kind.TREE, b"log": Kind.BLOB}


@frozen
class Past:
    """What a timeline names: needs in order, the actions found cached, those that it ran."""

    needs: dict[Needed, None] = field(factory=dict)
    cached: set[Digest] = field(factory=set)
    ran: set[Digest] = field(factory=set)


def claims(store: Store) -> tuple[list[Claim], list[Path]]:
    """Return what recent builds need, and the directories of builds that nothing needs any more.

    Recent is what was built, or found up to date, within the policy's days; and the builds that ran
    what a recent one found cached, because their steps made what that rests on.
    """
    oldest = time.time() - store.policy.keep_days * DAY
    found: list[Claim] = []
    expired: list[Path] = []
    wanted: dict[Digest, float] = {}
    for directory, used in sorted(_ages(store.root), key=lambda row: row[1], reverse=True):
        if used <= oldest and not wanted:
            expired.append(directory)
            continue
        past = read_past(directory)
        times = [wanted.pop(action) for action in past.ran & wanted.keys()]
        if used <= oldest and not times:
            expired.append(directory)
            continue
        latest = max([used, *times])
        for action in past.cached - past.ran:
            wanted[action] = max(latest, wanted.get(action, 0.0))
        needs = tuple(past.needs)
        found.append(Claim(why="recent builds", name=directory.name, time=latest, needs=needs))
    return found, expired


def _ages(root: Path) -> Iterator[tuple[Path, float]]:
    """Yield the directory of each build and when it was last current."""
    for build in builds(root):
        directory = root / "builds" / build
        for path in (directory / NAME, directory):
            try:
                yield directory, os.stat(path).st_mtime
            except OSError:
                continue
            break


def read_past(directory: Path) -> Past:
    """Return what a build's timeline names; only its digests are read, which is quick."""
    past = Past()
    try:
        data = (directory / NAME).read_bytes()
    except OSError:
        return past
    for line in data.splitlines():
        step = _STEP.match(line)
        if step is None:
            continue
        if step[1] == b"sCached":
            _read_together(line, past)
            continue
        named = {name: Digest(digest.decode()) for name, digest in _NAMED.findall(line)}
        for name, digest in named.items():
            past.needs[_KINDS[name], digest] = None
        action = named.get(b"action")
        if action and step[1] == b"Cached":
            past.cached.add(action)
        elif action and b"outputs" in named:
            past.ran.add(action)
    return past


def _read_together(line: bytes, past: Past) -> None:
    """Take in an event of many steps; one that was cut off by a kill names nothing."""
    try:
        event = json.loads(line)
        rows = list(zip(event["actions"], event["outputs"], strict=True))
    except (ValueError, KeyError, TypeError):
        return
    for action, outputs in rows:
        if not (is_digest(str(action)) and is_digest(str(outputs))):
            continue
        past.needs[Kind.ACTION, Digest(action)] = None
        past.needs[Kind.TREE, Digest(outputs)] = None
        past.cached.add(Digest(action))


def collect_garbage(
    store: Store, *, max_size: int | None = None, dry_run: bool = False, wait: bool = True
) -> Report | None:
    """Collect what neither roots nor recent builds need; see `store.gc.collect`."""
    from store.gc import collect

    found, expired = claims(store)
    return collect(store, found, expired, max_size=max_size, dry_run=dry_run, wait=wait)


def bound(store: Store) -> Report | None:
    """Collect where the store has outgrown its limit, else return None at once.

    Where a collection could not free enough, the next one waits until the store has grown.
    """
    limit = store.policy.limit(store.root)
    used = _used(store, (tier.name for tier in store.cas.tiers if tier.durable))
    before = store.index.number(BOUNDED) or 0
    if used <= limit or used <= before + limit * (1 - SHARE) / 2 or store.read_only:
        return None
    report = collect_garbage(store, max_size=int(limit * SHARE), wait=False)
    if report is not None:
        left = sum(report.used[tier.name] for tier in store.cas.tiers if tier.durable)
        store.index.write([(Table.META, BOUNDED, b"%d" % left)])
    return report


def _used(store: Store, names: Iterable[str]) -> int:
    return sum(store.index.number(f"{USED}{name}") or 0 for name in names)
