"""Graphs made as plain values: each recipe is packed as soon as it is expanded.

The objects that a recipe consists of take ten times the room of its row.
"""

from __future__ import annotations

import marshal
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from engine.graph import Need, Recipe, Selection
from store.digest import Digest
from store.ingest import Snapshot
from store.objects import Directory, Entry, File, Link

Shared = TypeVar("Shared")

_REMEMBERED: Final = 1024
"""Selections and needs, the last ones, of which it is seen that recipes share them."""


class Rows:
    """Plain values in one piece of memory."""

    def __init__(
        self,
        data: bytes | bytearray = b"",
        ends: bytes = b"",
        values: Sequence[Any] | None = None,
    ) -> None:
        """Take rows as they were packed; `values` are the same rows where they are at hand."""
        self._values = values
        self._data = bytearray(data) if not ends else data
        self._ends = array("q")
        self._ends.frombytes(ends)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: int) -> Any:
        if self._values is not None:
            return self._values[number]
        start = self._ends[number - 1] if number else 0
        return marshal.loads(memoryview(self._data)[start : self._ends[number]])

    def __iter__(self) -> Iterator[Any]:
        if self._values is not None:
            return iter(self._values)
        return map(self.__getitem__, range(len(self)))

    def append(self, value: Any) -> int:
        """Add a row to those that were made here and return its number."""
        assert isinstance(self._data, bytearray)
        self._data += marshal.dumps(value, 2)
        self._ends.append(len(self._data))
        return len(self._ends) - 1

    def extend(self, other: Rows) -> None:
        """Add the rows of another one."""
        assert isinstance(self._data, bytearray)
        start = len(self._data)
        self._data += other._data
        self._ends.extend([start + end for end in other._ends])

    def plain(self) -> tuple[bytes | bytearray, bytes]:
        """Return what another one can be made of."""
        return self._data, self._ends.tobytes()


def set_in(flags: bytearray) -> Iterator[int]:
    """Yield the numbers of the bytes that are 1, of those behind it also what is set meanwhile."""
    number = flags.find(1)
    while number >= 0:
        yield number
        number = flags.find(1, number + 1)


class _Last(Generic[Shared]):
    """The numbers of the objects met last. It holds them, so that their ids stay theirs."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, Shared]] = {}

    def find(self, one: Shared) -> int | None:
        """Return the number of an object, None for one that is new or was met long ago."""
        known = self._known.get(id(one))
        return None if known is None else known[0]

    def note(self, one: Shared, number: int) -> int:
        """Remember an object's number and return it."""
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[id(one)] = (number, one)
        return number


class Batch:
    """The recipes of one action, not part of the graph before all of them are known."""

    def __init__(self, packer: Packer) -> None:
        self.labels: list[str] = []
        self.digests = bytearray()
        self.rows = Rows()
        self._packer = packer

    def add(self, recipe: Recipe) -> None:
        """Pack a recipe."""
        self.labels.append(recipe.label)
        self.digests += bytes.fromhex(recipe.digest)
        self.rows.append(self._packer.row(recipe))


