"""Reading all of an LMDB file, as a program: a damaged page can end the process that reads it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import lmdb

from store.environment import MAP_LEAST
from store.pages import DATA, DamagedPage, check_pages


def read_all(path: str, tables: Iterable[str]) -> None:
    """Check every page, then walk every table: all keys and values, in order, as many as are
    counted. Nobody writes meanwhile: a transaction that changes nothing is open for that. Ends the
    process with a message where something is wrong."""
    size = max(os.stat(f"{path}/{DATA}").st_size, MAP_LEAST)
    writable = os.access(path, os.W_OK)
    environment = lmdb.open(
        path, map_size=size, max_dbs=16, create=False, readonly=not writable, lock=writable
    )
    with environment.begin(write=writable) as transaction:
        try:
            check_pages(f"{path}/{DATA}")
        except DamagedPage as damage:
            sys.exit(str(damage))
        names = [bytes(name) for name, _ in transaction.cursor()]
        for name in names:
            _walk(environment, transaction, name, size)
    unknown = set(names) - {table.encode() for table in tables}
    if unknown:
        sys.exit(f"unknown tables {sorted(unknown)}")


def _walk(
    environment: lmdb.Environment, transaction: lmdb.Transaction, name: bytes, size: int
) -> None:
    handle = environment.open_db(name, transaction, create=False)
    before, count = b"", 0
    for key, value in transaction.cursor(handle):
        if not before < bytes(key) or len(bytes(value)) > size:
            sys.exit(f"table {name!r} is out of order")
        before, count = bytes(key), count + 1
    if count != transaction.stat(handle)["entries"]:
        sys.exit(f"table {name!r} has lost entries")


if __name__ == "__main__":
    read_all(sys.argv[1], sys.argv[2:])
