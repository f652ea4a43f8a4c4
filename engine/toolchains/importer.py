"""Toolchains of this machine imported as trees."""

from __future__ import annotations

import os
import posixpath
import stat
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen

from engine.sources.exclusion import exclusion
from engine.spec.model import ToolchainSpec
from engine.toolchains.debian import packages_watched, take_packages
from engine.toolchains.host import Host
from engine.toolchains.layout import Layout, Taken
from engine.toolchains.memory import Memory
from engine.toolchains.paths import take_paths
from store.digest import Digest, digest_bytes, is_digest
from store.encoding import TYPE_KEY, encode
from store.errors import InputError
from store.index import Table, Write, to_json
from store.ingest import RACY_NS, signature
from store.objects import Directory, Entry, File, Link
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


def import_toolchain(
    store: Store, spec: ToolchainSpec, base: Path, host: Host | None = None
) -> Toolchain:
    """Store what `spec` names as a tree; relative paths are relative to `base`.

    Only files that changed since they were last stored are read. The tree depends on nothing but
    the files' content and places. Raises InputError for what is missing (all missing packages at
    once) or unreadable, HostError where there is no dpkg or the store cannot be written.
    """
    if not spec.debian and not spec.paths:
        raise InputError("the toolchain names nothing", 'add debian = ["gcc", …] or paths = […]')
    host = host or Host()
    memory = Memory(store, spec, base, host)
    known = memory.recall()
    if known is not None:
        return Toolchain(known.tree, dict(spec.env), tuple(known.watched), memory.path)
    layout = Layout(host, exclusion(spec.exclude))
    watched: list[str] = []
    if spec.debian:
        watched += packages_watched()
        memory.before(watched)
        take_packages(layout, spec.debian)
        layout.settle()
    if spec.paths:
        watched += take_paths(layout, spec.paths, base)
        layout.settle()
    tree = _tree(store, _stored(store, layout))
    distinct = tuple(dict.fromkeys(watched))
    memory.keep(tree, distinct)
    return Toolchain(tree, dict(spec.env), distinct, memory.path)


def _stored(store: Store, layout: Layout) -> dict[str, Entry]:
    """Return the layout's entries by path, with all files in the store."""
    entries: dict[str, Entry] = {}
    directories: dict[str, list[tuple[str, Taken]]] = defaultdict(list)
    for place, placed in layout.entries.items():
        if isinstance(placed, Link):
            entries[place] = placed
        else:
            directories[layout.host.at(posixpath.dirname(placed.source))].append((place, placed))
    writes: list[Write] = []
    for directory, files in directories.items():
        entries.update(_stored_files(store, directory, files, writes))
    store.index.later(writes)  # they name files alone, which are looked for before they are used
    return entries


def _stored_files(
    store: Store, directory: str, files: list[tuple[str, Taken]], writes: list[Write]
) -> Iterator[tuple[str, File]]:
    """Yield the files of one directory; the stat cache is that of `store.ingest`."""
    key = digest_bytes(os.fsencode(directory))
    found = store.index.get_json(Table.STATS, key)
    cached: dict[str, Any] = found if isinstance(found, dict) else {}
    fresh: dict[str, Any] = {}
    started = time.time_ns()
    for place, taken in files:
        name = posixpath.basename(taken.source)
        mark = signature(taken.status)
        match cached.get(name):
            case [list(seen), str(digest)] if tuple(seen) == mark and store.cas.has(Digest(digest)):
                yield place, File(Digest(digest), taken.status.st_size, _executable(taken))
            case _:
                file = _read(store, f"{directory}/{name}", taken)
                if max(mark[0], mark[1]) < started - RACY_NS:
                    fresh[name] = [list(mark), file.digest]
                yield place, file
    if fresh:
        writes.append((Table.STATS, key, to_json(cached | fresh)))


def _read(store: Store, path: str, taken: Taken) -> File:
    try:
        file = store.cas.copy_in(path, taken.status.st_size, _executable(taken))
        changed = signature(os.lstat(path)) != signature(taken.status)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {(error.strerror or '').lower()}",
            'leave it out with exclude = ["…"]',
        ) from error
    if changed:
        raise InputError(f"{path}: changed while it was read", "run the build again")
    return file


def _executable(taken: Taken) -> bool:
    return bool(taken.status.st_mode & stat.S_IXUSR)


def _tree(store: Store, entries: Mapping[str, Entry]) -> Digest:
    """Return the tree of `entries`, built only if the very same ones have not been before."""
    plain = {
        place: entry.target if isinstance(entry, Link) else _plain(entry)
        for place, entry in entries.items()
    }
    key = digest_bytes(encode({TYPE_KEY: LAYOUT, "entries": plain}))
    known = Digest((store.index.get(Table.DERIVED, key) or b"").decode())
    if is_digest(known) and store.cas.complete(Directory(known)):
        return known
    tree = build_tree(store.cas, entries)
    store.cas.sync()  # what shows it as a root file system is not looked at again
    store.index.write([(Table.DERIVED, key, tree.encode())])
    return tree


def _plain(entry: File | Directory) -> list[str | int]:
    return [entry.digest, int(isinstance(entry, File) and entry.executable)]
