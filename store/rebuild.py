"""The index made again from what is stored, and a damaged table of objects from what is good in it.

Results and realisations are among the objects, and say of which action and recipe they are.
What a step's history, the stat cache and the digests of downloads said is lost: it comes again as
builds go on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from store.action_cache import PATH_SETS_KEPT, USED, PathSet, observed_base, observed_key
from store.cas import Cas
from store.census import Census
from store.closure import Kind, Needed, names_of, parse, read
from store.digest import Digest
from store.encoding import HEAD
from store.entry_mending import in_use, mend
from store.errors import BnError, HostError, host_error
from store.index import Index, Table, Write, to_json
from store.leases import holders
from store.objects import REALISATION, RESULT, Action, ActionResult, Realisation
from store.packing import SourceFailed, opened
from store.refused import read_refused
from store.tiers import Form, Held, Tier
from store.trees import walk

LONGEST: Final = 64 * 2**20
"""Bytes above which a blob is not looked at: no result is so long."""


@frozen(kw_only=True)
class Report:
    """What was found among the blobs, and where the damaged index was moved to. `cached` are the
    cache entries that could be saved of damaged ones, None where these were sound."""

    results: int
    observed: int
    realisations: int
    roots: int
    aside: Path | None
    seconds: float
    cached: int | None = None


def rebuild(root: Path, cas: Cas, more: Iterable[Write] = ()) -> Report:
    """Make the index of the store at `root` again; `cas` was opened, and nothing else.

    The old one is moved aside. `more` is written as well: what others know of their own files.
    Tables of objects that are damaged are mended; all are closed in the end. Raises HostError where
    another process uses the store.
    """
    started = time.monotonic()
    others = holders(root)
    if others:
        raise HostError(
            f"{root}: process {others[0].pid} uses the store ({others[0].purpose})",
            "wait until it ends",
        )
    if in_use(root):
        raise HostError(f"{root}: a cache server uses the store", "stop it first")
    aside = _move_aside(root / "index")
    cas.mend_tables()
    cached = mend(root)
    census = Census(cas)
    index = Index(root / "index")
    try:
        refused = read_refused(root)
        found = [one for one in _objects(cas, census) if one[1] not in refused]
        there = _Presence(cas, census)
        results = _newest(found, RESULT, ActionResult.decode, lambda one: one.action, there)
        realised = _newest(found, REALISATION, Realisation.decode, lambda one: one.recipe, there)
        writes: list[Write] = []
        observed: dict[str, list[PathSet]] = {}
        for action, (digest, result) in results.items():
            writes.append((Table.ACTION_CACHE, action, digest.encode()))
            writes += _observed(cas, digest, result, observed)
        writes += [(Table.REALISATIONS, key, d.encode()) for key, (d, _) in realised.items()]
        writes += [
            (Table.OBSERVED, key, to_json(rows[:PATH_SETS_KEPT])) for key, rows in observed.items()
        ]
        writes += [(Table.META, f"{USED}{n}", b"%d" % size) for n, size in census.used.items()]
        others_say = list(more)
        index.write([*writes, *others_say])
    finally:
        index.close()
        cas.close()
    return Report(
        results=len(results),
        observed=len(observed),
        realisations=len(realised),
        roots=len(others_say),
        aside=aside,
        seconds=time.monotonic() - started,
        cached=cached,
    )


def _move_aside(index: Path) -> Path | None:
    aside = index.with_name(f"index.{time.time_ns()}")
    try:
        there = index.exists()
        if there:
            os.rename(index, aside)
        index.mkdir()
    except OSError as error:
        raise host_error(error, "cannot move the index aside") from error
    return aside if there else None


_Found = tuple[float, Digest, bytes]


def _objects(cas: Cas, census: Census) -> Iterator[_Found]:
    """Yield every blob that begins like a result or a realisation, and when it was used last."""
    wanted = tuple(HEAD + kind.encode() for kind in (RESULT, REALISATION))
    for digest, files in census.files.items():
        tier, held = files[0]
        if held.size > LONGEST or not head_of(tier, held).startswith(wanted):
            continue
        data = read(cas, digest)
        if data is not None:
            yield held.used, digest, data


def head_of(tier: Tier, held: Held) -> bytes:
    try:
        if held.form is Form.OBJECT:
            return (tier.read_object(held.digest) or b"")[:32]
        if held.form is not Form.PACKED:
            handle = os.open(tier.path(held.digest, held.form), os.O_RDONLY | os.O_CLOEXEC)
            try:
                return os.read(handle, 32)
            finally:
                os.close(handle)
        with opened(tier.path(held.digest, held.form), packed=True) as reading:
            return reading.read(32)
    except (OSError, SourceFailed):
        return b""


def kind_of(tier: Tier, held: Held) -> str:
    """Return what a blob looks like: tree, action, result, realisation, or blob."""
    head = head_of(tier, held)
    kind = head.removeprefix(HEAD).partition(b".")[0].decode(errors="replace")
    known = head.startswith(HEAD) and kind in ("tree", "action", "result", "realisation")
    return kind if known else "blob"


def _newest(
    found: Iterable[_Found],
    kind: str,
    decode: Callable[[bytes], Any],
    key: Callable[[Any], Digest],
    there: _Presence,
) -> dict[Digest, tuple[Digest, Any]]:
    """Return what was used last for each key, of what is complete."""
    newest: dict[Digest, tuple[Digest, Any]] = {}
    for _, digest, data in sorted(found, key=lambda row: row[:2]):
        if (parse(data) or {}).get("_") == kind:
            try:
                value = decode(data)
            except BnError:
                continue
            if there.has(names_of(parse(data) or {})):
                newest[key(value)] = (digest, value)
    return newest


class _Presence:
    """Which blobs are there, and which trees with all below them; each is read once."""

    def __init__(self, cas: Cas, census: Census) -> None:
        self._cas = cas
        self._files = census.files
        self._trees: dict[Digest, bool] = {}

    def has(self, needed: Iterable[Needed]) -> bool:
        """Say whether all of that is there."""
        return all(
            self._has_tree(digest) if kind is Kind.TREE else digest in self._files
            for kind, digest in needed
        )

    def _has_tree(self, digest: Digest) -> bool:
        if digest not in self._trees:
            self._trees[digest] = False
            document = parse(read(self._cas, digest) or b"") if digest in self._files else None
            self._trees[digest] = document is not None and self.has(names_of(document))
        return self._trees[digest]


def _observed(
    cas: Cas,
    digest: Digest,
    result: ActionResult,
    bases: dict[str, list[PathSet]],
) -> list[Write]:
    """Return the entry under what a result's action read, if its inputs are still here; note the
    paths that it read in `bases`."""
    if result.observed is None:
        return []
    try:
        action = Action.decode(cas.get_bytes(result.action))
        files = dict(walk(cas, action.input_root))
    except BnError:
        return []
    base = observed_base(action, files)
    key = observed_key(base, files, result.observed)
    if key is None:
        return []
    bases.setdefault(base, []).insert(0, (digest, result.observed))
    return [(Table.ACTION_CACHE, key, digest.encode())]
