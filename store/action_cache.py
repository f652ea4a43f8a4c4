"""The action cache: what an action gave when it ran, by action digest or by what it read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from store.cas import Cas
from store.digest import Digest, digest_bytes
from store.encoding import TYPE_KEY, encode
from store.errors import BnError
from store.index import Index, Table, Write, to_json
from store.objects import Action, ActionResult, Directory, Entry, File, Link, Realisation
from store.spans import span

PATH_SETS_KEPT: Final = 16
"""Sets of observed paths that are remembered for one observed base, newest first."""

PathSet = tuple[Digest, tuple[str, ...]]
"""The digest of a result and the input paths that its action was seen to read."""

USED: Final = "used/"
"""What begins the names of the numbers that say how many bytes a tier holds."""

_Entries = dict[tuple[Table, str], bytes]

Inputs = Callable[[], Mapping[str, Entry]]
"""Gives all of an action's input entries by path; called only where observed inputs matter."""


class ActionCache:
    """Results by key. What is recorded is seen at once here, and by others after `commit`."""

    def __init__(self, cas: Cas, index: Index) -> None:
        self._cas = cas
        self._index = index
        self._pending: _Entries = {}
        self._in_flight: _Entries = {}

    def lookup(self, action: Action, inputs: Inputs) -> ActionResult | None:
        """Return the result of `action`, or of one that differs only in inputs that it does not
        read; None where there is none whose blobs are all there."""
        result = self._result(action.digest())
        if result is not None or not action.depfile:
            return result
        files = inputs()
        base = observed_base(action, files)
        for _, paths in self._path_sets(base):
            key = observed_key(base, files, paths)
            result = self._result(key) if key else None
            if key and result is not None:
                self._cas.put_object(action.encode())
                self._put(Table.ACTION_CACHE, action.digest(), self._reference(key))
                return result
        return None

    def record(self, action: Action, result: ActionResult, inputs: Inputs) -> None:
        """Keep `result`; the blobs that it names must be in the CAS."""
        self._cas.put_object(action.encode(), new=True)
        reference = self._cas.put_object(result.encode(), new=True).encode()
        self._put(Table.ACTION_CACHE, action.digest(), reference)
        if result.observed is None:
            return
        files = inputs()
        base = observed_base(action, files)
        key = observed_key(base, files, result.observed)
        if key is None:
            return
        self._put(Table.ACTION_CACHE, key, reference)
        others = [row for row in self._path_sets(base) if row[1] != result.observed]
        rows = [(reference.decode(), result.observed), *others]
        self._put(Table.OBSERVED, base, to_json(rows[:PATH_SETS_KEPT]))

    def take_over(self, result: ActionResult) -> None:
        """Keep a result that another store recorded. What it names is here or upstream; of the
        action only the digest is known."""
        reference = self._cas.put_object(result.encode()).encode()
        self._put(Table.ACTION_CACHE, result.action, reference)

    def realisation(self, recipe: Digest) -> Realisation | None:
        """Return what this recipe came to before, if its outputs and its result are all there."""
        reference = self._get(Table.REALISATIONS, recipe)
        found = None if reference is None else self._realisation_at(reference)
        return found if found and found.recipe == recipe else None

    def noted(self, recipes: Iterable[Digest]) -> set[Digest]:
        """Return those of `recipes` that came to something before, whether it is all there or
        not; looked for in one transaction."""
        wanted = list(recipes)
        found = {*map(Digest, self._index.there(Table.REALISATIONS, wanted))}
        for recent in (self._pending, self._in_flight):
            found.update(one for one in wanted if (Table.REALISATIONS, one) in recent)
        return found

    def record_realisation(self, realisation: Realisation) -> None:
        """Keep a realisation."""
        reference = self._cas.put_object(realisation.encode(), new=True).encode()
        self._put(Table.REALISATIONS, realisation.recipe, reference)

    def result_of(self, action: Digest) -> ActionResult | None:
        """Return the recorded result under an action digest, if it is complete."""
        return self._result(action)

    def also(self, write: Write) -> None:
        """Keep something else with the next commit."""
        table, key, value = write
        self._put(table, key, value)

    def commit(self) -> None:
        """Make all that was recorded durable."""
        self.write(self.take())

    def commit_with(self, writes: Iterable[Write], was_safe: bool = True) -> None:
        """Make all that was recorded and `writes` durable together. Who called `Cas.sync` before
        says whether all `was_safe` then."""
        self.write([*self.take(), *writes], was_safe)

    def take(self) -> list[Write]:
        """Return what was recorded and not written yet, for `write`; look-ups still see it."""
        self._in_flight, self._pending = {**self._in_flight, **self._pending}, {}
        return [(table, key, value) for (table, key), value in self._in_flight.items()]

    def write(self, writes: list[Write], was_safe: bool = True) -> None:
        """Make `writes` durable: first objects and files, then the entries that name them. The one
        method here that may run in another thread.

        Where a tier failed before all was safe, entries whose blobs it took along are left out.
        """
        if not writes:
            return
        rows = writes
        with span("sync blobs", "commits"):
            if not (self._cas.sync() and was_safe):
                rows = [one for one in writes if self._is_whole(one)]
        added = self._cas.take_added()
        with span("write index", "commits", entries=len(rows)):
            self._index.put(rows, {f"{USED}{name}": size for name, size in added.items()})
        for table, key, value in writes:
            if self._in_flight.get((table, key)) is value:
                del self._in_flight[table, key]

    def _result(self, key: Digest) -> ActionResult | None:
        reference = self._get(Table.ACTION_CACHE, key)
        return None if reference is None else self._result_at(reference)

    def _is_whole(self, write: Write) -> bool:
        """Say whether all that an entry names is there."""
        table, _, value = write
        if table is Table.ACTION_CACHE:
            return self._result_at(value) is not None
        return table is not Table.REALISATIONS or self._realisation_at(value) is not None

    def _realisation_at(self, reference: bytes) -> Realisation | None:
        try:
            found = Realisation.decode(self._cas.get_bytes(Digest(reference.decode())))
        except (BnError, UnicodeDecodeError):
            return None
        return found if self._cas.complete(Directory(found.outputs)) else None

    def _result_at(self, reference: bytes) -> ActionResult | None:
        try:
            digest = Digest(reference.decode())
            result = ActionResult.decode(self._cas.get_bytes(digest))
        except (BnError, UnicodeDecodeError):
            return None
        self._cas.has(digest)  # it shows that it was used
        whole = self._cas.complete(Directory(result.outputs)) and self._cas.has(result.log)
        return result if whole else None

    def _path_sets(self, base: Digest) -> list[PathSet]:
        return path_sets(self._get(Table.OBSERVED, base))

    def _get(self, table: Table, key: str) -> bytes | None:
        recent = self._pending.get((table, key)) or self._in_flight.get((table, key))
        return recent or self._index.get(table, key)

    def _reference(self, key: Digest) -> bytes:
        reference = self._get(Table.ACTION_CACHE, key)
        assert reference is not None
        return reference

    def _put(self, table: Table, key: str, value: bytes) -> None:
        self._pending[table, key] = value


