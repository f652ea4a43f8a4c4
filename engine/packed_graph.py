"""Graphs as plain values: packed to be kept, each recipe made of that when it is asked for.

What is needed of every recipe (its label, its digest) is at hand; the rest stays packed.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.graph import (
    About,
    Graph,
    Need,
    Recipe,
    Resources,
    Selection,
    common_text,
    list_text,
    make_selection,
    needed_text,
    quick_digest,
)
from store.digest import Digest
from store.ingest import Snapshot
from store.objects import Directory, Entry, File, Link


class PackedRecipes(Mapping[str, Recipe]):
    """The recipes of a kept graph, each made when it is asked for."""

    def __init__(self, packed: Any, snapshots: list[Snapshot], changed: list[set[str]]) -> None:
        self._packed = packed
        self._rows: list[bytes] = packed["recipes"]
        self._kept: bytes = packed["digests"]
        self._snapshots = snapshots
        self._labels: list[str] = packed["labels"]
        self._numbers = {label: number for number, label in enumerate(self._labels)}
        self._forms: dict[int, tuple[dict[str, str], Resources]] = {}
        self._shared: dict[int, Selection] = {}
        self._needs: dict[int, tuple[Need, ...]] = {}
        self._digests: dict[int, Digest] = {}
        self._fresh: set[int] = set()
        """The selections with other contents than when they were kept."""
        if any(changed):
            self._renew(changed)

    def __getitem__(self, label: str) -> Recipe:
        return self._recipe(self._numbers[label])

    def __contains__(self, label: object) -> bool:
        return label in self._numbers

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._rows)

    def digest_of(self, label: str) -> Digest:
        """Return a recipe digest without making the recipe."""
        return self._digest_at(self._numbers[label])

    def _digest_at(self, number: int) -> Digest:
        fresh = self._digests.get(number)
        return fresh or Digest(self._kept[32 * number : 32 * number + 32].hex())

    def _renew(self, changed: list[set[str]]) -> None:
        """Work out the digests of what reads a changed file, directly or through others."""
        for number, row in enumerate(self._packed["selections"]):
            source, _, paths, _ = marshal.loads(row)
            if source < 0 or not changed[source]:
                continue
            if paths is None or not changed[source].isdisjoint(paths):
                self._fresh.add(number)
        if not self._fresh:
            return
        needing = [{row[0] for row in rows} for rows in self._packed["needs"]]
        renewed: set[int] = set()
        for number, data in enumerate(self._rows):
            row = marshal.loads(data)
            if self._fresh.isdisjoint(row[3]) and renewed.isdisjoint(needing[row[4]]):
                continue
            renewed.add(number)
            self._digests[number] = self._digest(*row)

    def _digest(
        self,
        form: int,
        command: tuple[str, ...],
        outputs: tuple[str, ...],
        selections: tuple[int, ...],
        needs: int,
    ) -> Digest:
        _, env, depfile, toolchains, _, _, _ = self._packed["forms"][form]
        platform, isolation = self._packed["platform"], self._packed["isolation"]
        common = common_text(depfile, dict(env), isolation, platform, toolchains)
        needed = [
            (stage, glob or "", self._digest_at(other))
            for other, stage, glob in self._packed["needs"][needs]
        ]
        taken = tuple(map(self._selection, selections))
        return quick_digest(
            list_text(command), common, needed_text(needed), list_text(outputs), taken
        )

    def _recipe(self, number: int) -> Recipe:
        form, command, outputs, selections, needs = marshal.loads(self._rows[number])
        artifact, env, depfile, toolchains, test, (cpus, memory, timeout), path = self._packed[
            "forms"
        ][form]
        if form not in self._forms:
            resources = Resources(cpus=cpus, memory=memory, timeout=timeout)
            self._forms[form] = (dict(env), resources)
        return Recipe(
            label=self._labels[number],
            artifact=artifact,
            command=command,
            env=self._forms[form][0],
            outputs=outputs,
            depfile=depfile,
            toolchains=toolchains,
            selections=tuple(map(self._selection, selections)),
            needs=self._needed(needs),
            platform=self._packed["platform"],
            isolation=self._packed["isolation"],
            digest=self._digest_at(number),
            test=test,
            resources=self._forms[form][1],
            path=path,
        )

    def _needed(self, number: int) -> tuple[Need, ...]:
        if number not in self._needs:
            rows, labels = self._packed["needs"][number], self._labels
            self._needs[number] = tuple(Need(labels[n], at, glob) for n, at, glob in rows)
        return self._needs[number]

    def _selection(self, number: int) -> Selection:
        """Return a selection; one of many files is made only once."""
        selection = self._shared.get(number)
        if selection is None:
            selection = self._select(number)
            if len(selection.entries) > 1:
                self._shared[number] = selection
        return selection

    def _select(self, number: int) -> Selection:
        source, stage, paths, digest = marshal.loads(self._packed["selections"][number])
        if source < 0:
            return Selection(stage, {path: _entry(plain) for path, plain in paths}, digest)
        snapshot = self._snapshots[source]
        entries: dict[str, Entry]
        if paths is None:
            entries = {stage: Directory(snapshot.tree)}
        else:
            entries = {f"{stage}/{path}": snapshot.files[path] for path in paths}
        if number in self._fresh:
            return make_selection(stage, entries, snapshot)
        return Selection(stage, entries, digest, snapshot)


def pack(graph: Graph, snapshots: list[Snapshot]) -> dict[str, Any]:
    """Return a graph as plain values."""
    sources = {id(snapshot): number for number, snapshot in enumerate(snapshots)}
    numbers = {label: number for number, label in enumerate(graph.recipes)}
    forms: dict[Any, int] = {}
    selections: dict[int, tuple[int, Any]] = {}
    needs: dict[int, tuple[int, Any]] = {}
    rows = []
    for recipe in graph.recipes.values():
        one = recipe.resources
        form = (
            recipe.artifact,
            tuple(recipe.env.items()),
            recipe.depfile,
            recipe.toolchains,
            recipe.test,
            (one.cpus, one.memory, one.timeout),
            recipe.path,
        )
        for selection in recipe.selections:
            if id(selection) not in selections:
                plain = marshal.dumps(_plain_selection(selection, sources), 2)
                selections[id(selection)] = (len(selections), plain)
        if id(recipe.needs) not in needs:
            plain_needs = tuple((numbers[n.recipe], n.stage, n.pattern) for n in recipe.needs)
            needs[id(recipe.needs)] = (len(needs), plain_needs)
        row = (
            forms.setdefault(form, len(forms)),
            recipe.command,
            recipe.outputs,
            tuple(selections[id(selection)][0] for selection in recipe.selections),
            needs[id(recipe.needs)][0],
        )
        rows.append(marshal.dumps(row, 2))
    first = next(iter(graph.recipes.values()), None)
    about = graph.about
    return {
        "about": (str(about.spec), about.package, about.defaults, about.tests),
        "artifacts": dict(graph.artifacts),
        "isolation": graph.isolation,
        "platform": first.platform if first else "",
        "forms": list(forms),
        "selections": [plain for _, plain in selections.values()],
        "needs": [plain for _, plain in needs.values()],
        "labels": list(graph.recipes),
        "digests": b"".join(bytes.fromhex(one.digest) for one in graph.recipes.values()),
        "recipes": rows,
    }


def _plain_selection(selection: Selection, sources: Mapping[int, int]) -> Any:
    """Return the number of its source (-1: it never changes), where it is staged, what is taken of
    it (None: all), and its digest."""
    stage, entries, digest = selection.stage, selection.entries, selection.digest
    if selection.snapshot is None:
        return (-1, stage, tuple(_plain(entries).items()), digest)
    source = sources[id(selection.snapshot)]
    if stage in entries:
        return (source, stage, None, digest)
    return (source, stage, tuple(path[len(stage) + 1 :] for path in entries), digest)


def about_of(packed: Any) -> About:
    spec, package, defaults, tests = packed["about"]
    return About(spec=Path(spec), package=package, defaults=defaults, tests=tests)


def _plain(entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Return entries as plain values: files, directories, links."""
    return {path: plain_entry(entry) for path, entry in entries.items()}


def pack_entries(entries: Mapping[str, Entry]) -> bytes:
    return marshal.dumps(_plain(entries), 2)


def plain_entry(entry: Entry) -> Any:
    match entry:
        case File(digest, size, executable):
            return (digest, size, executable)
        case Directory(digest):
            return (digest,)
        case Link(target):
            return target


def _entry(plain: Any) -> Entry:
    if isinstance(plain, str):
        return Link(plain)
    return Directory(*plain) if len(plain) == 1 else File(*plain)
