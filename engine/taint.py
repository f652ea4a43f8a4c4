"""Taint: all that was built from a bad entry, named, and on request forgotten and refused."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from attrs import field, frozen

from engine.remembered import KIND
from engine.timeline.log import NAME, builds, read_timeline
from store.action_cache import path_sets
from store.descent import Because, Descent, Lineage
from store.digest import Digest, is_digest
from store.errors import InputError
from store.index import Table, to_json
from store.refused import pair, refuse
from store.roots import ARTIFACT, Root, roots
from store.store import Store

_DIGEST: Final = re.compile(rb"[0-9a-f]{64}")


@frozen(kw_only=True)
class Spoilt:
    """An action that was made of something bad, the steps that it was, and why it is named: None
    where it is the entry itself."""

    action: Digest
    labels: tuple[str, ...]
    because: Because | None


@frozen(kw_only=True)
class Tainted:
    """All that was built from an entry; `kind` is what it was: an action, a result, a realisation,
    an artifact, a step, a tree, a blob.

    `strangers` are results of which nobody here knows what they were made of, as they came from a
    remote with their recipe; `unknown` are trees whose contents nobody here knows.
    """

    entry: Digest
    kind: str
    actions: tuple[Spoilt, ...]
    results: tuple[Digest, ...]
    realisations: tuple[Digest, ...]
    artifacts: tuple[str, ...]
    links: tuple[str, ...]
    builds: tuple[str, ...]
    strangers: int = 0
    unknown: tuple[Digest, ...] = ()
    pairs: tuple[Digest, ...] = field(default=(), repr=False)
    """What stands for action and outputs of each result; see `store.refused`."""


def tainted(store: Store, name: str) -> Tainted:
    """Return what was built from an entry: the digest of an action, a result, a realisation, a tree
    or a blob, the name of an artifact, or of a step. Raises InputError where there is none."""
    lineage = Lineage(store.cas, store.index)
    entry, kind, results, contents = _entry(store, lineage, name)
    found = lineage.descent(results, contents)
    named = list(roots(store.index))
    labels, in_builds = _in_timelines(store.root, found.actions.keys())
    steps = (
        Spoilt(action=action, labels=tuple(sorted(labels.get(action, ()))), because=because)
        for action, because in found.actions.items()
    )
    return Tainted(
        entry=entry,
        kind=kind,
        actions=tuple(steps),
        results=tuple(found.results),
        realisations=tuple(found.realisations),
        artifacts=_holding(named, found, artifacts=True),
        links=_holding(named, found, artifacts=False),
        builds=tuple(in_builds),
        strangers=len(lineage.strangers() - found.results.keys()),
        unknown=tuple(sorted(found.unknown)),
        pairs=tuple(pair(*one) for one in found.results.values()),
    )


def drop(store: Store, bad: Tainted) -> int:
    """Forget all of it, so that it is built again, and refuse it from now on; return how many
    entries went. Raises HostError."""
    why = f"made of {bad.kind} {bad.entry}"
    return forget(store, bad.results, bad.realisations, bad.pairs, why)


def forget(
    store: Store,
    results: Iterable[Digest],
    realisations: Iterable[Digest],
    pairs: Iterable[Digest],
    why: str,
) -> int:
    """Forget results and realisations, and refuse them and `pairs` (see `store.refused`) from now
    on; return how many entries went. Raises HostError."""
    bad = set(results)
    gone = set(realisations)
    refuse(store.root, [*sorted(bad), *sorted(gone), *pairs], why)
    went = _forget(store, Table.ACTION_CACHE, bad)
    went += _forget(store, Table.REALISATIONS, gone)
    origins = {key for key, value in store.index.items(Table.ORIGINS) if _result_in(value) in bad}
    store.index.edit(Table.ORIGINS, origins, lambda key, value: None)

    def without(_: str, value: bytes) -> bytes | None:
        left = [row for row in path_sets(value) if row[0] not in bad]
        return to_json(left) if left else None

    observed = [
        key
        for key, value in store.index.items(Table.OBSERVED)
        if any(result in bad for result, _ in path_sets(value))
    ]
    store.index.edit(Table.OBSERVED, observed, without)
    _forget_answers(store.root)
    return went


def _forget(store: Store, table: Table, gone: set[Digest]) -> int:
    """Remove the entries of a table that name one of `gone`, and return how many that were."""

    def keep(_: str, value: bytes) -> bytes | None:
        return None if value.decode(errors="replace") in gone else value

    stale = [key for key, value in store.index.items(table) if keep(key, value) is None]
    return store.index.edit(table, stale, keep)


def _result_in(origin: bytes) -> object:
    """Return the result that a row of origins tells of."""
    try:
        row = json.loads(origin)
    except ValueError:
        return None
    return row.get("result") if isinstance(row, dict) else None


def _entry(
    store: Store, lineage: Lineage, name: str
) -> tuple[Digest, str, set[Digest], list[Digest]]:
    """Return the digest of an entry, what it is, and the bad results and contents that stand for
    it."""
    if not is_digest(name):
        tree = _artifact(store, name)
        if tree is not None:
            return tree, "artifact", lineage.makers(tree), [tree]
        actions = _last_actions(store, name)
        made = {result for action in actions for result in lineage.gave(action)}
        return actions[0], "step", made, []
    digest = Digest(name)
    if digest in lineage.results:
        return digest, "result", {digest}, []
    if digest in lineage.realisations:
        _, action, outputs = lineage.realisations[digest]
        return digest, "realisation", set(lineage.gave(action)), [outputs]
    gave = lineage.gave(digest)
    if digest in lineage.actions or gave:
        if not gave:
            raise InputError(f"action {digest} has no result in the store")
        return digest, "action", set(gave), []
    givers = lineage.givers(digest)
    if digest in lineage.trees:
        return digest, "tree", givers, [digest]
    if not givers and not store.cas.has(digest) and not lineage.is_named(digest):
        raise InputError(f"nothing in the store has the digest {digest}", "bn store ls lists blobs")
    return digest, "blob", givers, [digest]


def _artifact(store: Store, name: str) -> Digest | None:
    """Return the tree of what a build left under that name."""
    known = {root.name: root.tree for root in roots(store.index) if root.key.startswith(ARTIFACT)}
    return known.get(name)


def _last_actions(store: Store, label: str) -> list[Digest]:
    """Return the actions that a step was in the last build that had it. Raises InputError."""
    for build in builds(store.root):
        found = {
            Digest(event["action"]): None
            for event in read_timeline(store.root, build)
            if event.get("label") == label and is_digest(str(event.get("action")))
        }
        if found:
            return list(found)
    hint = (
        "give the digest of an action, a result, a tree or a blob; bn store roots lists artifacts"
    )
    raise InputError(f"{label!r} is no digest, no artifact and no step that was built", hint)


def _holding(named: Iterable[Root], found: Descent, *, artifacts: bool) -> tuple[str, ...]:
    """Return the names of the roots in which something bad is: artifacts, or links to results."""
    return tuple(
        root.name
        for root in named
        if root.live and root.tree in found.holders and root.key.startswith(ARTIFACT) is artifacts
    )


def _in_timelines(
    root: Path, actions: Iterable[Digest]
) -> tuple[dict[Digest, set[str]], list[str]]:
    """Return the labels that actions had, and the builds that they were part of, last first."""
    wanted = {action.encode() for action in actions}
    labels: dict[Digest, set[str]] = {}
    found = []
    for build in builds(root):
        try:
            data = (root / "builds" / build / NAME).read_bytes()
        except OSError:
            continue
        if wanted.isdisjoint(_DIGEST.findall(data)):
            continue
        named = False
        for event in read_timeline(root, build):
            action, label = event.get("action"), event.get("label")
            if isinstance(action, str) and isinstance(label, str) and action.encode() in wanted:
                labels.setdefault(Digest(action), set()).add(label)
                named = True
        if named:
            found.append(build)
    return labels, found


def _forget_answers(root: Path) -> None:
    """Remove what answers without looking at the index: records of builds that are up to date, and
    what recipes came to."""
    directory = root / "records"
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(directory):
            if "." not in name or name.endswith(f".{KIND}"):
                with contextlib.suppress(OSError):
                    os.unlink(directory / name)
