"""The zygote's stock: nothing stands under a digest that it does not have."""

from __future__ import annotations

import marshal
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.memo import memo_path, read_memo, write_memo
from engine.watch.stocking import LARGEST, MOST, Stocking, leave
from executors.cells import Kind
from store import stock
from store.digest import Digest, digest_bytes
from store.ingest import parsed_row
from store.objects import File, Tree


@pytest.fixture(autouse=True)
def _noting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stock, "_missed", None)


@pytest.fixture
def stocking() -> Iterator[Stocking]:
    made = Stocking()
    yield made
    made.clear()


def tree(name: str) -> Tree:
    digest = digest_bytes(b"")
    return Tree({f"{name}-{number}": File(digest, number) for number in range(100)})


def take(stocking: Stocking, place: Path, *left: tuple[str, object]) -> None:
    place.write_bytes(marshal.dumps(list(left)))
    stocking.take(place)
    assert not place.exists()
    while stocking.is_due:
        stocking.step()


def test_what_was_missed_is_there_next_time(stocking: Stocking, tmp_path: Path) -> None:
    path = memo_path(tmp_path, "kind", "a")
    row = b'{"name":[[1,2,3,4],"%s"]}' % (b"ab" * 32)
    held = tree("a")
    stock.note()
    write_memo(path, ("value", 1))
    stock.missed(stock.ROW, row.ljust(stock.LARGE))
    stock.missed(stock.ROW, row)  # too small
    stock.missed(stock.TREE, held.encode())
    leave(tmp_path / "left")
    stocking.take(tmp_path / "left")
    while stocking.is_due:
        stocking.step()
    assert stock.known(stock.TREE, held.digest()) == held
    assert stock.known(stock.ROW, row.ljust(stock.LARGE)) == parsed_row(row)
    assert stock.known(stock.ROW, row) is None
    first = read_memo(path)
    assert first == ("value", 1)
    assert read_memo(path) is first
    write_memo(path, ("value", 2))
    assert read_memo(path) == ("value", 2)
    stocking.clear()
    assert stocking.held == 0
    assert stock.known(stock.TREE, held.digest()) is None


def test_the_kind_of_sandbox_that_was_asked_for_first_is_there_next_time(
    stocking: Stocking, tmp_path: Path
) -> None:
    kind = Kind("root", 1 << 30, 64, None)
    stock.note()
    stock.missed(stock.CELL, marshal.dumps(kind.row()))
    leave(tmp_path / "left")
    take(stocking, tmp_path / "left", *marshal.loads((tmp_path / "left").read_bytes()))
    assert stocking.cell == kind
    for damaged in (b"", marshal.dumps(()), marshal.dumps((1, 2, 3, 4)), marshal.dumps(("r", "m"))):
        take(stocking, tmp_path / "left", (stock.CELL, damaged))
        assert stocking.cell == kind
    stocking.clear()
    assert stocking.cell is None


def test_no_lie_gets_into_stock(stocking: Stocking, tmp_path: Path) -> None:
    path = Path(memo_path(tmp_path, "kind", "a"))
    write_memo(str(path), "value")
    data = bytearray(path.read_bytes())
    digest = bytes(data[:32])
    data[-1] ^= 1
    path.write_bytes(data)
    left: list[tuple[str, object]] = [
        (stock.MEMO, str(path)),
        (stock.MEMO, str(tmp_path / "nothing")),
        (stock.TREE, b"no tree"),
        (stock.TREE, "text"),
        (stock.ROW, b"no row"),
        ("other", b"kind"),
    ]
    take(stocking, tmp_path / "left", *left)
    assert stock.known(stock.MEMO, digest) is None
    assert stock.known(stock.TREE, Digest(digest_bytes(b"no tree"))) is None
    assert stock.known(stock.ROW, b"no row") == parsed_row(b"no row") == {}
    (tmp_path / "left").write_bytes(b"damaged")
    stocking.take(tmp_path / "left")
    assert not stocking.is_due


def test_the_stock_has_bounds(stocking: Stocking, tmp_path: Path) -> None:
    trees = [tree(str(number)) for number in range(MOST + 3)]
    left = [(stock.TREE, one.encode()) for one in trees]
    take(stocking, tmp_path / "left", *left, (stock.ROW, b"1" * (LARGEST + 1)))
    there = [stock.known(stock.TREE, one.digest()) is not None for one in trees]
    assert there == [False] * 3 + [True] * MOST
    assert stocking.held == sum(len(one.encode()) for one in trees[3:])


def test_a_memo_takes_the_place_of_the_one_before(stocking: Stocking, tmp_path: Path) -> None:
    path = memo_path(tmp_path, "kind", "a")
    write_memo(path, "x" * 1000)
    take(stocking, tmp_path / "left", (stock.MEMO, path))
    held = stocking.held
    write_memo(path, "y" * 1000)
    take(stocking, tmp_path / "left", (stock.MEMO, path))
    assert stocking.held == held


def test_what_was_worked_out_before_is_counted(stocking: Stocking, tmp_path: Path) -> None:
    assert stocking.early == 0
    take(stocking, tmp_path / "left", (stock.EARLY, b""))
    assert stocking.early == 1


def test_only_so_much_is_noted() -> None:
    stock.note()
    for _ in range(20):
        stock.missed(stock.TREE, bytes(1 << 20))
    assert len(stock.noted()) == stock.MOST_NOTED >> 20
