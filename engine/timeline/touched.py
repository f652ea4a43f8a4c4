"""Paths on disk as a graph sees them: which steps take a file, a directory, a spec, a tool."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from attrs import define, field

from engine.graph import Graph, Selection
from engine.spec.faults import nearest, shown
from engine.spec.project import Unit
from engine.timeline.impact import Edit
from store.cas import Cas
from store.digest import Digest
from store.errors import BnError, InputError
from store.trees import find


@define
class Touched:
    """Tells what edited paths are to some steps of a graph. `toolchains` are the trees of toolchain
    files by their absolute path."""

    cas: Cas
    graph: Graph
    labels: Iterable[str]
    toolchains: Mapping[Path, Digest]
    _takers: dict[int, tuple[Selection, list[str]]] | None = field(default=None, init=False)

    def edit(self, path: str) -> Edit:
        """Return what an edit of `path` touches. Raises InputError where no part of the build is
        known to be there."""
        full = Path(os.path.abspath(path))
        makers = (self._spec, self._toolchain, self._source, self._tool)
        found = next((edit for make in makers if (edit := make(full)) is not None), None)
        if found is None:
            found = self._idle(full)
        return found

    def _spec(self, path: Path) -> Edit | None:
        prefixes = [u.prefix for u in self._units() if _same(u.spec.path, path)]
        if not prefixes:
            return None
        steps = {label: frozenset[str]() for label in self.labels if _prefix(label) in prefixes}
        note = "at most: it depends on what is edited in it"
        return Edit(path=shown(path), kind="spec", exact=False, steps=steps, note=note)

    def _toolchain(self, path: Path) -> Edit | None:
        tree = next((tree for file, tree in self.toolchains.items() if _same(file, path)), None)
        if tree is None:
            return None
        note = "at most: it depends on what is edited in it"
        steps = self._with_tools([tree])
        return Edit(path=shown(path), kind="toolchain", exact=False, steps=steps, note=note)

    def _tool(self, path: Path) -> Edit | None:
        """Return the edit of a file of this machine that is part of toolchains."""
        inside = str(path).lstrip("/")
        trees = []
        for tree in dict.fromkeys(self.toolchains.values()):
            try:
                if inside and find(self.cas, tree, inside) is not None:
                    trees.append(tree)
            except BnError:
                continue
        if not trees:
            return None
        return Edit(path=str(path), kind="tool", exact=True, steps=self._with_tools(trees))

    def _source(self, path: Path) -> Edit | None:
        steps: dict[str, frozenset[str]] = {}
        kind, known = "file", False
        for selection, labels in self._selections():
            assert selection.snapshot is not None
            inside = _below(path, selection.snapshot.root)
            if inside is None:
                continue
            files = selection.snapshot.files
            if inside not in files:
                under = f"{inside}/" if inside else ""
                if not any(name.startswith(under) for name in files):
                    continue
                kind = "directory"
            known = True
            touched = frozenset(_staged(selection, inside))
            if touched:
                for label in labels:
                    steps[label] = steps.get(label, frozenset()) | touched
        return Edit(path=shown(path), kind=kind, exact=True, steps=steps) if known else None

    def _idle(self, path: Path) -> Edit:
        """Return the edit of a file of a source that nothing takes. Raises InputError."""
        roots = [
            unit.spec.directory / source.path
            for unit in self._units()
            for source in unit.spec.file.sources.values()
            if source.path is not None
        ]
        if path.exists() and any(_below(path, str(root)) is not None for root in roots):
            note = "no action takes it"
            return Edit(path=shown(path), kind="file", exact=True, steps={}, note=note)
        if path.exists():
            hint = f"sources lie in {', '.join(shown(root) for root in roots)}" if roots else ""
            raise InputError(
                f"{shown(path)}: it is no part of {shown(self.graph.about.spec)}", hint
            )
        names = {
            shown(Path(one.snapshot.root, name))
            for one, _ in self._selections()
            if one.snapshot is not None
            for name in one.snapshot.files
        }
        hint = nearest(shown(path), names, "files of sources") if names else ""
        raise InputError(f"{shown(path)}: no such file or directory", hint)

    def _units(self) -> Iterator[Unit]:
        return self.graph.root.units()

    def _with_tools(self, trees: Iterable[Digest]) -> dict[str, frozenset[str]]:
        wanted = set(trees)
        recipes = self.graph.recipes
        return {
            label: frozenset()
            for label in self.labels
            if not wanted.isdisjoint(recipes[label].toolchains)
        }

    def _selections(self) -> list[tuple[Selection, list[str]]]:
        """Return what is taken from sources that are directories, each with the steps that take
        it."""
        if self._takers is None:
            self._takers = {}
            for label in self.labels:
                for one in self.graph.recipes[label].selections:
                    if one.snapshot is not None:
                        self._takers.setdefault(id(one.entries), (one, []))[1].append(label)
        return list(self._takers.values())


def _staged(selection: Selection, inside: str) -> Iterator[str]:
    """Yield the paths in the work directory of what lies at or below `inside` in the source."""
    assert selection.snapshot is not None
    stage = selection.stage
    if stage in selection.entries:
        paths: Iterable[str] = (f"{stage}/{name}" for name in selection.snapshot.files)
    else:
        paths = selection.entries
    at = f"{stage}/{inside}" if inside else stage
    yield from (path for path in paths if path == at or path.startswith(f"{at}/"))


def _below(path: Path, root: str) -> str | None:
    """Return a path relative to a directory, empty for itself, None where it is not below it."""
    for one, other in (
        (str(path), os.path.abspath(root)),
        (os.path.realpath(path), os.path.realpath(root)),
    ):
        if one == other:
            return ""
        if one.startswith(f"{other.rstrip('/')}/"):
            return one[len(other.rstrip("/")) + 1 :]
    return None


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _prefix(label: str) -> str:
    artifact = label.partition("[")[0]
    return artifact[: artifact.rfind(":") + 1]
