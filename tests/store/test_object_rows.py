"""Tests of how objects lie in their tables, and digests in the index."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from store.digest import Digest, digest_bytes
from store.environment import Environment
from store.errors import IntegrityError
from store.index import Index, Table
from store.index_rows import LONGEST, key_row, row_key, row_value, value_row
from store.object_rows import LOG, PLACES, TABLES, ObjectRows
from store.object_table import DIRECTORY, ObjectTable


def alike(number: int, start: str = "ab" * 8) -> Digest:
    """Return one of many digests that begin alike."""
    return Digest(start + f"{number:048x}")


@pytest.fixture
def table(tmp_path: Path) -> ObjectTable:
    return ObjectTable(tmp_path)


def entries(table: ObjectTable) -> tuple[int, int]:
    """Return how many rows the log and the places have."""
    environment = table.open()
    assert environment is not None
    return environment.count(LOG), environment.count(PLACES)


def test_digests_that_begin_alike_share_a_place(table: ObjectTable) -> None:
    first = {alike(n): b"%d" % n for n in range(3)}
    assert table.put(first) == 3
    more = {alike(3): b"three", alike(1): b"one", digest_bytes(b"other"): b"other"}
    assert table.put(more) == len(b"three") + len(b"other")
    assert entries(table) == (5, 2)
    for digest, data in (first | more).items():
        assert table.read(digest) == data
    assert table.read(alike(9)) is None
    assert {one for one, _ in table.held("ab")} == {alike(n) for n in range(4)}
    assert {one for one, _ in table.held(alike(2))} == {alike(2)}
    assert table.recent([alike(2), alike(7)], 0.0) == {alike(2)}
    assert table.remove([alike(0), alike(8), alike(2)]) == {alike(0): 1, alike(2): 1}
    assert [table.read(alike(n)) for n in range(4)] == [None, b"one", None, b"three"]
    table.remove([alike(1), alike(3)])
    assert entries(table) == (1, 1)
    table.check()


def test_what_is_put_again_makes_the_log_no_longer(table: ObjectTable) -> None:
    objects = {digest_bytes(b"%d" % n): b"%d" % n for n in range(200)}
    assert table.put(objects) == sum(map(len, objects.values()))
    before = {one: found.used for one, found in table.held()}
    assert table.put(objects) == 0
    assert entries(table) == (200, 200)
    assert all(found.used >= before[one] for one, found in table.held())


def test_objects_lie_in_the_order_of_writing(table: ObjectTable) -> None:
    names = [digest_bytes(b"%d" % n) for n in range(300)]
    for at in range(0, 300, 100):
        table.put(dict.fromkeys(names[at : at + 100], b"x"))
    assert [one for one, _ in table.held()] == names
    table.remove(names[250:])
    table.put({names[260]: b"y"})
    assert [one for one, _ in table.held()] == [*names[:250], names[260]]


def test_any_puts_and_removals_leave_what_a_dictionary_has(table: ObjectTable) -> None:
    chance = random.Random(5)
    known: dict[Digest, bytes] = {}
    names = [alike(n, f"{n % 7:016x}") for n in range(60)]
    for _ in range(150):
        some = chance.sample(names, chance.randrange(1, 12))
        if chance.random() < 0.6:
            new = {name: chance.randbytes(chance.choice([0, 9, 3000])) for name in some}
            table.put(new)
            known |= new
        else:
            table.remove(some)
            known = {name: data for name, data in known.items() if name not in some}
    assert {name: table.read(name) for name, _ in table.held()} == known
    table.check()


def test_an_object_that_is_not_in_its_place_is_damage(tmp_path: Path) -> None:
    table = ObjectTable(tmp_path)
    objects = {digest_bytes(b"%d" % n): b"%d" % n for n in range(50)}
    table.put(objects)
    table.close()
    environment = Environment(tmp_path / DIRECTORY, TABLES, "table", "no help")
    lost = next(iter(objects))

    def lose(transaction: Any) -> None:
        handle = environment.handle(PLACES)
        transaction.delete(bytes.fromhex(lost)[:8], db=handle)

    environment.change(lose)
    environment.close()
    with pytest.raises(IntegrityError, match="not in their place"):
        table.check()
    assert table.mend(tmp_path / "quarantine" / "objects.1") == 50
    assert {name: table.read(name) for name in objects} == objects
    table.check()
    assert table.mend(tmp_path / "quarantine" / "objects.2") is None


def test_rows_that_are_cut_short_are_no_objects(tmp_path: Path) -> None:
    table = ObjectTable(tmp_path)
    digest = digest_bytes(b"x")
    table.put({digest: b"x"})
    environment = table.open()
    assert environment is not None

    def cut(transaction: Any) -> None:
        rows = ObjectRows(transaction, environment.handle)
        number = rows._numbers(bytes.fromhex(digest))
        transaction.put(number, b"short", db=environment.handle(LOG))

    environment.change(cut)
    assert table.read(digest) is None
    assert table.held() == []
    with pytest.raises(IntegrityError):
        table.check()


DIGEST = "0f" * 32
KEYS = ["", "a", DIGEST, DIGEST[:-1], DIGEST + "0", DIGEST.upper(), " " + DIGEST[1:], "é" * 32]
VALUES = [
    b"",
    b"x",
    *[key.encode() for key in KEYS],
    f"[{DIGEST},{DIGEST}{DIGEST}abc".encode(),
    b"\xff",
    b"\xfe",
    b"\xfe\xff" + DIGEST.encode(),
    DIGEST.encode() + b"\xff",
    bytes(range(256)),
    b"\xff" * 33,
    f'{{"a":"{DIGEST}"}}'.encode() * 40,
    ("f" * 64).encode(),
    ("fe" * 32).encode() * 2,
]


@pytest.mark.parametrize("value", VALUES)
def test_values_come_back_as_they_were(value: bytes) -> None:
    assert row_value(value_row(value)) == value


def test_any_values_come_back_as_they_were() -> None:
    chance = random.Random(1)
    parts = [
        DIGEST.encode(),
        b"\xff",
        b"\xfe",
        b"a",
        b'"',
        "ü".encode(),
        os.urandom(32).hex().encode(),
    ]
    for _ in range(3000):
        value = b"".join(chance.choices(parts, k=chance.randrange(6)))
        assert row_value(value_row(value)) == value


@pytest.mark.parametrize("key", KEYS)
def test_keys_come_back_as_they_were(key: str) -> None:
    assert row_key(key_row(key)) == key
    assert len({key_row(one) for one in KEYS}) == len(KEYS)


def test_digests_stand_as_bytes() -> None:
    assert len(key_row(DIGEST)) == len(value_row(DIGEST.encode())) == 33
    assert len(value_row(f'[["{DIGEST}"]]'.encode())) == 39
    long = f'"{DIGEST}"'.encode() * (LONGEST // 64)
    assert value_row(long) == long


def test_index_gives_what_was_put(tmp_path: Path) -> None:
    index = Index(tmp_path)
    rows = {key or "-": value for key, value in zip(KEYS, VALUES, strict=False)}
    index.write([(Table.DERIVED, key, value) for key, value in rows.items()])
    assert dict(index.items(Table.DERIVED)) == rows
    assert index.get_many(Table.DERIVED, rows) == rows
    assert {key: index.get(Table.DERIVED, key) for key in rows} == rows
    assert index.edit(Table.DERIVED, rows, lambda key, value: value + DIGEST.encode()) == 0
    assert index.get(Table.DERIVED, DIGEST) == rows[DIGEST] + DIGEST.encode()
    index.close()
