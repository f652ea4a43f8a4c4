"""Stores of format 1 made stores of format 2: their tables are written anew beside the old ones,
which they then replace by a rename.

::

    1 ──all tables locked──▶ 1>2 ──tables, one by one──▶ 2

What a table's names are tells of which format it is, so an upgrade that was cut short goes on where
it was. Nobody can open a table meanwhile: LMDB waits for its lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import lmdb

from store import index
from store.checkpoints import LOCK, NAME, Checkpoints
from store.durability import sync_file_system
from store.environment import MAP_LEAST, MAP_SIZE, READERS
from store.epoch import EPOCH_NS
from store.errors import HostError
from store.index_rows import key_row, value_row
from store.mapped import reserve
from store.object_rows import KEY, OLD, TABLES, TIME, ObjectRows
from store.pages import DATA
from store.resting import at_rest, check, comes_to_rest

if TYPE_CHECKING:
    from store.object_table import ObjectTable

BETWEEN: Final = "1>2"
"""What the file `format` says while tables of both formats may be there."""

_BESIDE: Final = "upgrade"
_TOGETHER: Final = 4096
"""Rows that are written in a transaction."""

_FLOCK: Final = struct.Struct("@hhqqi4x")
"""How the system is asked who has a lock."""

Lost = Callable[[float], object]
Step = Callable[[Any, Any], None]
Rows = Callable[[Any, Any], Iterator[Step]]


def upgrade_store(root: Path, objects: Iterable[ObjectTable], begun: Callable[[], object]) -> None:
    """Give the index of the store at `root`, and the tables of objects of its tiers that can be
    written, the layout of format 2. `begun` is called when nobody else uses them, before anything
    is changed.

    Raises HostError where somebody else uses one of them or there is no room, IntegrityError where
    one is damaged.
    """
    tables: list[tuple[Path, Rows, Lost]] = [(one.path, _objects, one.lost) for one in objects]
    with contextlib.ExitStack() as stack:
        tables.append((root / "index", _facts, lambda _: None))
        there = [one for one in tables if _is_ours(one[0])]
        for path, _, lost in there:
            _settle(path, lost)
        for path, _, _ in there:
            stack.enter_context(_alone(path))
        begun()
        _sync(root)
        for path, rows, _ in there:
            _renew(path, rows)


def upgrade_objects(path: Path, lost: Lost) -> None:
    """Give the table of objects in the directory `path` the layout of format 2, as that of a tier
    that was not there when the store got it. Raises as `upgrade_store` does."""
    _settle(path, lost)
    with _alone(path):
        _renew(path, _objects)


def _is_ours(path: Path) -> bool:
    return (path / DATA).exists() and os.access(path, os.W_OK)


def _settle(path: Path, lost: Lost) -> None:
    """See to it that a table is whole. Raises IntegrityError where it is not."""
    names = (OLD, *TABLES) if path.name == "objects" else (index.OLD, *index.Table)
    checkpoints = Checkpoints(path)
    try:
        if checkpoints.restore(lost) or not comes_to_rest(path):
            check(path, names, "table", index.REBUILD)
            os.utime(path / DATA, ns=EPOCH_NS)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        checkpoints.close()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep others from opening a table. Raises HostError where one has it open."""
    try:
        reserve(path / LOCK)
        handle = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(path, error) from error
    try:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise _refused(path, error) from error
            raise _used(path, _holder(handle)) from error
        if not at_rest(path):  # it was written to since it was found whole
            raise _used(path)
        yield
    finally:
        os.close(handle)


