"""Toolchains of this machine imported as trees."""

from __future__ import annotations

import os
import posixpath
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from attrs import field, frozen

from engine.sources.exclusion import exclusion
from engine.spec.model import ToolchainSpec
from engine.toolchains.debian import packages_now, take_packages
from engine.toolchains.dpkg import Package
from engine.toolchains.host import Host
from engine.toolchains.layout import Layout
from engine.toolchains.memory import Looked, Memory, mark_of, marks_of
from engine.toolchains.paths import take_paths
from store.digest import Digest, digest_bytes, is_digest
from store.encoding import TYPE_KEY, encode
from store.errors import InputError
from store.index import Table, Write, to_json
from store.ingest import RACY_NS, Signature, signature
from store.objects import Directory, Entry, File, Link
from store.spans import span
from store.store import Store
from store.trees import build_tree

LAYOUT: Final = "toolchain.1"
"""The type of the document whose digest stands for a toolchain's files before its tree is built."""


@frozen
class Toolchain:
    """An imported toolchain: its tree, its environment, and absolute paths of this machine none of
    which changes (by their status) unless it is worth importing again."""

    tree: Digest
    env: Mapping[str, str]
    watched: tuple[str, ...]
    memo: str = field(default="", eq=False)
    """Where it is written down what the import saw."""


_Plain: TypeAlias = tuple[str, Signature, bool]
"""A file of this machine: its path, what it looks like, whether it is executable."""

_SIZE: Final = 2
"""Which part of a signature is the size."""


def import_toolchain(store: Store, spec: ToolchainSpec, base: Path) -> Toolchain:
    """Store what `spec` names as a tree, unless nothing changed since that was done last; relative
    paths are relative to `base`. Raises what `take_toolchain` does."""
    known = known_toolchain(store, spec, base)
    if known is not None:
        return known
    taken, keep = take_toolchain(store, spec, base)
    keep()
    return taken


def known_toolchain(store: Store, spec: ToolchainSpec, base: Path) -> Toolchain | None:
    """Return what `take_toolchain` did, where nothing changed since; None where something has."""
    memory = Memory(store, spec, base)
    known = memory.recall()
    if known is None:
        return None
    return Toolchain(known.tree, dict(spec.env), tuple(known.watched), memory.path)


def take_toolchain(
    store: Store, spec: ToolchainSpec, base: Path, idle: Callable[[], bool] = lambda: True
) -> tuple[Toolchain, Callable[[], None]]:
    """Look at what `spec` names, and store it as a tree; return that, and what makes it durable and
    keeps it, which is to be called before anything runs with it. For `idle` see `Cas.copy_all`.

    Only files that changed since they were last stored are read. The tree depends on nothing but
    the files' content and places. Raises InputError for what is missing (all missing packages at
    once) or unreadable, HostError where there is no dpkg or the store cannot be written.
    """
    if not spec.debian and not spec.paths:
        raise InputError("the toolchain names nothing", 'add debian = ["gcc", …] or paths = […]')
    memory = Memory(store, spec, base)
    wanted = spec.debian, spec.paths, spec.exclude, str(base)
    helpers = store.cas.helpers
    with span("look at a toolchain", "toolchains"):
        found = _look(*wanted) if helpers is None else helpers.call(_look, *wanted)
    entries, watched, looked = found
    with span("copy a toolchain", "toolchains", entries=len(entries)):
        tree, fresh = _tree(store, _stored(store, entries, idle))

    def keep() -> None:
        with span("keep a toolchain", "toolchains"):
            if fresh is not None:
                store.cas.sync()  # what shows it as a root file system is not looked at again
                store.index.write([fresh])
            memory.keep(tree, watched, looked)

    return Toolchain(tree, dict(spec.env), watched, memory.path), keep


_ahead: list[tuple[dict[str, Signature], list[Package]]] = []
"""What `look_ahead` saw, for the next look in this process."""


def look_ahead() -> None:
    """Look for installed packages before it is known that they are asked for. Raises HostError
    where there is no dpkg."""
    _ahead.append(packages_now())


