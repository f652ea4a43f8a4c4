"""Maps of tables: pages that were read are given back, of all tables that are open."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from store.environment import DATA, Environment
from store.mapped import MANY_ROWS, PATIENCE, places_of

ROWS = 4096


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[list[Environment]]:
    """Two environments with some MiB in each."""
    with ExitStack() as stack:
        found = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            made = Environment(tmp_path / name, ["rows"], "table", "make it again")
            found.append(stack.enter_context(closing(made)))

            def fill(transaction: Any, made: Environment = made) -> None:
                for number in range(ROWS):
                    transaction.put(b"%d" % number, bytes(1024), db=made.handle("rows"))

            made.change(fill)
        yield found


def read_all(table: Environment) -> None:
    """Read each row of a table, and count no looks."""

    def read(transaction: Any) -> int:
        return sum(len(row) for _, row in transaction.cursor())

    assert table.read("rows", read, 0) == ROWS * 1024


def mapped(directory: Path) -> int:
    """Return how many bytes of a table are mapped here and in memory."""
    inode, found, counts = os.stat(directory / DATA).st_ino, 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        fields = line.split()
        if not fields[0].endswith(":"):
            counts = int(fields[4]) == inode
        elif counts and fields[0] == "Rss:":
            found += int(fields[1]) * 1024
    return found


def test_looks_into_one_table_give_back_what_is_mapped_of_all(
    tables: list[Environment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for much in (False, True):
        monkeypatch.setattr("store.mapped.is_much", lambda much=much: much)
        for table in tables:
            read_all(table)
        tables[0].looked(PATIENCE + 1)
        left = [mapped(tmp_path / name) for name in ("one", "other")]
        assert all(bytes_left < 1 << 16 if much else bytes_left > 1 << 20 for bytes_left in left)
    tables[1].close()
    tables[0].looked(PATIENCE + 1)
    read_all(tables[0])


def test_what_another_thread_reads_is_given_back_at_the_next_look(
    tables: list[Environment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, reads, looked = tables[0], threading.Event(), threading.Event()
    monkeypatch.setattr("store.mapped.is_much", lambda: True)

    def held(transaction: Any) -> int:
        reads.set()
        looked.wait(10)
        return sum(len(row) for _, row in transaction.cursor())

    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(table.read, "rows", held, 0)
        assert reads.wait(10)
        table.looked(PATIENCE)
        looked.set()
        assert read.result() == ROWS * 1024
    assert mapped(tmp_path / "one") > 1 << 20
    table.looked()
    assert mapped(tmp_path / "one") < 1 << 16


def test_nothing_is_given_back_of_tables_that_went_without_being_closed(
    tables: list[Environment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At their place may be anything by then: other tables, or this process's own memory."""
    released: list[tuple[int, int]] = []
    monkeypatch.setattr("store.mapped.is_much", lambda: True)
    monkeypatch.setattr("store.mapped.release", released.extend)
    (tmp_path / "gone").mkdir()
    gone = Environment(tmp_path / "gone", ["rows"], "table", "make it again")
    tables[0].looked(PATIENCE)
    of_gone = set(places_of(tmp_path / "gone" / DATA))
    assert of_gone & {*released}
    released.clear()
    del gone
    gc.collect()
    assert not places_of(tmp_path / "gone" / DATA)
    tables[0].looked(PATIENCE)
    assert released
    assert not of_gone & {*released}


def test_tables_of_a_large_process_are_opened_anew(
    tables: list[Environment], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, opened = tables[0], list[object]()
    environment_of = Environment._environment_of

    def counted(self: Environment, size: int) -> object:
        opened.append(self)
        return environment_of(self, size)

    def fill(transaction: Any) -> None:
        transaction.put(b"7", b"x" * 1024, db=table.handle("rows"))
        table.put(MANY_ROWS // 2)

    monkeypatch.setattr(Environment, "_environment_of", counted)
    for heavy, times in ((False, 4), (True, 1), (True, 1), (True, 1)):
        monkeypatch.setattr("store.mapped.is_heavy", lambda heavy=heavy: heavy)
        for _ in range(times):
            table.change(fill)
    assert opened == [table, table], "after the first, as many rows as before wait, and the third"
    assert table.get("rows", b"7") == b"x" * 1024
    read_all(table)
