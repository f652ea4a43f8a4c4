"""The sweep: entries, shown trees, blobs and leftovers that a plan does not keep are removed."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

from store.action_cache import path_sets
from store.census import Count
from store.closure import Kind, Needed, parse, read
from store.digest import Digest, is_digest
from store.index import Table, to_json
from store.keep import DAY, Plan, Users, alias, shown_trees, stale_rows, stays
from store.owners import mark
from store.roots import root_of
from store.shelf import clear_shelf
from store.store import Store, remove_tree
from store.tiers import Form, Held, Tier
from store.upstream import place

BATCH: Final = 256
"""Files that are removed while the gate is closed once: some milliseconds."""

OBJECTS: Final = 4096
"""Objects that are removed in one transaction, while the gate is closed once."""

THREADS: Final = 8
"""unlink(2) waits for the journal: several at a time are up to seven times as fast (measured)."""

ENTRIES: Final = 4096
"""Entries of the index that are removed in one transaction."""

RUNNING: Final = "running builds"
POLICY: Final = "tiers that are not to be cleaned"


class Sweep:
    """One sweep and what it removed so far."""

    def __init__(self, store: Store, plan: Plan, dry_run: bool) -> None:
        self.removed: dict[str, Count] = {}
        self.freed = dict.fromkeys(plan.census.used, 0)
        self.used = dict(plan.census.used)
        self._store = store
        self._plan = plan
        self._closure = plan.closure
        self._dry_run = dry_run
        self._gate = store.cas.gate
        self._users: Users = plan.users
        self._gone: set[Digest] = set()

    # entries of the index

    def entries(self) -> None:
        """Remove the entries that name what will go, after sparing what running builds use."""
        while True:
            limit = self._users.look()
            self._spare(limit)
            with self._gate.closed():
                if self._users.look() < limit:
                    continue  # somebody came meanwhile
                self._prune(Table.ROOTS, self._root)
                self._prune(Table.ACTION_CACHE, self._result)
                self._prune(Table.REALISATIONS, self._realisation)
                self._prune(Table.DERIVED, self._derived)
                self._prune(Table.ALIASES, self._alias)
                self._prune(Table.OBSERVED, self._observed)
                self._prune(Table.REMOTE, partial(self._place, limit))
                self._prune(Table.ORIGINS, self._origin)
                self._cache_entries()
            return

    def _spare(self, limit: float) -> None:
        """Mark what stays although nothing needs it, with all that it consists of."""
        spared: dict[Digest, str] = {}
        for digest, files in self._plan.census.files.items():
            if digest in self._closure.live:
                continue
            for tier, held in files:
                if stays(tier, held, limit):
                    spared[digest] = RUNNING if held.used >= limit else POLICY
        for digest, why in spared.items():
            self._keep(why, [(Kind.BLOB, digest)])
        tables = {Table.ACTION_CACHE: Kind.RESULT, Table.DERIVED: Kind.TREE}
        for table, kind in tables.items():
            for _, value in self._store.index.items(table):
                digest = Digest(value.decode(errors="replace"))
                if digest in spared:
                    self._keep(spared[digest], [(kind, digest)])
        for _, value in self._store.index.items(Table.REALISATIONS):
            digest = Digest(value.decode(errors="replace"))
            document = parse(read(self._store.cas, digest) or b"") if digest in spared else None
            if document and is_digest(str(document.get("outputs"))):
                self._keep(spared[digest], [(Kind.TREE, document["outputs"])])

    def _keep(self, why: str, needed: list[Needed]) -> None:
        fresh = self._closure.mark(needed).live
        before = self._plan.kept.get(why, Count())
        size = self._plan.census.size(fresh)
        self._plan.kept[why] = Count(before.number + len(fresh), before.bytes + size)

    def _prune(self, table: Table, new: Callable[[str, bytes], bytes | None]) -> None:
        rows = dict(self._store.index.items(table))
        stale = [key for key, value in rows.items() if new(key, value) != value]
        gone = sum(new(key, rows[key]) is None for key in stale)
        if not self._dry_run:
            gone = 0
            for start in range(0, len(stale), ENTRIES):
                gone += self._store.index.edit(table, stale[start : start + ENTRIES], new)
        if gone:
            self._note("entries", gone, 0)

    def _cache_entries(self) -> None:
        """Remove cache entries that were not used for `keep_days`, or whose blobs go."""
        if not self._store.has_entries():
            return
        entries = self._store.entries()
        stale = stale_rows(self._store, self._plan, self._is_used)
        gone = len(stale)
        if not self._dry_run:
            gone = sum(
                entries.remove(stale[start : start + ENTRIES]).entries
                for start in range(0, len(stale), ENTRIES)
            )
        if gone:
            self._note("cache entries", gone, 0)

    def _root(self, key: str, value: bytes) -> bytes | None:
        root = root_of(key, value)
        return value if root is not None and root.live else None

    def _result(self, key: str, value: bytes) -> bytes | None:
        digest = Digest(value.decode(errors="replace"))
        return value if self._closure.has_whole(digest) or self._is_used(digest) else None

    _derived = _result

    def _realisation(self, key: str, value: bytes) -> bytes | None:
        digest = Digest(value.decode(errors="replace"))
        return value if digest in self._closure.live or self._is_used(digest) else None

    def _alias(self, key: str, value: bytes) -> bytes | None:
        digest = alias(value)
        kept = digest is not None and (digest in self._closure.live or self._is_used(digest))
        return value if kept else None

    def _observed(self, key: str, value: bytes) -> bytes | None:
        rows = path_sets(value)
        kept = [row for row in rows if self._closure.has_whole(row[0]) or self._is_used(row[0])]
        if len(kept) == len(rows):
            return value if rows else None
        return to_json(kept) if kept else None

    def _place(self, limit: float, key: str, value: bytes) -> bytes | None:
        known = place(value)
        kept = known is not None and (key in self._closure.live or known.since >= limit)
        return value if kept else None

    def _origin(self, _key: str, value: bytes) -> bytes | None:
        row = _json(value)
        result = row.get("result") if isinstance(row, dict) else None
        kept = isinstance(result, str) and self._result("", result.encode()) is not None
        return value if kept else None

    def _is_used(self, digest: Digest) -> bool:
        """Say whether a blob came, or was used, since the census."""
        if not is_digest(digest):
            return False
        before = self._plan.census.files.get(digest, ())
        seen = {(tier.name, held.form): held.used for tier, held in before}
        for tier in self._plan.census.tiers:
            for form in Form:
                now = tier.look(digest, form)
                if now is not None and seen.get((tier.name, form)) != now.used:
                    return True
        return False

    # what lies on disk

    def shown_trees(self) -> None:
        """Remove the materialised trees that are neither roots nor used lately, and those that lie
        aside for the next build: they would keep the bytes of blobs that go."""
        for tier in self._plan.census.tiers:
            if tier.writable and not self._dry_run:
                clear_shelf(self._store.cas, tier.root)
        for path, status in shown_trees(self._store):
            if path.name in self._plan.shown or status.st_ctime >= self._users.since:
                continue
            aside = path.parent.parent / "tmp" / f"{mark()}-gc-{path.name}"
            if not self._dry_run:
                with self._gate.closed(), contextlib.suppress(FileNotFoundError):
                    now = path.stat().st_ctime
                    if now != status.st_ctime or now >= self._users.look():
                        continue
                    path.rename(aside)
                remove_tree(aside)
            self._note("shown trees", 1, 0)

    def blobs(self) -> None:
        """Remove every blob that is not kept, and copies that a tier has no room for."""
        unneeded = (
            (tier, held)
            for digest, files in self._plan.census.files.items()
            if digest not in self._closure.live
            for tier, held in files
        )
        files = []
        objects: dict[Tier, list[Held]] = {}
        for tier, held in unneeded:
            if held.form is Form.OBJECT:
                objects.setdefault(tier, []).append(held)
            else:
                files.append((tier, held))
        self._remove("blobs", files)
        for tier, rows in objects.items():
            for start in range(0, len(rows), OBJECTS):
                self._remove_objects(tier, rows[start : start + OBJECTS])
        for tier in self._plan.census.tiers:
            self._remove("copies", self._surplus(tier), copies=True)

    def _surplus(self, tier: Tier) -> list[tuple[Tier, Held]]:
        """Return the copies that go from a tier that is over its limit, used longest ago first."""
        over = self.used[tier.name] - (tier.spec.max_size or math.inf)
        if over <= 0 or tier.spec.cleanup_policy == "none":
            return []
        found = []
        for digest, files in self._plan.census.files.items():
            # looked for now: another tier's copy may have gone a moment ago for the same reason
            if digest in self._closure.live and any(
                other is not tier and other.durable and other.holds(digest) for other, _ in files
            ):
                found += [
                    (held.used, one, held)
                    for one, held in files
                    if one is tier and held.form is not Form.OBJECT
                ]
        found.sort(key=lambda row: row[0])
        sizes = itertools.accumulate((held.size for *_, held in found), initial=0)
        return [
            (one, held)
            for (_, one, held), before in zip(found, sizes, strict=False)
            if before < over
        ]

    def _remove(
        self, kind: str, files: Iterable[tuple[Tier, Held]], *, copies: bool = False
    ) -> None:
        todo = iter(files)
        with ThreadPoolExecutor(THREADS) as pool:
            while batch := list(itertools.islice(todo, BATCH)):
                if self._dry_run:
                    links: Iterable[int] = itertools.repeat(1)
                else:
                    with self._gate.closed():
                        limit = math.inf if copies else self._users.look()
                        links = list(pool.map(partial(_unlink, limit), batch))
                for (tier, held), names in zip(batch, links, strict=False):
                    if names:
                        self._removed(kind, tier, held, names)

    def _remove_objects(self, tier: Tier, rows: list[Held]) -> None:
        """Remove objects of one tier that were not used since the census."""
        gone: Iterable[Digest] = [held.digest for held in rows]
        if not self._dry_run and tier.table is not None:
            with self._gate.closed():
                limit = self._users.look()
                before = {held.digest: held.used for held in rows}
                removed = self._store.cas.tier_set.attempt(
                    tier,
                    tier.table.remove,
                    before,
                    lambda digest, used: used == before[digest] and used < limit,
                )
            gone = removed or {}
        there = set(gone)
        for held in rows:
            if held.digest in there:
                self._removed("blobs", tier, held, 1)

    def _removed(self, kind: str, tier: Tier, held: Held, names: int) -> None:
        if held.digest not in self._closure.live:
            self._gone.add(held.digest)
        self._note(kind, 1, held.size)
        self.used[tier.name] -= held.size
        self.freed[tier.name] += held.size if names == 1 else 0

    def leftovers(self, expired: Sequence[Path]) -> None:
        """Remove old builds, records, kept sandboxes, what was quarantined, and facts about blobs
        that are gone."""
        now = time.time()
        old = now - self._store.policy.keep_days * DAY
        self._builds(expired)
        root = self._store.root
        for path, status in _listed(root / "records"):
            if status.st_mtime < old:
                self._remove_path("records", path)
        for path, status in _listed(root):
            if path.name.startswith("index.") and status.st_ctime < old:
                self._remove_path("damaged indexes", path)
        for tier in self._plan.census.tiers:
            if not tier.writable:
                continue
            for path, _ in _listed(tier.root / "quarantine"):
                self._remove_path("quarantined", path)
            for path, status in _listed(tier.root / "work"):
                if path.name.startswith("kept-") and status.st_ctime < now - DAY:
                    self._remove_path("kept sandboxes", path)
        if self._gone:
            self._prune(Table.STATS, self._stats)
            self._prune(Table.HISTORY, self._history)
            self._prune(Table.HEAT, lambda key, value: None if key in self._gone else value)

    def _builds(self, expired: Sequence[Path]) -> None:
        for path in expired:
            self._remove_path("builds", path)
        if not self._dry_run:
            names = [path.name for path in expired]
            self._store.index.edit(Table.TIMELINES, names, lambda key, value: None)

    def _remove_path(self, kind: str, path: Path) -> None:
        size = _size(path)
        if not self._dry_run:
            remove_tree(path)
        self._note(kind, 1, size)

    def _stats(self, key: str, value: bytes) -> bytes | None:
        rows = _json(value)
        if not isinstance(rows, dict):
            return None
        kept = {name: row for name, row in rows.items() if row[1:] and row[1] not in self._gone}
        return value if len(kept) == len(rows) else to_json(kept) if kept else None

    def _history(self, key: str, value: bytes) -> bytes | None:
        rows = _json(value)
        if not isinstance(rows, list):
            return None
        kept = [row for row in rows if row.get("action") not in self._gone]
        for row in kept:
            if row.get("log") in self._gone:
                row["log"] = None
        changed = kept != _json(value)
        return (to_json(kept) if changed else value) if kept else None

    def _note(self, kind: str, number: int, size: int) -> None:
        before = self.removed.get(kind, Count())
        self.removed[kind] = Count(before.number + number, before.bytes + size)


def _unlink(limit: float, file: tuple[Tier, Held]) -> int:
    """Remove one file unless it may be used; return how many names it had, 0 where it stays.

    With nobody there (no `limit`) the time does not matter: our removing other names renews it.
    """
    tier, held = file
    path = tier.path(held.digest, held.form)
    try:
        status = os.stat(path)
        if limit < math.inf and (status.st_ctime != held.used or status.st_ctime >= limit):
            return 0
        os.unlink(path)
    except OSError:
        return 0
    return status.st_nlink


def _json(value: bytes) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return None


def _listed(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield what is in a directory, with its status; nothing where there is none."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for item in list(os.scandir(directory)):
            with contextlib.suppress(FileNotFoundError):
                yield Path(item.path), item.stat(follow_symlinks=False)


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a directory, that have no other name."""
    if not path.is_dir():
        return path.stat().st_size
    statuses = (
        os.lstat(os.path.join(directory, name))
        for directory, _, names in os.walk(path)
        for name in names
    )
    return sum(status.st_size for status in statuses if status.st_nlink == 1)
