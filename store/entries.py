"""Entries: what clients of the cache server stored, as rows under (name space, kind, key).

::

    rows     name → digest, size, times, small facts    a name is the name space, the kind, the key
    order    name space, time of use → name             what goes first where there is a quota
    refs     digest → how many rows name it             with none left a blob is an orphan
    orphans  digest → its size                          until `store.orphaned` removes its bytes
    usage    name space → how many rows and bytes

All of it changes in one transaction each time, so counters and references are always right. A row
is written when its bytes are durable, and goes before they do. Unlike the index it cannot be made
again from the blobs: of a damaged environment every row is saved whose check is right.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from store.ballast import Ballast
from store.digest import Digest
from store.entry_rows import (
    SLOTS,
    Put,
    Row,
    Usage,
    name_of,
    name_start,
    parts_of,
    row_of,
    slot,
    usage_of,
)
from store.entry_tables import ORPHANS, PORTION, REFS, ROWS, TABLES, USAGE, Tables
from store.environment import Environment, check
from store.errors import HostError, NoSpace, host_error
from store.lmdb_errors import error_number
from store.object_table import LEAST_FREE
from store.room import free_bytes
from store.ticking import STEP, Clock
from store.uses import Uses

__all__ = ["Entries", "Put", "Row", "Usage", "Vanished"]

DIRECTORY: Final = "entries"
WHAT: Final = "table of cache entries"
HINT: Final = "`bn store rebuild-index` saves what is good in it"


class Vanished(Exception):
    """Blobs that rows were to name were removed just now; nothing was written."""

    def __init__(self, digests: set[Digest]) -> None:
        super().__init__(f"{len(digests)} blobs")
        self.digests = digests


class Entries:
    """The entries of the store at `root`. Safe for several processes, and threads, at once.

    Raises HostError where the disk fails, IntegrityError where the tables are damaged.
    """

    def __init__(self, root: Path, *, readonly: bool = False, relaxed: bool = False) -> None:
        """Open them; where that is `relaxed`, what is written is durable only when the environment
        has been synced."""
        self.path = root / DIRECTORY
        self._readonly = readonly
        self._clock = Clock()
        self._lock = -1
        if not readonly:
            self._lock = lock(root, fcntl.LOCK_SH)
        try:
            if not readonly:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self.path)
            self._environment = Environment(
                self.path, TABLES, WHAT, HINT, readonly=readonly, relaxed=relaxed
            )
        except BaseException:
            self._unlock()
            raise
        self.changed: Callable[[], object] = int
        """Called after each transaction."""
        self._uses = Uses(f"{self.path}/uses", SLOTS)
        self._ballast = Ballast(self.path / "ballast")
        if not readonly:
            self._ballast.take_in()

    def check(self) -> None:
        """Read all of the tables; raises IntegrityError where they are damaged."""
        check(self.path, TABLES, WHAT, HINT)

    def close(self) -> None:
        """Close the tables."""
        self._environment.close()
        self._uses.close()
        self._unlock()

    # reading

    def find(self, name_space: str, kind: str, key: str) -> Row | None:
        """Return what stands under a key, and note that it is used."""
        name = name_of(name_space, kind, key)
        row = row_of(name, self._environment.get(ROWS, name))
        if row is not None:
            self._note(name)
        return row

    def find_many(self, name_space: str, kind: str, keys: Iterable[str]) -> dict[str, Row]:
        """Return what stands under those of `keys` that are there, and note that it is used."""
        names = {key: name_of(name_space, kind, key) for key in keys}

        def read(transaction: Any) -> dict[str, Row]:
            found = {}
            for key, name in names.items():
                row = row_of(name, transaction.get(name))
                if row is not None:
                    found[key] = row
                self._environment.looked()
            return found

        rows = self._environment.read(ROWS, read, dict[str, Row]())
        for row in rows.values():
            self._note(row.name)
        return rows

    def find_under(
        self, name_space: str, kind: str, keys: Iterable[str]
    ) -> dict[str, dict[str, Row]]:
        """Return, for those of `keys` that have any, the rows at `key` and `key/…` by their own
        keys, all as of one moment; nothing is noted."""
        names = {key: name_of(name_space, kind, key) for key in keys}

        def read(transaction: Any) -> dict[str, dict[str, Row]]:
            found: dict[str, dict[str, Row]] = {}
            cursor = transaction.cursor()
            for key, first in names.items():
                for name, value in cursor if cursor.set_range(first) else ():
                    rest = name[len(first) : len(first) + 1]
                    if not name.startswith(first) or rest > b"/":
                        break
                    row = row_of(name, value) if rest in (b"", b"/") else None
                    if row is not None:
                        found.setdefault(key, {})[parts_of(name, value)[2]] = row
                self._environment.looked()
            return found

        return self._environment.read(ROWS, read, dict[str, dict[str, Row]]())

    def each(self, name_space: str, kind: str = "", prefix: str = "") -> Iterator[tuple[str, Row]]:
        """Yield keys and rows of a kind whose key begins with `prefix`, by key; nothing is noted.

        Without a kind, all of the name space.
        """
        for name, value in self._scan(ROWS, name_start(name_space, kind, prefix)):
            row = row_of(name, value)
            if row is not None:
                _, _, key = parts_of(name, value)
                if key.startswith(prefix):
                    used = max(row.used, self._uses.of(slot(name)))
                    yield key, Row(row.digest, row.size, row.stored, used, row.meta, name)

    def all(self) -> Iterator[tuple[str, str, str, Row]]:
        """Yield name space, kind, key and row of every entry; nothing is noted."""
        for name, value in self._scan(ROWS, b""):
            row = row_of(name, value)
            if row is not None:
                used = max(row.used, self._uses.of(slot(name)))
                last = Row(row.digest, row.size, row.stored, used, row.meta, name)
                yield *parts_of(name, value), last

    def usage(self, name_space: str) -> Usage:
        """Return how much a name space has."""
        return usage_of(self._environment.get(USAGE, name_space.encode()))

    def name_spaces(self) -> dict[str, Usage]:
        """Return how much each name space has."""
        return {name.decode(): usage_of(value) for name, value in self._scan(USAGE, b"")}

    def is_named(self, digest: Digest) -> bool:
        """Say whether a row names the blob."""
        return self._environment.get(REFS, bytes.fromhex(digest)) is not None

    def is_orphan(self, digest: Digest) -> bool:
        """Say whether the last row of a blob went and its bytes are still to go."""
        return self._environment.get(ORPHANS, bytes.fromhex(digest)) is not None

    def orphans(self) -> Iterator[Digest]:
        """Yield the blobs of which no row is left and whose bytes are still to go."""
        for digest, _ in self._scan(ORPHANS, b""):
            yield Digest(digest.hex())

    def used(self, rows: Iterable[Row]) -> None:
        """Note that rows are used now."""
        for row in rows:
            if row.name:
                self._note(row.name)

    # writing

    def put(
        self,
        puts: Sequence[Put],
        quotas: Mapping[str, int] | None = None,
        there: Callable[[Digest], bool] | None = None,
    ) -> tuple[list[Row], dict[str, Usage]]:
        """Write rows in one transaction that is durable when this returns, unless they were opened
        `relaxed`, and return them.

        A name space that gets over its quota (bytes) loses what was used longest ago; how much
        that was, by name space, is returned, too. `there` says whether a blob is in the store, of
        those that no row names yet. Raises Vanished where it is not.
        """
        rows: list[Row] = []
        gone: dict[str, Usage] = {}

        def change(transaction: Any) -> None:
            nonlocal gone
            rows.clear()
            now = self._clock.now(len(puts))
            tables = Tables(self._environment, transaction, self._uses)
            rows.extend(tables.put(one, now + at * STEP) for at, one in enumerate(puts))
            missing = tables.missing(there) if there is not None else set()
            if missing:
                raise Vanished(missing)
            gone = tables.make_room(quotas or {})
            tables.finish()

        self._change(change)
        return rows, gone

    @property
    def environment(self) -> Environment:
        """What makes durable what was written, where that is done afterwards."""
        return self._environment

    def remove(self, rows: Iterable[Row]) -> Usage:
        """Remove rows that are still as they were found, and return what that was."""
        return self._removal({row.name: row.digest for row in rows if row.name})

    def evict(self, name_space: str, size: int) -> Usage:
        """Remove what was used longest ago until a name space has at most `size` bytes, and return
        what that was."""
        entries = freed = 0
        gone = Usage(1)

        def change(transaction: Any) -> None:
            nonlocal gone
            tables = Tables(self._environment, transaction, self._uses)
            gone = tables.evict(name_space, size)
            tables.finish()

        while gone.entries and self.usage(name_space).bytes > size:
            self._change(change, frees=True)
            entries, freed = entries + gone.entries, freed + gone.bytes
        return Usage(entries, freed)

    def expire(self, before: float) -> Usage:
        """Remove rows that were last used before a time (seconds since 1970)."""
        entries = size = 0
        names = [row.name for *_, row in self.all() if row.used < before]
        while names:
            some, names = names[:PORTION], names[PORTION:]
            gone = self._removal({n: None for n in some if self._uses.of(slot(n)) < before})
            entries, size = entries + gone.entries, size + gone.bytes
        return Usage(entries, size)

    def reap(self, digests: Iterable[Digest], remove: Callable[[list[Digest]], set[Digest]]) -> int:
        """Let `remove` take away the bytes of orphans, of those among `digests` that are still
        some; it returns which of them are settled. Return how many are not.

        No row comes to name one of them meanwhile.
        """
        names, left = list(digests), 0

        def change(transaction: Any) -> None:
            nonlocal left
            table = self._environment.handle(ORPHANS)
            still = [d for d in names if transaction.get(bytes.fromhex(d), db=table) is not None]
            settled = remove(still)
            left = len(still) - len(settled)
            for digest in settled:
                transaction.delete(bytes.fromhex(digest), db=table)

        self._change(change, frees=True)
        return left

    def unnamed(
        self, digests: Iterable[Digest], remove: Callable[[list[Digest]], set[Digest]]
    ) -> None:
        """Let `remove` take away those of some blobs that no row names, while none comes to."""
        names = list(digests)

        def change(transaction: Any) -> None:
            refs = self._environment.handle(REFS)
            remove([d for d in names if transaction.get(bytes.fromhex(d), db=refs) is None])

        self._change(change, frees=True)

    # inside

    def _change(self, change: Callable[[Any], None], *, frees: bool = False) -> None:
        """Change something in one transaction; what frees room in the end may use the ballast for
        that. Raises NoSpace where the disk is full."""
        try:
            self._environment.change(change)
            self.changed()
            if frees:
                self._ballast.take_in()
        except HostError as error:
            if not self._is_full(error):
                raise
            if not frees or not self._ballast.drop():
                raise NoSpace(error.message, error.hint) from error
            self._environment.change(change)
            self.changed()

    def _unlock(self) -> None:
        handle, self._lock = self._lock, -1
        if handle >= 0:
            os.close(handle)

    def _is_full(self, error: HostError) -> bool:
        number = error_number(error.__cause__)
        full = number == errno.EIO and free_bytes(self.path) < LEAST_FREE
        return full or number in (errno.ENOSPC, errno.EDQUOT)

    def _note(self, name: bytes) -> None:
        if not self._readonly:
            with contextlib.suppress(OSError):  # a full disk
                self._uses.note(slot(name), self._clock.now())

    def _removal(self, names: Mapping[bytes, Digest | None]) -> Usage:
        """Remove rows, where a digest is given only if they still name it."""
        gone = Usage()

        def change(transaction: Any) -> None:
            nonlocal gone
            entries = size = 0
            tables = Tables(self._environment, transaction, self._uses)
            for name, digest in names.items():
                row = tables.row(name)
                if row is not None and digest in (None, row.digest):
                    tables.remove(name)
                    entries, size = entries + 1, size + row.size
            tables.finish()
            gone = Usage(entries, size)

        if names:
            self._change(change, frees=True)
        return gone

    def _scan(self, table: str, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield what stands under keys that begin with `prefix`, some at a time."""
        after = prefix
        while True:

            def read(transaction: Any, first: bytes = after) -> list[tuple[bytes, bytes]]:
                cursor = transaction.cursor()
                found: list[tuple[bytes, bytes]] = []
                for key, value in cursor if cursor.set_range(first) else ():
                    if not key.startswith(prefix) or len(found) == PORTION:
                        break
                    found.append((bytes(key), bytes(value)))
                    self._environment.looked()
                return found

            empty: list[tuple[bytes, bytes]] = []
            found = self._environment.read(table, read, empty)
            yield from found
            if len(found) < PORTION:
                return
            after = found[-1][0] + b"\0"


def lock(root: Path, how: int) -> int:
    """Return the descriptor of a lock (flock(2)) that all share who have the entries open.

    Raises HostError where it cannot be had, BlockingIOError where `how` does not wait for it.
    """
    try:
        handle = os.open(root / f"{DIRECTORY}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise host_error(error, f"cannot open the {WHAT}") from error
    try:
        fcntl.flock(handle, how)
    except BaseException:
        os.close(handle)
        raise
    return handle
