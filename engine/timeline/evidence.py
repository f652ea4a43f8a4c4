"""The evidence of an autopsy: what the store holds of logs and actions, and what lies on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from engine.spec.faults import shown
from engine.spec.project import load_project
from engine.timeline.autopsy import Evidence
from engine.timeline.course import Course
from engine.timeline.recorded import Recorded
from engine.timeline.tracing import tracing
from store.digest import Digest
from store.errors import BnError
from store.objects import Action
from store.store import Store
from store.trees import find, walk

HEAD: Final = 4 << 20
TAIL: Final = 1 << 20
"""Bytes of a log that are read, from its begin and its end."""

MOST_FILES: Final = 50_000
"""Files of sources on disk that are looked at for one that an action misses."""

PLACES: Final = ("usr/bin", "bin", "usr/sbin", "sbin", "usr/local/bin")


def evidence(store: Store, course: Course) -> Evidence:
    """Return what an autopsy of a build may ask."""
    recorded = Recorded(store.root, course.spec)

    def log(digest: str) -> str:
        try:
            data = store.cas.get_bytes(Digest(digest))
        except BnError:
            return ""
        if len(data) > HEAD + TAIL:
            data = data[:HEAD] + b"\n" + data[-TAIL:]
        return data.decode(errors="replace")

    @cache
    def action(digest: str) -> Action | None:
        try:
            return Action.decode(store.cas.get_bytes(Digest(digest)))
        except BnError:
            return None

    @cache
    def inputs(digest: str) -> frozenset[str]:
        found = action(digest)
        try:
            paths = walk(store.cas, found.input_root) if found is not None else iter(())
            return frozenset(path for path, _ in paths)
        except BnError:
            return frozenset()

    def has_tool(digest: str, name: str) -> bool:
        found = action(digest)
        if found is None:
            return True
        wanted = [name.lstrip("/")] if "/" in name else [f"{place}/{name}" for place in PLACES]
        try:
            return any(find(store.cas, t, path) for t in found.toolchains for path in wanted)
        except BnError:
            return True

    return Evidence(
        recorded=recorded,
        causes=lambda new, old: tracing(store, recorded, new, old),
        log=log,
        inputs=inputs,
        lies_at=lambda name: tuple(_lies_at(Path(course.spec), name)),
        has_tool=has_tool,
    )


def _lies_at(spec: Path, name: str) -> Iterator[str]:
    """Yield where in the local sources of a spec something of that name lies: as it would be
    staged, else anywhere."""
    wanted = name.removeprefix("/build/").removeprefix("./").strip("/")
    if not wanted or ".." in wanted.split("/"):
        return
    directories = _local(spec)
    for source, directory in directories:
        first, _, rest = wanted.partition("/")
        if first == source and rest and (directory / rest).exists():
            yield shown(directory / rest)
    seen = 0
    for _, directory in directories:
        for above, below, files in os.walk(directory):
            below.sort()
            seen += len(files)
            if seen > MOST_FILES:
                return
            for file in sorted(files):
                path = Path(above, file)
                if f"/{path}".endswith(f"/{wanted}"):
                    yield shown(path)


def _local(spec: Path) -> list[tuple[str, Path]]:
    """Return the names and directories of the sources that are directories."""
    try:
        root = load_project(spec, {})
    except BnError:
        return []
    return [
        (name, Path(os.path.normpath(unit.spec.directory / source.path)))
        for unit in root.units()
        for name, source in unit.spec.file.sources.items()
        if source.path is not None
    ]