class Made:
    """The recipes that make up an artifact, by label."""

    __slots__ = ("_at", "_below", "_packer", "first", "labels")

    def __init__(self, packer: Packer, first: int, labels: tuple[str, ...]) -> None:
        self.first = first
        self.labels = labels
        self._packer = packer
        self._at: dict[str, list[int]] = {}
        self._below: dict[str, list[int]] = {}
        """Places of the recipes with an output at a path, and of those with one below it."""

    def outputs(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield each label with the outputs of the recipe."""
        for number, label in enumerate(self.labels, self.first):
            yield label, self._packer.rows[number][2]

    def near(self, path: str) -> list[str]:
        """Return the labels of the recipes that have an output at a path, below it, or above it."""
        if not self._at:
            for place, (_, outputs) in enumerate(self.outputs()):
                for output in outputs:
                    self._at.setdefault(output, []).append(place)
                    for above in _above(output):
                        self._below.setdefault(above, []).append(place)
        places = {*self._at.get(path, ()), *self._below.get(path, ())}
        for above in _above(path):
            places.update(self._at.get(above, ()))
        return [self.labels[place] for place in sorted(places)]


def _above(path: str) -> Iterator[str]:
    """Yield the directories above a path, the uppermost first."""
    return (path[: slash.start()] for slash in re.finditer("/", path))


class Packer:
    """The recipes of a graph that is being made."""

    def __init__(self) -> None:
        self.rows = Rows()
        self._numbers: dict[str, int] = {}
        self._digests = bytearray()
        self._forms: dict[Any, int] = {}
        self._selections = Rows()
        self._needs = Rows()
        self._snapshots: dict[int, tuple[int, Snapshot]] = {}
        self._last_selections = _Last[Selection]()
        self._last_needs = _Last[tuple[Need, ...]]()

    @property
    def snapshots(self) -> list[Snapshot]:
        """The directories that recipes take something from."""
        return [snapshot for _, snapshot in self._snapshots.values()]

    def digest_of(self, label: str) -> Digest:
        """Return a recipe digest."""
        at = 32 * self._numbers[label]
        return Digest(self._digests[at : at + 32].hex())

    def take(self, batch: Batch) -> Made:
        """Make the recipes of an action part of the graph."""
        first = len(self.rows)
        self._numbers.update((label, first + at) for at, label in enumerate(batch.labels))
        self._digests += batch.digests
        self.rows.extend(batch.rows)
        return Made(self, first, tuple(batch.labels))

    def row(self, recipe: Recipe) -> Any:
        """Return a recipe as plain values: a form that others share, and what is its own."""
        one = recipe.resources
        form = (
            tuple(recipe.env.items()),
            recipe.depfile,
            recipe.toolchains,
            recipe.test,
            (one.cpus, one.memory, one.timeout),
        )
        return (
            self._forms.setdefault(form, len(self._forms)),
            recipe.command,
            recipe.outputs,
            tuple(map(self._selection, recipe.selections)),
            self._needed(recipe.needs),
        )

    def packed(self) -> dict[str, Any]:
        """Return all recipes as plain values."""
        return {
            "forms": list(self._forms),
            "selections": self._selections.plain(),
            "needs": self._needs.plain(),
            "labels": list(self._numbers),
            "digests": bytes(self._digests),
            "recipes": self.rows.plain(),
        }

    def _needed(self, needs: tuple[Need, ...]) -> int:
        number = self._last_needs.find(needs)
        if number is None:
            plain = tuple((self._numbers[n.recipe], n.stage, n.pattern) for n in needs)
            number = self._last_needs.note(needs, self._needs.append(plain))
        return number

    def _selection(self, selection: Selection) -> int:
        number = self._last_selections.find(selection)
        if number is None:
            plain = self._plain(selection)
            number = self._last_selections.note(selection, self._selections.append(plain))
        return number

    def _plain(self, selection: Selection) -> Any:
        """Return the number of its source (-1: it never changes), where it is staged, what is taken
        of it (None: all), and its digest."""
        stage, entries, snapshot = selection.stage, selection.entries, selection.snapshot
        digest = bytes.fromhex(selection.digest)
        if snapshot is None:
            return (-1, stage, tuple(plain_entries(entries).items()), digest)
        fresh = (len(self._snapshots), snapshot)
        source = self._snapshots.setdefault(id(snapshot), fresh)[0]
        if stage in entries:
            return (source, stage, None, digest)
        return (source, stage, tuple(path[len(stage) + 1 :] for path in entries), digest)


def plain_entries(entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Return entries as plain values: files, directories, links."""
    return {path: plain_entry(entry) for path, entry in entries.items()}


def entry_of(plain: Any) -> Entry:
    """Return the entry that was made plain."""
    if isinstance(plain, str):
        return Link(plain)
    return Directory(*plain) if len(plain) == 1 else File(*plain)


def plain_entry(entry: Entry) -> Any:
    """Return an entry as a plain value."""
    if isinstance(entry, File):
        return (entry.digest, entry.size, entry.executable)
    return (entry.digest,) if isinstance(entry, Directory) else entry.target