def _renew(path: Path, rows: Rows) -> None:
    """Write a table anew, where it is an old one, and put it in its place."""
    beside = path / _BESIDE
    try:
        shutil.rmtree(beside, ignore_errors=True)
        old = lmdb.open(
            str(path),
            readonly=True,
            lock=False,
            create=False,
            max_dbs=16,
            map_size=max(os.stat(path / DATA).st_size, MAP_LEAST),
        )
        try:
            with old.begin() as reading:
                name = OLD if rows is _objects else index.OLD
                if not reading.cursor().set_key(name.encode()):
                    return
                beside.mkdir()
                _write(beside, rows(old, reading))
        finally:
            old.close()
        os.utime(beside / DATA, ns=EPOCH_NS)
        if (path / NAME).exists():  # what it says is of the old table
            sync_file_system(path)
            os.unlink(path / NAME)
            _sync(path)
        os.rename(beside / DATA, path / DATA)
        _sync(path)
        shutil.rmtree(beside, ignore_errors=True)
    except (OSError, lmdb.Error) as error:
        raise _refused(path, error) from error


def _write(beside: Path, steps: Iterator[Step]) -> None:
    """Make a table of what `steps` put into it, each in a transaction, durably."""
    new = _opened(beside)
    try:
        for step in steps:
            with new.begin(write=True) as writing:
                step(new, writing)
        new.sync(True)
    finally:
        new.close()
    _sync(beside)


def _opened(beside: Path) -> Any:
    size = MAP_SIZE
    while True:
        try:
            return lmdb.open(
                str(beside), map_size=size, max_dbs=16, max_readers=READERS, sync=False
            )
        except (lmdb.MemoryError, MemoryError, OverflowError):
            if size <= MAP_LEAST:
                raise
            size >>= 1


def _objects(old: Any, reading: Any) -> Iterator[Step]:
    """Yield what puts the objects of the old table into the new ones, in the order of writing."""
    handle = old.open_db(OLD.encode(), reading, create=False)
    cursor = reading.cursor(handle)
    order = sorted(
        (TIME.unpack_from(value)[0], key)
        for key, value in cursor
        if len(key) == KEY and len(value) >= TIME.size
    )

    def step(keys: list[bytes], new: Any, writing: Any) -> None:
        tables = {name: new.open_db(name.encode(), writing) for name in TABLES}
        values = [(key, reading.get(key, db=handle)) for key in keys]
        rows = [(key, value[: TIME.size], value[TIME.size :]) for key, value in values]
        ObjectRows(writing, tables.__getitem__).put(rows)

    for at in range(0, max(1, len(order)), _TOGETHER):
        yield functools.partial(step, [key for _, key in order[at : at + _TOGETHER]])


def _facts(old: Any, reading: Any) -> Iterator[Step]:
    """Yield what puts the rows of the old index into the new one."""
    for table in index.Table:
        name = index.OLD if table is index.Table.META else table
        try:
            handle = old.open_db(name.encode(), reading, create=False)
        except lmdb.NotFoundError:
            continue
        rows: list[tuple[bytes, bytes]] = []

        def step(new: Any, writing: Any, table: str = table, rows: Any = rows) -> None:
            into = new.open_db(table.encode(), writing)
            for key, value in sorted(rows):
                writing.put(key, value, db=into)
            rows.clear()

        for key, value in reading.cursor(handle):
            rows.append((key_row(key.decode(errors="replace")), value_row(value)))
            if len(rows) >= _TOGETHER:
                yield step
        yield step


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _holder(handle: int) -> str:
    """Return who keeps others from locking a table."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
    try:
        kind, *_, pid = _FLOCK.unpack(fcntl.fcntl(handle, fcntl.F_GETLK, asked))
    except OSError:
        return "another process"
    return f"process {pid}" if kind != fcntl.F_UNLCK and pid > 0 else "another process"


def _used(path: Path, who: str = "another process") -> HostError:
    return HostError(
        f"{path}: the store was made by an older bn and {who} uses it",
        "end it, or wait until it ends: then the store is brought up to date",
    )


def _refused(path: Path, error: Exception) -> HostError:
    return HostError(
        f"{path}: the store was made by an older bn and cannot be brought up to date: {error}",
        "make room for a second copy of it and see that it is writable, "
        "or use another store with BN_STORE",
    )