def _look(
    debian: tuple[str, ...], paths: tuple[str, ...], exclude: tuple[str, ...], base: str
) -> tuple[dict[str, _Plain | str], tuple[str, ...], Looked]:
    """Return what a toolchain consists of, by its place in the tree, what is to be watched, and all
    that was looked at for it; plain, as a helper does it."""
    host = Host()
    layout = Layout(host, exclusion(exclude))
    watched: list[str] = []
    before: dict[str, Signature] = {}
    if debian:
        before, installed = _ahead.pop() if _ahead else packages_now()
        watched += before
        take_packages(layout, debian, installed)
        layout.settle()
    if paths:
        watched += take_paths(layout, paths, Path(base))
        layout.settle()
    before = {path: mark_of(path) for path in watched} | before
    entries: dict[str, _Plain | str] = {}
    for place, placed in layout.entries.items():
        if isinstance(placed, Link):
            entries[place] = placed.target
        else:
            executable = bool(placed.status.st_mode & stat.S_IXUSR)
            entries[place] = host.at(placed.source), signature(placed.status), executable
    return entries, tuple(dict.fromkeys(watched)), marks_of(host, before)


def _stored(
    store: Store, plain: Mapping[str, _Plain | str], idle: Callable[[], bool]
) -> dict[str, Entry]:
    """Return the entries by path, with all files in the store. The stat cache is that of
    `store.ingest`."""
    entries: dict[str, Entry] = {}
    unknown: list[tuple[str, _Plain]] = []
    rows: dict[str, dict[str, Any]] = {}
    for place, one in plain.items():
        if isinstance(one, str):
            entries[place] = Link(one)
            continue
        path, mark, executable = one
        directory, name = posixpath.split(path)
        if directory not in rows:
            found = store.index.get_json(Table.STATS, _key(directory))
            rows[directory] = found if isinstance(found, dict) else {}
        match rows[directory].get(name):
            case [list(seen), str(digest)] if tuple(seen) == mark and store.cas.has(Digest(digest)):
                entries[place] = File(Digest(digest), mark[_SIZE], executable)
            case _:
                unknown.append((place, one))
    entries.update(_read(store, unknown, rows, idle))
    return entries


def _read(
    store: Store,
    unknown: list[tuple[str, _Plain]],
    rows: Mapping[str, dict[str, Any]],
    idle: Callable[[], bool],
) -> Iterator[tuple[str, File]]:
    """Yield the files that are `unknown` to the stat cache (`rows` of it), put into the store and
    noted there."""
    started = time.time_ns()
    try:
        read = store.cas.copy_all(
            [(path, mark[_SIZE], executable) for _, (path, mark, executable) in unknown], idle
        )
        changed = [path for _, (path, mark, _) in unknown if signature(os.lstat(path)) != mark]
    except OSError as error:
        raise InputError(
            f"{error.filename}: cannot be read: {(error.strerror or '').lower()}",
            'leave it out with exclude = ["…"]',
        ) from error
    if changed:
        raise InputError(f"{changed[0]}: changed while it was read", "run the build again")
    fresh: dict[str, dict[str, Any]] = defaultdict(dict)
    for (place, (path, mark, _)), file in zip(unknown, read, strict=True):
        if max(mark[0], mark[1]) < started - RACY_NS:
            directory, name = posixpath.split(path)
            fresh[directory][name] = [list(mark), file.digest]
        yield place, file
    # they name files alone, which are looked for before they are used
    store.index.later(
        [(Table.STATS, _key(one), to_json(rows[one] | found)) for one, found in fresh.items()]
    )


def _key(directory: str) -> Digest:
    """Return the key of a directory in the stat cache."""
    return digest_bytes(os.fsencode(directory))


def _tree(store: Store, entries: Mapping[str, Entry]) -> tuple[Digest, Write | None]:
    """Return the tree of `entries`, built only if the very same ones have not been before; else
    what is to be noted when it is durable, too."""
    plain = {
        place: entry.target if isinstance(entry, Link) else _plain(entry)
        for place, entry in entries.items()
    }
    key = digest_bytes(encode({TYPE_KEY: LAYOUT, "entries": plain}))
    known = Digest((store.index.get(Table.DERIVED, key) or b"").decode())
    if is_digest(known) and store.cas.complete(Directory(known)):
        return known, None
    tree = build_tree(store.cas, entries)
    return tree, (Table.DERIVED, key, tree.encode())


def _plain(entry: File | Directory) -> list[str | int]:
    return [entry.digest, int(isinstance(entry, File) and entry.executable)]