def path_sets(data: bytes | None) -> list[PathSet]:
    """Return the rows of an entry in the table of observed paths, newest first."""
    try:
        return [(Digest(result), tuple(paths)) for result, paths in json.loads(data or b"[]")]
    except (ValueError, TypeError):
        return []


def observed_base(action: Action, inputs: Mapping[str, Entry]) -> Digest:
    """Return the digest of all of `action` but its inputs' contents: their names and kinds are part
    of it, so that a file that comes or goes (a header that shadows another) is never missed."""
    document = action.document()
    del document["input_root"]
    document[TYPE_KEY] = "observed-base.2"
    document["names"] = [
        [path, entry.target] if isinstance(entry, Link) else [path, isinstance(entry, File)]
        for path, entry in sorted(inputs.items())
    ]
    return digest_bytes(encode(document))


def observed_key(base: Digest, inputs: Mapping[str, Entry], paths: Iterable[str]) -> Digest | None:
    """Return the key of results by the contents of `paths` alone; None where one is no input."""
    contents: dict[str, list[object]] = {}
    for path in paths:
        entry = inputs.get(path)
        if not isinstance(entry, File):
            return None
        contents[path] = [entry.digest, entry.executable]
    return digest_bytes(encode({TYPE_KEY: "observed.1", "base": base, "files": contents}))
